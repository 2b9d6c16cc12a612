package tagrule

import (
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Flavor is what applies to all rules.
type Flavor struct {
	Latest string // auto, true or false; empty is auto

	pos                        diag.Pos // of its last line
	prefix, suffix             template
	prefixLatest, suffixLatest bool
}

var flavorKeys = []string{"latest", "prefix", "suffix", "onlatest"}

// ParseFlavor reads the lines of a flavor: latest=auto|true|false, and prefix=
// and suffix=, each with onlatest=true if it is for "latest" too.
func ParseFlavor(text, source string) (Flavor, diag.List) {
	var f Flavor
	var problems diag.List
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f.takeLine(line, diag.Pos{File: source, Line: number}, &problems)
	}
	return f, problems
}

func (f *Flavor) takeLine(line string, pos diag.Pos, problems *diag.List) {
	fields, err := splitFields(line)
	if err != nil {
		problems.Add(pos, "", "flavor %q: %v", line, err)
		return
	}
	f.pos = pos
	last := ""
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || !slices.Contains(flavorKeys, key) {
			problems.Add(pos, diag.Suggest(key, flavorKeys), "flavor %q: unknown entry %q", line, field)
			continue
		}
		if err := f.take(key, value, last); err != "" {
			problems.Add(pos, "", "flavor %q: %s", line, err)
		}
		if key != "onlatest" {
			last = key
		}
	}
}

// take sets one entry; last is the entry before it on the line. It returns
// what is wrong.
func (f *Flavor) take(key, value, last string) string {
	switch key {
	case "latest":
		if !slices.Contains([]string{"auto", "true", "false"}, value) {
			return "latest is one of auto, true, false; found " + value
		}
		f.Latest = value
	case "onlatest":
		if value != "true" && value != "false" {
			return "onlatest is true or false; found " + value
		}
		switch last {
		case "prefix":
			f.prefixLatest = value == "true"
		case "suffix":
			f.suffixLatest = value == "true"
		default:
			return "onlatest stands behind a prefix or a suffix"
		}
	default:
		t, err := parseTemplate(value, globals)
		if err != nil {
			return err.Error()
		}
		if key == "prefix" {
			f.prefix = t
		} else {
			f.suffix = t
		}
	}
	return ""
}

// latest decides whether a rule that says so in auto mode gives latest.
func (f Flavor) latest(auto bool) bool {
	if f.Latest == "" || f.Latest == "auto" {
		return auto
	}
	return f.Latest == "true"
}

// latestName is "latest" with what goes around it.
func (f Flavor) latestName(facts Facts) string {
	name := "latest"
	if f.prefixLatest {
		name = f.prefix.expand(facts, nil) + name
	}
	if f.suffixLatest {
		name += f.suffix.expand(facts, nil)
	}
	return name
}
