package yaml

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
)

// source is a template's text, which finds places in itself. Line ends are
// "\n" and there is no byte order mark: neither changes a line or column.
type source struct {
	file  string
	text  string
	lines []int // offsets of the lines' first bytes
}

func newSource(file string, src []byte) (*source, diag.List) {
	var problems diag.List
	if len(src) > maxSize {
		problems.Add(diag.Pos{File: file}, "", "the template is too large: %d bytes, at most %d are read", len(src), maxSize)
		return nil, problems
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	s := &source{file: file, text: strings.ReplaceAll(text, "\r\n", "\n"), lines: []int{0}}
	for i := range len(s.text) {
		if s.text[i] == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s, s.checkText()
}

// checkText refuses what is no plain text, and line ends that editors and YAML
// count differently.
func (s *source) checkText() (problems diag.List) {
	for i, r := range s.text {
		pos := func() diag.Pos { return s.pos(i) }
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s.text[i:], "\ufffd"):
			problems.Add(pos(), "save it as UTF-8", "the template is not UTF-8 text")
			return problems
		case r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			problems.Add(pos(), fmt.Sprintf(`write \u%04x inside double quotes if it is meant`, r), "unusual line end %U", r)
		case r != '\n' && r != '\t' && unicode.IsControl(r):
			problems.Add(pos(), fmt.Sprintf(`write \u%04x inside double quotes if it is meant`, r), "control character %U", r)
		}
		if len(problems) > 10 {
			return problems
		}
	}
	return problems
}

// pos is the place of a byte.
func (s *source) pos(offset int) diag.Pos {
	offset = min(offset, len(s.text))
	line := sort.SearchInts(s.lines, offset+1)
	return diag.Pos{File: s.file, Line: line, Column: utf8.RuneCountInString(s.text[s.lines[line-1]:offset]) + 1}
}

// offset is the byte at a node's place; YAML counts columns in runes.
func (s *source) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(s.lines) {
		return len(s.text)
	}
	at := s.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(s.text[at:])
		at += size
	}
	return at
}

// properties are an anchor and a tag before a scalar.
var properties = regexp.MustCompile(`^(?:[&!][^\s]*\s+)+`)

// locator finds the place of a byte of a scalar's value. The value differs
// from the text by quotes, escapes, folded lines and indentation.
func (s *source) locator(n *yaml.Node) expr.Locator {
	return func(offset int) diag.Pos {
		if offset == 0 {
			return s.at(n)
		}
		start := s.offset(n)
		raw := s.text[start:]
		skipped := len(properties.FindString(raw))
		i, ok := align(raw[skipped:], n, min(offset, len(n.Value)))
		if !ok {
			return s.at(n)
		}
		return s.pos(start + skipped + i)
	}
}

// align maps an offset in a scalar's value to one in its text.
func align(raw string, n *yaml.Node, offset int) (int, bool) {
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		return alignLiteral(raw, n.Value, offset)
	case n.Style&yaml.FoldedStyle != 0:
		return alignFolded(raw, n.Value, offset)
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return alignFlow(raw, n.Value, offset, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		return alignFlow(raw, n.Value, offset, '\'')
	}
	return alignFlow(raw, n.Value, offset, 0)
}

// alignFlow walks a plain or quoted scalar and its value side by side.
func alignFlow(raw, val string, offset int, quote byte) (int, bool) {
	i, j := 0, 0
	if quote != 0 {
		i = 1
	}
	for j < offset && i < len(raw) {
		if n := foldLength(raw[i:]); n > 0 { // one line break is a space, more are one less
			j += max(1, strings.Count(raw[i:i+n], "\n")-1)
			i += n
			continue
		}
		_, size := utf8.DecodeRuneInString(raw[i:])
		_, valSize := utf8.DecodeRuneInString(val[j:])
		switch {
		case quote == '"' && raw[i] == '\\' && foldLength(raw[i+1:]) > 0:
			n := foldLength(raw[i+1:])
			j += strings.Count(raw[i:i+1+n], "\n") - 1
			size, valSize = 1+n, 0
		case quote == '"' && raw[i] == '\\':
			size = escapeLength(raw[i:])
		case quote == '\'' && raw[i] == '\'':
			size = 2
		case !strings.HasPrefix(val[j:], raw[i:i+size]):
			return 0, false
		}
		i, j = i+size, j+valSize
	}
	return min(i, len(raw)), i < len(raw)
}

// foldLength is the length of the white space around a line break, if any.
func foldLength(raw string) int {
	if !strings.HasPrefix(strings.TrimLeft(raw, " \t"), "\n") {
		return 0
	}
	return len(raw) - len(strings.TrimLeft(raw, " \t\n"))
}

func escapeLength(raw string) int {
	if len(raw) < 2 {
		return len(raw)
	}
	switch raw[1] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}

// alignLiteral finds the same line in a "|" scalar, and the same column behind
// its indentation.
func alignLiteral(raw, val string, offset int) (int, bool) {
	rawLines, valLines := strings.SplitAfter(raw, "\n"), strings.SplitAfter(val, "\n")
	wanted := strings.Count(val[:offset], "\n")
	indent := -1
	at := len(rawLines[0])
	for k, line := range valLines {
		if k+1 >= len(rawLines) {
			return 0, false
		}
		rawLine := rawLines[k+1]
		if indent < 0 && strings.TrimSpace(line) != "" {
			indent = leading(rawLine) - leading(line)
		}
		if k == wanted {
			column := max(indent, 0) + offset - (strings.LastIndexByte(val[:offset], '\n') + 1)
			return at + min(column, len(rawLine)), true
		}
		at += len(rawLine)
	}
	return 0, false
}

func leading(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// alignFolded walks a ">" scalar: white space with a line break matches white
// space, the rest matches itself.
func alignFolded(raw, val string, offset int) (int, bool) {
	header := strings.IndexByte(raw, '\n')
	if header < 0 {
		return 0, false
	}
	i, j := header, 0
	for j < offset && i < len(raw) {
		if n := foldLength(raw[i:]); n > 0 {
			i += n
			j += len(val[j:]) - len(strings.TrimLeft(val[j:], " \t\n"))
			continue
		}
		if raw[i] != val[j] {
			return 0, false
		}
		i, j = i+1, j+1
	}
	return min(i, len(raw)), i < len(raw)
}
