package tagrule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Tag is a name, and the rules that made it.
type Tag struct {
	Name  string
	Rules []string // their lines, in order; "flavor latest" is the flavor
}

// Result is what the rules made.
type Result struct {
	Tags    []Tag  // highest priority first, then latest
	Version string // the first one, which is the image's version
	Latest  bool
}

// Names lists the tags.
func (r Result) Names() []string {
	names := make([]string, len(r.Tags))
	for i, t := range r.Tags {
		names[i] = t.Name
	}
	return names
}

// flavorLatest stands for a rule in Tag.Rules.
const flavorLatest = "flavor latest"

// maker collects names.
type maker struct {
	facts    Facts
	flavor   Flavor
	result   Result
	decided  bool // whether there is a latest
	values   map[string]string
	problems diag.List
}

// made is what one rule made of the facts.
type made struct {
	value  string
	latest bool // in auto mode
	ok     bool
	// fallback: the pattern was put aside for a pre-release, so that other
	// rules make the same name, as they should.
	fallback bool
}

// Make applies rules to facts. A rule that is not for this event makes
// nothing. Problems are warnings, but for a rule whose enable is neither true
// nor false, and a name that a registry uses itself.
func Make(f Facts, rules []Rule, flavor Flavor) (Result, diag.List) {
	m := &maker{facts: f, flavor: flavor, values: map[string]string{}}
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b Rule) int {
		switch {
		case a.priority > b.priority:
			return -1
		case a.priority < b.priority:
			return 1
		}
		return 0
	})
	for _, r := range sorted {
		if m.enabled(r) {
			m.add(r)
		}
	}
	if m.result.Latest {
		name := flavor.latestName(f)
		m.name(flavor.pos, flavorLatest, made{value: name, fallback: true})
	}
	return m.result, m.problems
}

func (m *maker) enabled(r Rule) bool {
	switch v := r.values["enable"].expand(m.facts, nil); v {
	case "true":
		return true
	case "false":
	default:
		m.problems.Add(r.Pos, "", "tag rule %q: enable is true or false, found %q", r.Text, v)
	}
	return false
}

// add makes a rule's name.
func (m *maker) add(r Rule) {
	v := makers[r.Type](m, r)
	if !v.ok {
		return
	}
	v.value = m.around(r, "prefix", m.flavor.prefix) + v.value + m.around(r, "suffix", m.flavor.suffix)
	if v.value == "" {
		return
	}
	if !m.name(r.Pos, r.Text, v) {
		return
	}
	if m.result.Version == "" {
		m.result.Version = m.result.Tags[0].Name
	}
	if !m.decided {
		m.decided, m.result.Latest = true, m.flavor.latest(v.latest)
	}
}

// around is a rule's own prefix or suffix, even if it is empty, or the flavor's.
func (m *maker) around(r Rule, key string, flavor template) string {
	if _, own := r.attrs[key]; own {
		return r.values[key].expand(m.facts, nil)
	}
	return flavor.expand(m.facts, nil)
}

// referrers is how registries without the referrers API, and cosign, name what
// belongs to an image: a tag of that form would be taken for it.
var referrers = regexp.MustCompile(`^sha256-[0-9a-f]{64}(?:\.|$)`)

// name adds a name; it reports whether there is one.
func (m *maker) name(pos diag.Pos, rule string, v made) bool {
	name := fit(v.value)
	switch {
	case name == "":
		m.problems.Warn(pos, "", "tag rule %q: nothing of %q can be part of a tag", rule, v.value)
		return false
	case referrers.MatchString(name):
		m.problems.Add(pos, "", "tag rule %q: the name %q is kept for signatures and attestations", rule, name)
		return false
	}
	for i := range m.result.Tags {
		t := &m.result.Tags[i]
		if t.Name != name {
			continue
		}
		if !v.fallback && !slices.Contains(t.Rules, rule) {
			m.collision(pos, rule, t, v.value)
		}
		t.Rules = append(t.Rules, rule)
		return true
	}
	m.values[name] = v.value
	m.result.Tags = append(m.result.Tags, Tag{Name: name, Rules: []string{rule}})
	return true
}

func (m *maker) collision(pos diag.Pos, rule string, t *Tag, value string) {
	why := "one of them can go"
	if first := m.values[t.Name]; first != value {
		why = fmt.Sprintf("%q and %q are the same once they are fit for a tag", first, value)
	}
	m.problems.Warn(pos, why, "tag rules %q and %q both make %q", t.Rules[0], rule, t.Name)
}

const maxTag = 128

var unfit = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// fit makes a tag of any text: letters, digits, dots, dashes and underscores,
// no dot or dash at the beginning, 128 characters. What is cut off is stood for
// by a hash.
func fit(value string) string {
	name := strings.TrimLeft(unfit.ReplaceAllString(value, "-"), ".-")
	if len(name) <= maxTag {
		return name
	}
	sum := sha256.Sum256([]byte(value))
	hash := "-" + hex.EncodeToString(sum[:4])
	return name[:maxTag-len(hash)] + hash
}
