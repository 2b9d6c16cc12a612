package packerjson

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// text is a JSON string in a tree whose templates are not read yet. raw is
// what stands between the quotes, kept only where it differs from s.
type text struct{ s, raw string }

// at is the place of a byte of s in the file; open is that of the quote.
func (t text) at(open diag.Pos, offset int) diag.Pos {
	before := t.s[:min(offset, len(t.s))]
	if t.raw != "" {
		before = t.raw[:t.rawOffset(offset)]
	}
	open.Column += 1 + utf8.RuneCountInString(before)
	return open
}

func (t text) rawOffset(offset int) int {
	i := 0
	for done := 0; done < offset && i < len(t.raw); {
		if t.raw[i] != '\\' {
			i, done = i+1, done+1
			continue
		}
		out, width, _ := unescape(t.raw[i:])
		i, done = i+width, done+len(out)
	}
	return i
}

// quoted reads a string. One in single quotes is read with a problem.
func (r *reader) quoted() (text, bool) {
	start, quote := r.off, r.src[r.off]
	special := false
	end := start + 1
	for ; end < len(r.src) && r.src[end] != quote && r.src[end] != '\n'; end++ {
		c := r.src[end]
		special = special || c == '\\' || c < ' '
		if c == '\\' && end+1 < len(r.src) && r.src[end+1] != '\n' {
			end++
		}
	}
	if end >= len(r.src) || r.src[end] == '\n' {
		return text{}, r.fail(r.pos(start), `close it on the same line; \n in a string is a line break`, "the string has no closing quote")
	}
	if quote == '\'' {
		r.problem(r.pos(start), `write "..."`, "a string in single quotes")
	}
	raw := r.src[start+1 : end]
	r.off = end + 1
	if !special {
		return text{s: raw}, true
	}
	return text{s: r.unescapeAll(raw, start+1), raw: raw}, true
}

// unescapeAll decodes what stands between quotes, reporting each mistake.
func (r *reader) unescapeAll(raw string, offset int) string {
	var out strings.Builder
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '\\':
			decoded, width, problem := unescape(raw[i:])
			if problem != "" {
				hint := `a backslash itself is written \\`
				if width > 1 {
					hint = "write the character itself"
				}
				r.problem(r.pos(offset+i), hint, "%s", problem)
			}
			out.WriteString(decoded)
			i += width
			continue
		case c < ' ':
			shown := strings.Trim(strconv.Quote(string(c)), `"`)
			r.problem(r.pos(offset+i), "write "+shown, "a control character in a string")
		}
		out.WriteByte(raw[i])
		i++
	}
	return out.String()
}

var escapes = map[byte]string{
	'"': `"`, '\\': `\`, '/': "/", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t",
}

// unescape decodes the escape sequence at the start of s, width bytes long.
// A wrong one stands for itself.
func unescape(s string) (decoded string, width int, problem string) {
	if len(s) < 2 {
		return s, len(s), "a lone backslash"
	}
	if decoded, ok := escapes[s[1]]; ok {
		return decoded, 2, ""
	}
	if s[1] != 'u' {
		c, _ := utf8.DecodeRuneInString(s[1:])
		return `\`, 1, `\` + string(c) + " is no escape sequence"
	}
	c, ok := hex4(s)
	if !ok {
		return `\`, 1, `\u takes four hexadecimal digits`
	}
	if !utf16.IsSurrogate(c) {
		return string(c), 6, ""
	}
	if low, ok := hex4(s[6:]); ok {
		if pair := utf16.DecodeRune(c, low); pair != utf8.RuneError {
			return string(pair), 12, ""
		}
	}
	return "\uFFFD", 6, s[:6] + " is half of a surrogate pair"
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}

// plain makes the strings of a tree literals, templates or not.
func plain(n value.Node) value.Node {
	return mapTexts(n, func(n value.Node, t text) value.Node { return value.Node{Pos: n.Pos, V: t.s} })
}

// mapTexts replaces every text in a tree.
func mapTexts(n value.Node, f func(value.Node, text) value.Node) value.Node {
	switch v := n.V.(type) {
	case text:
		return f(n, v)
	case value.List:
		out := make(value.List, len(v))
		for i, item := range v {
			out[i] = mapTexts(item, f)
		}
		return value.Node{Pos: n.Pos, V: out}
	case value.Object:
		out := make(value.Object, len(v))
		for i, m := range v {
			m.Node = mapTexts(m.Node, f)
			out[i] = m
		}
		return value.Node{Pos: n.Pos, V: out}
	}
	return n
}
