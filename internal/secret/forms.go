package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// pieceSize is where a long value is cut, so that the forms of a whole key
// ring stay affordable. A multiple of 3 keeps base64 pieces contiguous.
const pieceSize = 1536

// Forms lists what a value may look like once it was printed, quoted or
// encoded: itself, each of its lines, and each of these escaped for JSON, the
// shell, URLs, HTML and workflow commands, in hexadecimal and in base64 at any
// alignment. Longest first, each once.
func Forms(value string) []string {
	set := map[string]bool{}
	for _, base := range bases(value) {
		for _, piece := range pieces(base) {
			for _, form := range derived(piece) {
				set[form] = true
			}
		}
		for _, line := range wrappedForms(base) {
			set[line] = true
		}
	}
	forms := make([]string, 0, len(set))
	for form := range set {
		forms = append(forms, form)
	}
	slices.SortFunc(forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return forms
}

// bases returns the value, the value trimmed and its lines; of these, short
// lines and words that are no secret by themselves are left out.
func bases(value string) []string {
	out := []string{value}
	add := func(s string) {
		if len(s) >= MinLength && !commonWords[strings.ToLower(s)] && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	add(strings.TrimSpace(value))
	for line := range strings.Lines(value) {
		line = strings.TrimRight(line, "\r\n")
		add(line)
		add(strings.TrimSpace(line))
	}
	return out
}

func pieces(s string) []string {
	if len(s) <= 2*pieceSize {
		return []string{s}
	}
	var out []string
	for len(s) > 2*pieceSize {
		out = append(out, s[:pieceSize])
		s = s[pieceSize:]
	}
	return append(out, s)
}

func derived(s string) []string {
	out := []string{s, hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s)))}
	out = append(out, base64Forms(s)...)
	out = append(out, jsonForms(s)...)
	out = append(out, shellForms(s)...)
	out = append(out, urlForms(s)...)
	out = append(out, html.EscapeString(s), workflowEscape.Replace(s))
	short := func(form string) bool { return len(form) < len(s) }
	return slices.DeleteFunc(out, short)
}

// base64Forms encodes s as the part of a longer text that starts 0, 1 or 2
// bytes into a group of three. Characters that depend on what stands before or
// behind s are left out, except that s may be the end of the text.
func base64Forms(s string) []string {
	var out []string
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for before := range 3 {
			whole := enc.EncodeToString([]byte("\x00\x00"[:before] + s))
			skip := (before*8 + 5) / 6 // characters with bits of what stands before
			padded := whole[skip:]
			unpadded := strings.TrimRight(padded, "=")
			middle := whole[skip : (before+len(s))*8/6]
			out = append(out, padded, unpadded, middle)
		}
	}
	return out
}

// wrappedForms returns a long value's base64 as lines of 76 and of 64
// characters, the way base64 and openssl print it. A last line that says little
// is left out.
func wrappedForms(s string) []string {
	var out []string
	encoded := base64.StdEncoding.EncodeToString([]byte(s))
	for _, width := range []int{76, 64} {
		for from := 0; from < len(encoded) && len(encoded) > width; from += width {
			if line := encoded[from:min(len(encoded), from+width)]; len(line) > MinLength {
				out = append(out, line)
			}
		}
	}
	return out
}

func jsonForms(s string) []string {
	var plain strings.Builder
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	inner := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(plain.String(), "\n"), `"`), `"`)
	withHTML, _ := json.Marshal(s)
	return []string{
		inner,
		string(withHTML[1 : len(withHTML)-1]),
		strings.ReplaceAll(inner, "/", `\/`),
		asciiJSON(inner),
		unquoted(strconv.Quote(s)),
		unquoted(strconv.QuoteToASCII(s)),
	}
}

func unquoted(s string) string { return s[1 : len(s)-1] }

// asciiJSON writes what is not ASCII as \uXXXX, as Python and Ruby do.
func asciiJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

var (
	doubleQuote    = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
	workflowEscape = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
)

// shellForms are the insides of the shells' ways to quote: '…' with either
// way to write a quote, "…", $'…' and a backslash before each character.
func shellForms(s string) []string {
	return []string{
		strings.ReplaceAll(s, `'`, `'\''`),
		strings.ReplaceAll(s, `'`, `'"'"'`),
		doubleQuote.Replace(s),
		strings.ReplaceAll(doubleQuote.Replace(s), "!", `\!`),
		ansiC(s, true),
		ansiC(s, false),
		backslashed(s),
	}
}

// ansiC writes s as between $' and '; octal: what is not ASCII as bash's
// printf %q writes it in the C locale.
func ansiC(s string, octal bool) string {
	names := map[byte]string{
		'\a': `\a`, '\b': `\b`, 0x1b: `\E`, '\f': `\f`, '\n': `\n`, '\r': `\r`,
		'\t': `\t`, '\v': `\v`, '\\': `\\`, '\'': `\'`,
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch name, named := names[c]; {
		case named:
			b.WriteString(name)
		case c < ' ' || c == 0x7f || octal && c >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func backslashed(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(" \t|&;<>()$`\\\"'*?[]#~=%{}!^,", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func urlForms(s string) []string {
	forms := []string{
		url.QueryEscape(s),
		url.PathEscape(s),
		percent(s, "-_.~"),
		percent(s, "-_.~/"),
		percent(s, "-_.~!'()*"), // encodeURIComponent
	}
	for _, form := range slices.Clone(forms) {
		forms = append(forms, lowerPercent(form))
	}
	return forms
}

func percent(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if alnum || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func lowerPercent(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(s[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}
