package yaml

import (
	"errors"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/imgbake/imgbake-action/internal/diag"
)

var parserError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem makes a problem of what the YAML parser says. The parser gives
// no column and often a line nearby; the place is found by parsing less and
// less of the text: the last character that the error needs is the one.
func (s *source) syntaxProblem(err error) diag.Problem {
	text := err.Error()
	found := parserError.FindStringSubmatch(text)
	message := parserError.ReplaceAllString(text, "")
	pos := diag.Pos{File: s.file}
	if len(found) > 1 {
		pos.Line, _ = strconv.Atoi(found[1])
	}
	at := -1
	if len(s.text) <= maxSearch {
		at = s.find(message)
		if strings.HasPrefix(message, "unknown anchor") {
			at = max(0, strings.LastIndexByte(s.text[:at+1], '*'))
		}
		pos = s.pos(at)
	}
	p := explain(message, s.text, at)
	p.Pos = pos
	return p
}

// maxSearch is the size of a text in which an error's place is looked for, and
// searchWork bounds the bytes that a line by line search parses.
const (
	maxSearch  = 256 << 10
	searchWork = 2 << 20
)

// cutShort is the error of a text that ends in a key without a colon, which is
// how a text may look that is cut off within a line.
const cutShort = "could not find expected ':'"

// search looks for the first character with which a text fails as it does.
type search struct {
	*source
	message string
	tail    string // what goes on after a part of the text
}

// find returns the offset of the character that causes the error.
func (s *source) find(message string) int {
	f := search{source: s, message: message}
	if strings.Contains(message, "expected ',' or") {
		f.tail = "," // a list that merely ends early is not the cause
	}
	line := f.line()
	end := len(s.text)
	if line+1 < len(s.lines) {
		end = s.lines[line+1]
	}
	return f.character(s.lines[line], end)
}

// fails reports how the text up to a byte fails: in the same way, or perhaps
// only because it is cut off.
func (f search) fails(end int) (same, perhaps bool) {
	m := failure(f.text[:end] + f.tail)
	return m == f.message, m == cutShort
}

// line is the last line before which all was well.
func (f search) line() int {
	last := len(f.lines) - 1
	if len(f.text)*len(f.lines)/2 > searchWork {
		return max(0, sort.Search(last, func(i int) bool { same, _ := f.fails(f.lines[i]); return same })-1)
	}
	for last > 0 {
		if same, perhaps := f.fails(f.lines[last]); !same && !perhaps {
			break
		}
		last--
	}
	return last
}

// character is the first one of start to end that makes the text fail.
func (f search) character(start, end int) int {
	if len(f.text)*(end-start) > searchWork {
		n := sort.Search(end-start, func(i int) bool { same, _ := f.fails(start + i); return same })
		_, size := utf8.DecodeLastRuneInString(f.text[:start+n])
		return max(start, start+n-size)
	}
	at := start
	for k := end; k > start; {
		_, size := utf8.DecodeLastRuneInString(f.text[:k])
		same, perhaps := f.fails(k)
		switch {
		case same:
			at = k - size
		case !perhaps:
			return at
		}
		k -= size
	}
	return at
}

// failure is the parser's message for a text, or nothing.
func failure(text string) string {
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return ""
		}
		if err != nil {
			return parserError.ReplaceAllString(err.Error(), "")
		}
	}
}

// explain says the parser's message in plain words.
func explain(message, text string, at int) diag.Problem {
	next := byte(0)
	if at >= 0 && at < len(text) {
		next = text[at]
	}
	switch {
	case next == '\t' || strings.Contains(message, "a tab character"):
		return diag.Problem{Text: "a tab in the indentation", Hint: "indent with spaces"}
	case strings.Contains(message, "cannot start any token"):
		return diag.Problem{Text: "a value cannot start with " + strconv.QuoteRune(rune(next)), Hint: "quote the value"}
	case strings.Contains(message, "mapping values are not allowed"):
		return diag.Problem{Text: `unexpected ":"`, Hint: `quote a value that contains ": ", or check the indentation`}
	case strings.Contains(message, "block sequence entries are not allowed"):
		return diag.Problem{Text: `unexpected "-"`, Hint: "start the list on a line of its own"}
	case strings.Contains(message, "alphabetic or numeric character"):
		return diag.Problem{Text: "a value that starts with * or & is an alias or anchor, and needs a name", Hint: "quote the value if it is meant as text"}
	case strings.Contains(message, "unknown escape"):
		return diag.Problem{Text: "unknown escape in a string in double quotes", Hint: `write \\ for a backslash, or use single quotes`}
	case strings.Contains(message, "unexpected end of stream"), strings.Contains(message, "unexpected document indicator"):
		return diag.Problem{Text: "the quote that starts here is not closed"}
	case strings.Contains(message, "could not find expected ':'"):
		return diag.Problem{Text: `expected "key: value"`, Hint: "check the indentation, and that a space follows the colon"}
	case strings.Contains(message, "did not find expected key"), strings.Contains(message, "expected '-' indicator"):
		return diag.Problem{Text: "this does not fit what is above it", Hint: "check the indentation, and the quotes on the line before"}
	case strings.Contains(message, "node content"):
		return diag.Problem{Text: "expected a value", Hint: "quote the value if it starts with a bracket, a brace or a comma"}
	case strings.Contains(message, "',' or ']'"):
		return diag.Problem{Text: "expected ',' or ']' before this", Hint: "close the list, or quote a value that has brackets or quotes in it"}
	case strings.Contains(message, "',' or '}'"):
		return diag.Problem{Text: "expected ',' or '}' before this", Hint: "close the mapping, or quote a value that has braces in it"}
	case strings.Contains(message, "max depth"):
		return diag.Problem{Text: "the template is nested too deeply"}
	case strings.HasPrefix(message, "unknown anchor"):
		name, _, _ := strings.Cut(strings.TrimPrefix(message, "unknown anchor '"), "'")
		return diag.Problem{Text: "unknown anchor " + strconv.Quote(name), Hint: "quote the value if it is meant as text"}
	}
	return diag.Problem{Text: strings.TrimPrefix(strings.TrimPrefix(message, "did not find "), "found ")}
}
