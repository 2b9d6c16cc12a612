package actions

import (
	"fmt"
	"strings"
)

// Inputs are what the workflow's `with:` says, as the runner hands it over.
type Inputs struct{ getenv func(string) string }

// NewInputs reads inputs out of an environment.
func NewInputs(getenv func(string) string) Inputs { return Inputs{getenv} }

// InputVariable is the environment variable of an input: its name in upper
// case with spaces as underscores. Hyphens stay.
func InputVariable(name string) string {
	return "INPUT_" + strings.ToUpper(strings.ReplaceAll(name, " ", "_"))
}

// Raw is the input as it was given. An input that is not set is empty.
func (in Inputs) Raw(name string) string { return in.getenv(InputVariable(name)) }

// Text is the input without the white space around it.
func (in Inputs) Text(name string) string { return strings.TrimSpace(in.Raw(name)) }

// truths are the booleans of YAML 1.2's core schema, which is what the
// runner's own toolkit takes.
var truths = map[string]bool{
	"true": true, "True": true, "TRUE": true,
	"false": false, "False": false, "FALSE": false,
}

// Bool is a yes or no; an empty input is the fallback.
func (in Inputs) Bool(name string, fallback bool) (bool, error) {
	text := in.Text(name)
	if text == "" {
		return fallback, nil
	}
	value, ok := truths[text]
	if !ok {
		return false, fmt.Errorf("input %s: %q is neither true nor false", name, text)
	}
	return value, nil
}

// List is the items of an input between commas and ends of lines. An item in
// double quotes may hold commas; lines that begin with # are left out.
func (in Inputs) List(name string) []string {
	var items []string
	for _, line := range in.Lines(name) {
		for _, item := range splitCommas(line) {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// Lines is the lines of an input, without empty ones and those that begin with #.
func (in Inputs) Lines(name string) []string {
	var lines []string
	for line := range strings.Lines(in.Raw(name)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// splitCommas splits at commas outside of double quotes. Quotes count at the
// beginning of an item only; inside them, two quotes are one.
func splitCommas(line string) []string {
	var items []string
	for {
		line = strings.TrimLeft(line, " \t")
		if strings.HasPrefix(line, `"`) {
			if item, rest, ok := unquote(line); ok && (rest == "" || rest[0] == ',') {
				items = append(items, item)
				if rest == "" {
					return items
				}
				line = rest[1:]
				continue
			}
		}
		item, rest, more := strings.Cut(line, ",")
		items = append(items, item)
		if !more {
			return items
		}
		line = rest
	}
}

// unquote reads text up to its closing quote, and returns what follows, less
// blanks. It reports whether there is a closing quote.
func unquote(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for s = s[1:]; ; {
		end := strings.IndexByte(s, '"')
		if end < 0 {
			return "", "", false
		}
		b.WriteString(s[:end])
		s = s[end+1:]
		if !strings.HasPrefix(s, `"`) {
			return b.String(), strings.TrimLeft(s, " \t\r"), true
		}
		b.WriteByte('"')
		s = s[1:]
	}
}
