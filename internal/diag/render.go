package diag

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// TextOptions say how Text shows problems. The zero value shows no source
// lines and no colour.
type TextOptions struct {
	// Source returns the content of a file named by a Pos; nil content means
	// that it cannot be shown.
	Source func(file string) []byte
	Color  bool
}

// Text writes the problems for a person: place, severity and message, the
// source line with a caret under the column, the hint, and at the end how
// many there are.
func Text(w io.Writer, l List, o TextOptions) error {
	if len(l) == 0 {
		return nil
	}
	t := textWriter{options: o, lines: map[string][]string{}}
	for _, p := range sorted(l) {
		t.problem(p)
	}
	t.b.WriteString(Count(l) + "\n")
	_, err := io.WriteString(w, t.b.String())
	return err
}

// JSON writes the problems as an array of objects with pos, severity, text
// and hint.
func JSON(w io.Writer, l List) error {
	list := sorted(l)
	if list == nil {
		list = List{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

// maxAnnotations is how many annotations of a step GitHub shows.
const maxAnnotations = 10

// Annotations writes the problems as GitHub workflow commands, errors first,
// ten at most; the last one says how many are left out.
func Annotations(w io.Writer, l List) error {
	list := sorted(l)
	slices.SortStableFunc(list, func(a, b Problem) int { return int(a.Severity) - int(b.Severity) })
	left := len(list) - maxAnnotations
	if left > 0 {
		list = list[:maxAnnotations]
	}
	var b strings.Builder
	for i, p := range list {
		text := p.Text
		if p.Hint != "" {
			text += "\n" + p.Hint
		}
		if left > 0 && i == len(list)-1 {
			text += fmt.Sprintf("\n(and %s, see the log)", plural(left, "more problem"))
		}
		fmt.Fprintf(&b, "::%s %s::%s\n", p.Severity, annotationProperties(p), escapeData.Replace(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Count says how many errors and warnings there are: "2 errors, 1 warning".
func Count(l List) string {
	errors := 0
	for _, p := range l {
		if p.Severity == Error {
			errors++
		}
	}
	var parts []string
	if errors > 0 {
		parts = append(parts, plural(errors, "error"))
	}
	if warnings := len(l) - errors; warnings > 0 {
		parts = append(parts, plural(warnings, "warning"))
	}
	return strings.Join(parts, ", ")
}

var (
	escapeData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	escapeProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func annotationProperties(p Problem) string {
	var parts []string
	add := func(key, val string) { parts = append(parts, key+"="+escapeProperty.Replace(val)) }
	if p.Pos.File != "" && p.Pos.File != "-" {
		add("file", p.Pos.File)
	}
	if p.Pos.Line > 0 {
		add("line", strconv.Itoa(p.Pos.Line))
	}
	if p.Pos.Column > 0 {
		add("col", strconv.Itoa(p.Pos.Column))
	}
	add("title", "imgbake template "+p.Severity.String())
	return strings.Join(parts, ",")
}

func sorted(l List) List {
	list := slices.Clone(l)
	list.Sort()
	return list
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// The colours of the text form, as terminal attributes.
const (
	bold   = "1"
	red    = "1;31"
	yellow = "1;33"
	blue   = "34"
	cyan   = "36"
)

type textWriter struct {
	options TextOptions
	lines   map[string][]string // of each file, split once
	b       strings.Builder
}

func (t *textWriter) paint(attributes, text string) string {
	if !t.options.Color || text == "" {
		return text
	}
	return "\x1b[" + attributes + "m" + text + "\x1b[0m"
}

func (t *textWriter) problem(p Problem) {
	tint := red
	if p.Severity == Warning {
		tint = yellow
	}
	if !p.Pos.IsZero() {
		t.b.WriteString(t.paint(bold, printable(p.Pos.String())) + ": ")
	}
	t.b.WriteString(t.paint(tint, p.Severity.String()) + ": " + indented(p.Text, "  ") + "\n")
	gutter := t.snippet(p.Pos, tint)
	if p.Hint != "" {
		t.b.WriteString(gutter + t.paint(cyan, "hint:") + " " + indented(p.Hint, gutter+"      ") + "\n")
	}
	t.b.WriteString("\n")
}

// snippet writes the source line and the caret, and returns the margin that
// lines below it should keep.
func (t *textWriter) snippet(pos Pos, tint string) (margin string) {
	source, ok := t.sourceLine(pos)
	if !ok {
		return "  "
	}
	number := strconv.Itoa(pos.Line)
	margin = strings.Repeat(" ", len(number)+3)
	line, column := window([]rune(source), pos.Column)
	t.b.WriteString(t.paint(blue, "  "+number+" | ") + printable(string(line)) + "\n")
	if pos.Column > 0 {
		t.b.WriteString(margin + t.paint(blue, "| ") + caretPad(line, column) + t.paint(tint, "^") + "\n")
	}
	return margin
}

func (t *textWriter) sourceLine(pos Pos) (string, bool) {
	if pos.Line == 0 || t.options.Source == nil {
		return "", false
	}
	lines, known := t.lines[pos.File]
	if !known {
		if content := t.options.Source(pos.File); content != nil {
			lines = strings.Split(string(content), "\n")
		}
		t.lines[pos.File] = lines
	}
	if pos.Line > len(lines) {
		return "", false
	}
	return strings.TrimSuffix(lines[pos.Line-1], "\r"), true
}

// The part of a long source line that is shown, in characters.
const (
	windowBefore = 60
	windowAfter  = 40
)

// window cuts a line that is too long to the part around the column.
func window(line []rune, column int) ([]rune, int) {
	if len(line) <= windowBefore+windowAfter {
		return line, column
	}
	at := min(max(column-1, 0), len(line))
	from, to := max(0, at-windowBefore), min(len(line), at+windowAfter)
	cut := slices.Clone(line[from:to])
	if to < len(line) {
		cut = append(cut, '…')
	}
	if from > 0 {
		cut = slices.Insert(cut, 0, '…')
		from--
	}
	return cut, column - from
}

// caretPad is white space as wide as the line before the column: tabs stay
// tabs, so that the caret stands right whatever their width.
func caretPad(line []rune, column int) string {
	var b strings.Builder
	for _, r := range line[:min(column-1, len(line))] {
		if r == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteString(strings.Repeat(" ", runeWidth(printableRune(r))))
	}
	return b.String()
}

// runeWidth does not ask the environment, so that output is the same everywhere.
func runeWidth(r rune) int { return (&runewidth.Condition{}).RuneWidth(r) }

// printable replaces what could steer a terminal: a template may come from
// somebody else.
func printable(s string) string { return strings.Map(printableRune, s) }

func printableRune(r rune) rune {
	if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
		return unicode.ReplacementChar
	}
	return r
}

func indented(text, margin string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n"+margin)
}
