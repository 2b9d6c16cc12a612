package github

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// MaxComment is the length of the longest comment, in bytes. GitHub counts
	// characters, which are never more.
	MaxComment = 65536
	// maxState is the share of a comment for its sections as data.
	maxState    = 40_000
	maxSections = 256 // a matrix has no more jobs
	maxUnpacked = 4 << 20
	maxLeg      = 256
)

// Section is one job's part of a comment, as data.
type Section struct {
	Leg     string          `json:"leg"`     // which job of the matrix
	Run     int64           `json:"run"`     // GITHUB_RUN_ID; a later run has a higher one
	Attempt int             `json:"attempt"` // GITHUB_RUN_ATTEMPT
	Data    json.RawMessage `json:"data"`
}

// before reports whether s is from an earlier run.
func (s Section) before(o Section) bool {
	return cmp.Or(cmp.Compare(s.Run, o.Run), cmp.Compare(s.Attempt, o.Attempt)) < 0
}

// normal gives a section the form it has when it was written and read again.
func normal(s Section) (Section, error) {
	if s.Leg == "" || len(s.Leg) > maxLeg {
		return s, fmt.Errorf("name of %d bytes: want 1 to %d", len(s.Leg), maxLeg)
	}
	data, err := json.Marshal(s.Data)
	if err != nil {
		return s, err
	}
	s.Data = data
	if tooMuch([]Section{s}) {
		return s, fmt.Errorf("%d bytes do not fit into a comment", len(s.Data))
	}
	return s, nil
}

// merge joins two lists of sections. Of two with the same name the later run
// counts, and within a run the second. What has no room is dropped, oldest
// first, in an order that is the same for everybody.
func merge(a, b []Section) []Section {
	byLeg := map[string]Section{}
	for _, s := range slices.Concat(a, b) {
		if old, ok := byLeg[s.Leg]; !ok || !s.before(old) {
			byLeg[s.Leg] = s
		}
	}
	var out []Section
	for _, s := range byLeg {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Section) int {
		return cmp.Or(cmp.Compare(b.Run, a.Run), cmp.Compare(b.Attempt, a.Attempt), strings.Compare(a.Leg, b.Leg))
	})
	for len(out) > maxSections || len(out) > 1 && tooMuch(out) {
		out = out[:len(out)-1]
	}
	slices.SortFunc(out, func(a, b Section) int { return strings.Compare(a.Leg, b.Leg) })
	return out
}

// tooMuch reports whether sections have no room in a comment.
func tooMuch(sections []Section) bool {
	size := 0
	for _, s := range sections {
		size += len(s.Leg) + len(s.Data) + 100
	}
	return size > maxState/2 && len(pack(sections)) > maxState // what is small is not packed to find out
}

// A comment begins with an HTML comment, which nobody sees: a fixed word, the
// key, and the sections. Base64 has no hyphen, so nothing in it ends that.
const (
	headerStart = "<!-- imgbake:comment "
	headerEnd   = " -->\n"
)

func headerFor(key string) string {
	return headerStart + base64.StdEncoding.EncodeToString([]byte(key)) + " "
}

func header(key string, sections []Section) string {
	return headerFor(key) + pack(sections) + headerEnd
}

func hasKey(body, key string) bool { return strings.HasPrefix(body, headerFor(key)) }

// sectionsOf reads the sections of a comment. It is bounded and believes
// nothing: other workflows post as the same account.
func sectionsOf(body, key string) ([]Section, bool) {
	rest, ok := strings.CutPrefix(body, headerFor(key))
	packed, _, end := strings.Cut(rest, strings.TrimSuffix(headerEnd, "\n"))
	if !ok || !end || len(packed) > MaxComment {
		return nil, false
	}
	sections, err := unpack(packed)
	return sections, err == nil
}

func pack(sections []Section) string {
	data, err := json.Marshal(sections)
	if err != nil { // a RawMessage is checked before
		return ""
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = w.Write(data) // to memory
	w.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func unpack(s string) ([]Section, error) {
	packed, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxUnpacked))
	if err != nil {
		return nil, err
	}
	var sections []Section
	if err := json.Unmarshal(data, &sections); err != nil {
		return nil, err
	}
	for i, s := range sections {
		if s.Leg == "" || len(s.Leg) > maxLeg || i > 0 && sections[i-1].Leg >= s.Leg || i >= maxSections || len(s.Data) == 0 {
			return nil, fmt.Errorf("section %d: not one of ours", i)
		}
		if sections[i].Data, err = json.Marshal(s.Data); err != nil { // one spelling, ours
			return nil, err
		}
	}
	return sections, nil
}

func oldestFirst(comments []Comment) {
	slices.SortFunc(comments, func(a, b Comment) int { return cmp.Compare(a.ID, b.ID) })
}
