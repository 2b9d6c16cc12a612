package tagrule

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // the action's image has no time zones

	"github.com/imgbake/imgbake-action/internal/diag"
)

// template is text with expressions in double braces.
type template []node

// node is text, or a word with what follows it.
type node struct {
	text   string
	word   string
	format string
	quoted bool // the format was given as a string
	zone   string
}

var (
	wordShape = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	nextPart  = regexp.MustCompile(`^(?:([A-Za-z_]+)=)?(?:'([^']*)'|"([^"]*)"|([^\s'"=]+))\s*`)
)

// globals are the words every expression knows.
var globals = []string{"branch", "tag", "sha", "base_ref", "is_default_branch", "is_not_default_branch", "date", "commit_date"}

// parseTemplate splits text into nodes and checks their words.
func parseTemplate(s string, words []string) (template, error) {
	var t template
	for {
		before, rest, found := strings.Cut(s, "{{")
		if found && strings.HasSuffix(before, `\`) {
			t = append(t, node{text: strings.TrimSuffix(before, `\`) + "{{"})
			s = rest
			continue
		}
		if before != "" {
			t = append(t, node{text: before})
		}
		if !found {
			return t, nil
		}
		closing := "}}"
		if strings.HasPrefix(rest, "{") {
			rest, closing = rest[1:], "}}}"
		}
		inside, following, ok := strings.Cut(rest, closing)
		if !ok {
			return nil, fmt.Errorf("{{%s has no closing %s", rest, closing)
		}
		s = following
		if strings.HasPrefix(inside, "!") {
			continue // a comment
		}
		n, err := parseWord(strings.TrimSpace(strings.TrimPrefix(inside, "&")), words)
		if err != nil {
			return nil, err
		}
		t = append(t, n)
	}
}

// parseWord reads what is between the braces.
func parseWord(s string, words []string) (node, error) {
	n := node{word: wordShape.FindString(s)}
	rest := strings.TrimPrefix(s, n.word)
	if n.word == "" || rest != "" && rest == strings.TrimLeft(rest, " \t") {
		return n, fmt.Errorf("{{%s}} is not a word such as {{branch}} or {{date 'YYYYMMDD'}}", s)
	}
	if !contains(words, n.word) {
		return n, fmt.Errorf("unknown expression {{%s}}: %s", n.word, diag.Suggest(n.word, words))
	}
	for rest = strings.TrimSpace(rest); rest != ""; {
		m := nextPart.FindStringSubmatch(rest)
		if m == nil {
			return n, fmt.Errorf("cannot read %q in {{%s}}", rest, s)
		}
		rest = rest[len(m[0]):]
		if err := n.take(m); err != nil {
			return n, fmt.Errorf("%w in {{%s}}", err, s)
		}
	}
	if n.zone != "" {
		if _, err := zone(n.zone); err != nil {
			return n, err
		}
	}
	return n, nil
}

// take adds a format, or a name with a value.
func (n *node) take(m []string) error {
	key, value := m[1], m[2]+m[3]+m[4]
	switch {
	case n.word != "date" && n.word != "commit_date":
		return fmt.Errorf("%s takes nothing, found %q", n.word, strings.TrimSpace(m[0]))
	case key == "tz":
		n.zone = value
	case key != "":
		return fmt.Errorf("unknown attribute %q: %s", key, diag.Suggest(key, []string{"tz"}))
	case n.format != "" || n.quoted:
		return fmt.Errorf("second format %q", value)
	default:
		n.format, n.quoted = value, m[4] == ""
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

// only reports whether the template is one word and nothing else.
func (t template) only(word string) bool { return len(t) == 1 && t[0].word == word }

// expand renders the template; own are words beside the global ones.
func (t template) expand(f Facts, own map[string]string) string {
	var b strings.Builder
	for _, n := range t {
		if n.word == "" {
			b.WriteString(n.text)
		} else if v, ok := own[n.word]; ok {
			b.WriteString(v)
		} else {
			b.WriteString(n.global(f))
		}
	}
	return b.String()
}

func (n node) global(f Facts) string {
	switch n.word {
	case "branch":
		return f.branch()
	case "tag":
		return f.tag()
	case "sha":
		return f.shortSHA()
	case "base_ref":
		return f.baseRef()
	case "is_default_branch":
		return fmt.Sprint(f.onDefaultBranch())
	case "is_not_default_branch":
		return fmt.Sprint(!f.onDefaultBranch())
	case "date":
		return n.date(f.Now)
	case "commit_date":
		return n.date(f.commitDate())
	}
	return ""
}

// date renders a time. A format that is no string counts as none, as it does
// for metadata-action, and none is ISO 8601.
func (n node) date(t time.Time) string {
	where, err := zone(n.zone)
	if err != nil {
		where = time.UTC // was checked when it was read
	}
	format := n.format
	if !n.quoted || format == "" {
		format = "YYYY-MM-DDTHH:mm:ssZ"
		if where == time.UTC {
			format = "YYYY-MM-DDTHH:mm:ss[Z]"
		}
	}
	return formatTime(t.In(where), format)
}

// zone is a time zone of the database. The machine's own is refused: it would
// make the same rule give two names.
func zone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	where, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, errors.New("unknown time zone " + name + ": write one such as Asia/Tokyo")
	}
	return where, nil
}
