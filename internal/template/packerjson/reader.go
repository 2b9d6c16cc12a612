package packerjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// maxProblems ends the reading of a file that is something else than JSON.
const maxProblems = 100

// reader turns JSON into a tree in which every value knows its place. It goes
// on after mistakes whose meaning is clear (a comma too many or too few, a
// comment, a key without quotes), so that all of them are reported at once.
type reader struct {
	file     string
	src      string
	off      int
	maxDepth int
	problems diag.List

	mark   int // an offset, and its line and column
	line   int
	column int
}

// read returns the tree. Strings in it are of type text. ok is false when the
// reading ended early, so that what is missing in the tree means nothing.
func read(file string, src []byte, opts Options) (root value.Node, problems diag.List, ok bool) {
	r := &reader{file: file, src: string(src), maxDepth: opts.maxDepth(), line: 1, column: 1}
	ok = r.legible(opts.maxBytes()) && r.document(&root)
	return root, r.problems, ok
}

// legible checks the file as a whole.
func (r *reader) legible(maxBytes int) bool {
	whole := diag.Pos{File: r.file}
	if len(r.src) > maxBytes {
		return r.fail(whole, "", "the file has %d bytes, more than %d", len(r.src), maxBytes)
	}
	if strings.HasPrefix(r.src, "\xff\xfe") || strings.HasPrefix(r.src, "\xfe\xff") {
		return r.fail(r.pos(0), "save the file as UTF-8", "the file is in UTF-16")
	}
	if i := invalidUTF8(r.src); i >= 0 {
		return r.fail(r.pos(i), "save the file as UTF-8", "the byte 0x%02x is not UTF-8", r.src[i])
	}
	if strings.HasPrefix(r.src, "\uFEFF") {
		r.problem(r.pos(0), "save the file as UTF-8 without BOM", "the file starts with a byte order mark")
		r.off, r.mark = 3, 3 // editors do not count it
	}
	return true
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i := 0; ; {
		c, width := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && width <= 1 {
			return i
		}
		i += width
	}
}

func (r *reader) document(root *value.Node) bool {
	r.skip()
	if r.end() {
		return r.fail(diag.Pos{File: r.file}, "", "the file is empty")
	}
	if r.peek() != '{' {
		return r.fail(r.here(), `a template is a JSON object: {"builders": [...]}`, "expected an object, found %s", r.found())
	}
	if !r.value(root, 0) {
		return false
	}
	r.skip()
	if !r.end() {
		r.problem(r.here(), "a template is one JSON object", "%s after the end of the template", r.found())
	}
	return true
}

func (r *reader) value(into *value.Node, depth int) bool {
	r.skip()
	into.Pos = r.here()
	switch c := r.peek(); {
	case depth >= r.maxDepth && (c == '{' || c == '['):
		return r.fail(into.Pos, "", "nested deeper than %d levels", r.maxDepth)
	case r.end():
		return r.fail(into.Pos, "", "expected a value, found %s", r.found())
	case c == '{':
		return r.object(into, depth+1)
	case c == '[':
		return r.list(into, depth+1)
	case c == '"' || c == '\'':
		t, ok := r.quoted()
		into.V = t
		return ok
	case c == '-' || c == '+' || c == '.' || '0' <= c && c <= '9':
		into.V = r.number(into.Pos)
		return true
	case isWord(c):
		into.V = r.constant(into.Pos)
		return true
	}
	return r.fail(into.Pos, "", "expected a value, found %s", r.found())
}

func (r *reader) object(into *value.Node, depth int) bool {
	object := value.Object{}
	places := map[string]diag.Pos{}
	ok := r.items('}', func() bool {
		m := value.Member{KeyPos: r.here()}
		var good bool
		if m.Key, good = r.key(); !good || !r.colon(m.Key) || !r.value(&m.Node, depth) {
			return false
		}
		if first, twice := places[m.Key]; twice {
			r.problem(m.KeyPos, "the first one is at "+first.String(), "%q is given twice", m.Key)
			return true
		}
		places[m.Key] = m.KeyPos
		object = append(object, m)
		return true
	})
	into.V = object
	return ok
}

func (r *reader) list(into *value.Node, depth int) bool {
	list := value.List{}
	ok := r.items(']', func() bool {
		var item value.Node
		if !r.value(&item, depth) {
			return false
		}
		list = append(list, item)
		return true
	})
	into.V = list
	return ok
}

// items reads what stands between two brackets; item reads one of them.
func (r *reader) items(closer byte, item func() bool) bool {
	open, opener := r.here(), r.src[r.off]
	r.off++
	var comma diag.Pos // of the one just read
	for first := true; ; first = false {
		r.skip()
		switch c := r.peek(); {
		case len(r.problems) >= maxProblems:
			return r.fail(r.here(), "", "too many problems: the rest of the file was not read")
		case r.end():
			return r.fail(open, fmt.Sprintf("add a %q", closer), "%q is not closed", opener)
		case c == closer:
			if !comma.IsZero() {
				r.problem(comma, "remove it: JSON has no comma after the last item", "trailing comma")
			}
			r.off++
			return true
		case c == '}' || c == ']':
			return r.fail(r.here(), fmt.Sprintf("%q opened at %s", opener, open), "expected %q, found %q", closer, c)
		case c == ',':
			comma = r.here()
			r.problem(comma, "remove it", "a comma too many")
			r.off++
			continue
		}
		if !first && comma.IsZero() {
			r.problem(r.here(), "JSON has a comma between two items", "missing comma before %s", r.found())
		}
		if !item() {
			return false
		}
		r.skip()
		comma = diag.Pos{}
		if r.peek() == ',' {
			comma = r.here()
			r.off++
		}
	}
}

func (r *reader) key() (string, bool) {
	start := r.here()
	switch c := r.peek(); {
	case c == '"' || c == '\'':
		t, ok := r.quoted()
		return t.s, ok
	case isWord(c):
		word := r.word()
		r.problem(start, fmt.Sprintf("write %q", strings.Trim(word, "“”‘’")), "the key %s has no quotes", word)
		return word, true
	}
	return "", r.fail(start, "", "expected a key in quotes, found %s", r.found())
}

func (r *reader) colon(key string) bool {
	r.skip()
	c := r.peek()
	if c == ':' {
		r.off++
		return true
	}
	if c != '=' {
		return r.fail(r.here(), "", "expected a colon after the key %q, found %s", key, r.found())
	}
	r.problem(r.here(), `write ":"`, "expected a colon after the key %q, found '='", key)
	r.off++
	return true
}

// skip passes white space, and comments with a problem.
func (r *reader) skip() {
	for !r.end() {
		rest := r.src[r.off:]
		switch c := rest[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			r.off++
		case c == '#' || strings.HasPrefix(rest, "//"):
			r.comment(strings.IndexByte(rest, '\n'))
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest, "*/")
			if end >= 0 {
				end += 2
			}
			r.comment(end)
		default:
			return
		}
	}
}

func (r *reader) comment(width int) {
	r.problem(r.here(), `a root key that starts with "_" is a comment: "_comment": "..."`, "JSON has no comments")
	if width < 0 || len(r.problems) >= maxProblems {
		width = len(r.src) - r.off
	}
	r.off += width
}

func (r *reader) number(pos diag.Pos) any {
	word := r.word()
	if json.Valid([]byte(word)) {
		return value.Number(word)
	}
	r.problem(pos, "write a decimal number, or put the text in quotes", "%s is no number", word)
	return text{s: word}
}

func (r *reader) constant(pos diag.Pos) any {
	switch word := r.word(); word {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	default:
		hint := "put text in quotes"
		if lower := strings.ToLower(word); lower == "true" || lower == "false" || lower == "null" {
			hint = fmt.Sprintf("write %s", lower)
		} else if lower == "none" || lower == "undefined" {
			hint = "write null"
		}
		r.problem(pos, hint, "%s is no value", word)
		return text{s: word}
	}
}

// word reads letters, digits and the like.
func (r *reader) word() string {
	start := r.off
	for r.off < len(r.src) && isWord(r.src[r.off]) {
		r.off++
	}
	return r.src[start:r.off]
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_+-.$", c) >= 0 || c >= 0x80
}

func (r *reader) end() bool { return r.off >= len(r.src) }

// peek is the next byte, 0 at the end.
func (r *reader) peek() byte {
	if r.end() {
		return 0
	}
	return r.src[r.off]
}

// found names what comes next, for a message.
func (r *reader) found() string {
	if r.end() {
		return "the end of the file"
	}
	c, _ := utf8.DecodeRuneInString(r.src[r.off:])
	return fmt.Sprintf("%q", c)
}

// fail reports what nothing sensible can follow.
func (r *reader) fail(pos diag.Pos, hint, format string, args ...any) bool {
	r.problems.Add(pos, hint, format, args...)
	return false
}

// problem reports what the reading goes on after.
func (r *reader) problem(pos diag.Pos, hint, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems.Add(pos, hint, format, args...)
	}
}

func (r *reader) here() diag.Pos { return r.pos(r.off) }

// pos is the place of an offset. Offsets mostly grow, so it counts on from the
// last one: a file in one line costs no more than others.
func (r *reader) pos(off int) diag.Pos {
	if off < r.mark {
		r.mark, r.line, r.column = 0, 1, 1
		if strings.HasPrefix(r.src, "\uFEFF") && off > 0 {
			r.mark = 3
		}
	}
	passed := r.src[r.mark:off]
	if newline := strings.LastIndexByte(passed, '\n'); newline >= 0 {
		r.line += strings.Count(passed, "\n")
		r.column, passed = 1, passed[newline+1:]
	}
	r.column += utf8.RuneCountInString(passed)
	r.mark = off
	return diag.Pos{File: r.file, Line: r.line, Column: r.column}
}
