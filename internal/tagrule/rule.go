package tagrule

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Rule is one line of rules, checked.
type Rule struct {
	Pos  diag.Pos
	Type string
	Text string // the line

	attrs    map[string]string
	priority float64
	values   map[string]template // of the attributes that may hold expressions
	match    *pattern
	group    int
}

// ruleType says what lines of a type may have.
type ruleType struct {
	priority float64
	attrs    []string          // beside enable, priority, prefix and suffix
	defaults map[string]string // of attributes that are not there
	required string
	words    []string // in its pattern, beside the global ones
}

// versionWords are the expressions that know a version.
var versionWords = []string{"raw", "version", "major", "minor", "patch"}

var ruleTypes = map[string]ruleType{
	"schedule": {1000, []string{"pattern"}, map[string]string{"pattern": "nightly"}, "", nil},
	"semver":   {900, []string{"pattern", "value", "match"}, nil, "pattern", append(versionWords[:5:5], "prerelease", "build")},
	"pep440":   {900, []string{"pattern", "value", "match"}, nil, "pattern", versionWords},
	"match":    {800, []string{"pattern", "group", "value"}, map[string]string{"group": "0"}, "pattern", nil},
	"edge":     {700, []string{"branch"}, nil, "", nil},
	"ref":      {600, []string{"event"}, nil, "event", nil},
	"raw":      {200, []string{"value"}, nil, "value", nil},
	"sha":      {100, []string{"format"}, map[string]string{"prefix": "sha-", "format": "short"}, "", nil},
}

var (
	typeNames   = []string{"schedule", "semver", "pep440", "match", "edge", "ref", "raw", "sha"}
	commonAttrs = []string{"enable", "priority", "prefix", "suffix"}
	// choices are the attributes that take one of a few words.
	choices = map[string][]string{"event": {"branch", "tag", "pr"}, "format": {"short", "long"}}
)

// Parse reads rules, one a line; empty lines and lines that begin with # are
// left out. The source, such as "input tags", is the file that problems name.
// Rules with problems are left out too.
func Parse(text, source string) ([]Rule, diag.List) {
	var rules []Rule
	var problems diag.List
	number := 0
	for line := range strings.Lines(text) {
		number++
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		r, list := parseRule(trimmed, diag.Pos{File: source, Line: number})
		problems.Append(list)
		if !list.HasErrors() {
			rules = append(rules, r)
		}
	}
	return rules, problems
}

func parseRule(line string, pos diag.Pos) (Rule, diag.List) {
	var problems diag.List
	r := Rule{Pos: pos, Type: "raw", Text: line, attrs: map[string]string{}, values: map[string]template{}}
	fields, err := splitFields(line)
	if err != nil {
		problems.Add(pos, "", "tag rule %q: %v", line, err)
		return r, problems
	}
	for _, field := range fields {
		r.take(field)
	}
	if _, ok := ruleTypes[r.Type]; !ok {
		problems.Add(pos, diag.Suggest(r.Type, typeNames), "tag rule %q: unknown type %q", line, r.Type)
		return r, problems
	}
	r.complete(&problems)
	if !problems.HasErrors() {
		r.compile(&problems)
	}
	return r, problems
}

// take adds a field: name=value, or a value alone.
func (r *Rule) take(field string) {
	field = strings.TrimSpace(field)
	key, value, named := strings.Cut(field, "=")
	switch {
	case !named || key == "":
		r.attrs["value"] = field
	case strings.EqualFold(strings.TrimSpace(key), "type"):
		r.Type = strings.TrimSpace(value)
	default:
		r.attrs[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
}

// complete fills in defaults and checks which attributes there are.
func (r *Rule) complete(problems *diag.List) {
	t := ruleTypes[r.Type]
	known := slices.Concat(t.attrs, commonAttrs)
	for _, key := range sortedKeys(r.attrs) {
		if !slices.Contains(known, key) {
			problems.Warn(r.Pos, diag.Suggest(key, known), "tag rule %q: type=%s has no %s", r.Text, r.Type, key)
		}
	}
	if _, ok := r.attrs[t.required]; !ok && t.required != "" {
		problems.Add(r.Pos, fmt.Sprintf("write type=%s,%s=…", r.Type, t.required), "tag rule %q: %s is missing", r.Text, t.required)
	}
	r.fallback(t.defaults)
	r.fallback(map[string]string{"enable": "true"})
	if r.attrs["event"] == "pr" {
		r.fallback(map[string]string{"prefix": "pr-"})
	}
	for _, key := range []string{"event", "format"} {
		if v, ok := r.attrs[key]; ok && slices.Contains(t.attrs, key) && !slices.Contains(choices[key], v) {
			problems.Add(r.Pos, "one of "+strings.Join(choices[key], ", "), "tag rule %q: invalid %s %q", r.Text, key, v)
		}
	}
	r.priority = t.priority
	if text, ok := r.attrs["priority"]; ok {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			problems.Add(r.Pos, "write a number such as 900", "tag rule %q: invalid priority %q", r.Text, text)
		}
		r.priority = n
	}
}

func (r *Rule) fallback(values map[string]string) {
	for key, value := range values {
		if _, ok := r.attrs[key]; !ok {
			r.attrs[key] = value
		}
	}
}

// compile reads expressions and regular expressions, so that their mistakes
// are found also when the rule is not for this event.
func (r *Rule) compile(problems *diag.List) {
	t := ruleTypes[r.Type]
	add := func(key string, words []string) {
		text, ok := r.attrs[key]
		if !ok {
			return
		}
		parsed, err := parseTemplate(text, words)
		if err != nil {
			problems.Add(r.Pos, "", "tag rule %q: %s: %v", r.Text, key, err)
		}
		for _, n := range parsed {
			if n.format != "" && !n.quoted {
				problems.Warn(r.Pos, fmt.Sprintf("write {{%s '%s'}}", n.word, n.format),
					"tag rule %q: the format %s is not in quotes, and the date is written as ISO 8601", r.Text, n.format)
			}
		}
		r.values[key] = parsed
	}
	for _, key := range []string{"enable", "prefix", "suffix", "value"} {
		add(key, globals)
	}
	if r.Type != "match" {
		add("pattern", slices.Concat(t.words, globals))
	}
	r.compileMatch(problems)
}

func (r *Rule) compileMatch(problems *diag.List) {
	key := "match"
	if r.Type == "match" {
		key = "pattern"
		n, err := strconv.Atoi(r.attrs["group"])
		if err != nil || n < 0 {
			problems.Add(r.Pos, "write a number from 0", "tag rule %q: invalid group %q", r.Text, r.attrs["group"])
		}
		r.group = n
	} else {
		r.group = 1
	}
	text := r.attrs[key]
	if text == "" || !slices.Contains(ruleTypes[r.Type].attrs, key) || r.Type == "schedule" {
		return
	}
	p, err := compilePattern(text, r.Type == "match")
	if err != nil {
		problems.Add(r.Pos, "", "tag rule %q: %v", r.Text, err)
		return
	}
	if r.Type != "match" && p.re.NumSubexp() == 0 {
		problems.Add(r.Pos, "put the part that is the version in parentheses", "tag rule %q: match %q has no group", r.Text, text)
	}
	r.match = p
}

// pattern is a regular expression; with the flag g, its groups are the matches
// one after another, as they are for JavaScript.
type pattern struct {
	re     *regexp.Regexp
	global bool
}

// slashed is a regular expression with flags, as JavaScript writes it.
var slashed = regexp.MustCompile(`^/(.+)/([a-z]*)$`)

func compilePattern(text string, flags bool) (*pattern, error) {
	source, p := text, &pattern{}
	if m := slashed.FindStringSubmatch(text); flags && m != nil {
		source = m[1]
		for _, flag := range m[2] {
			switch flag {
			case 'g':
				p.global = true
			case 'i', 'm', 's':
				source = "(?" + string(flag) + ")" + source
			case 'u', 'v', 'd':
			default:
				return nil, fmt.Errorf("%q has the unknown flag %c: write some of g, i, m, s", text, flag)
			}
		}
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("%q is no regular expression, or needs lookaround or backreferences, which are not supported: %w", text, err)
	}
	p.re = re
	return p, nil
}

// find is what a group matched. The first result is whether the pattern
// matched, the second whether it has such a group.
func (p *pattern) find(s string, group int) (text string, matched, is bool) {
	if p.global {
		all := p.re.FindAllString(s, -1)
		if group >= len(all) {
			return "", all != nil, false
		}
		return all[group], true, true
	}
	m := p.re.FindStringSubmatchIndex(s)
	if m == nil {
		return "", false, false
	}
	if 2*group >= len(m) || m[2*group] < 0 {
		return "", true, false
	}
	return s[m[2*group]:m[2*group+1]], true, true
}

// splitFields splits a line at commas. A field may be in double quotes, in
// which two quotes are one.
func splitFields(line string) ([]string, error) {
	var fields []string
	for rest := line; ; {
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, `"`) {
			field, more, found := strings.Cut(rest, ",")
			fields = append(fields, field)
			if !found {
				return fields, nil
			}
			rest = more
			continue
		}
		field, more, err := quotedField(rest)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		if more == "" {
			return fields, nil
		}
		rest = more[1:]
	}
}

// quotedField reads a field in quotes; what follows it is nothing or a comma.
func quotedField(s string) (field, rest string, err error) {
	var b strings.Builder
	for rest = s[1:]; ; {
		before, after, found := strings.Cut(rest, `"`)
		if !found {
			return "", "", fmt.Errorf("%s has no closing quote", s)
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			rest = strings.TrimLeft(after, " \t")
			break
		}
		b.WriteByte('"')
		rest = after[1:]
	}
	if rest != "" && rest[0] != ',' {
		return "", "", fmt.Errorf("%q follows a closing quote: put quotes around the whole field, or double those inside", rest)
	}
	return b.String(), rest, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
