package comment

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSpan is how much is shown of one value, in runes.
const maxSpan = 300

// plain makes a string one line without anything that hides or reorders text.
// What it takes out stays visible by its number.
func plain(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '\n':
			b.WriteString("⏎")
		case r == '\t':
			b.WriteByte(' ')
		case hides(r):
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r)
		}
	}
	return shorten(b.String(), maxSpan)
}

// hides tells controls, marks of direction, invisible characters, and spaces
// other than the space.
func hides(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r != ' ' && unicode.Is(unicode.Zs, r) ||
		r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0000 && r <= 0xE0FFF
}

// code shows a value as code. GitHub finds no mentions and links in there.
func code(s string) string {
	s = plain(s)
	if s == "" {
		return "<code>&nbsp;</code>"
	}
	if strings.ContainsAny(s, `|\`) { // these mean something in a table even within code
		return htmlCode(s)
	}
	fence := strings.Repeat("`", longestRun(s, '`')+1)
	if strings.Trim(s, "` ") != s {
		s = " " + s + " "
	}
	return fence + s + fence
}

// htmlCode is code for where Markdown counts for nothing.
func htmlCode(s string) string { return "<code>" + entities(plain(s)) + "</code>" }

// entities writes all punctuation by number: so it is no syntax, whatever
// reads it.
func entities(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '@':
			b.WriteString("&#64;\u200b") // or else it is a mail address
		case r < utf8.RuneSelf && r != ' ' && !unicode.IsLetter(r) && !unicode.IsDigit(r):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// text shows a sentence that others wrote. A mention, the number of an issue
// and a link are broken up by a character that has no width.
func text(s string) string {
	const nothing = "\u200b"
	return entities(strings.NewReplacer("#", "#"+nothing, "GH-", "GH"+nothing+"-", "://", ":"+nothing+"//",
		"www.", "www"+nothing+".", "WWW.", "WWW"+nothing+".").Replace(plain(s)))
}

// block is lines of code between fences that the lines cannot close.
func block(language string, lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		for part := range strings.SplitSeq(line, "\n") {
			b.WriteString(showAll(part) + "\n")
		}
	}
	fence := strings.Repeat("`", max(3, longestRun(b.String(), '`')+1))
	return fence + language + "\n" + b.String() + fence + "\n"
}

// sequence is what a terminal takes for a colour or a movement.
var sequence = regexp.MustCompile("\x1b\\[[0-9;:?]*[ -/]*[@-~]")

// output is a block of what a command said, without colours, and of lines that
// were written over only what stayed.
func output(lines []string) string {
	shown := make([]string, len(lines))
	for i, line := range lines {
		line = strings.TrimRight(sequence.ReplaceAllString(line, ""), "\r")
		shown[i] = line[strings.LastIndexByte(line, '\r')+1:]
	}
	return block("text", shown...)
}

// showAll is plain without a limit: half a command is worse than none.
func showAll(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), maxSpan/2)
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n++
		}
		b.WriteString(strings.ReplaceAll(plain(s[:n]), "⏎", " "))
		s = s[n:]
	}
	return b.String()
}

func longestRun(s string, of rune) int {
	longest, run := 0, 0
	for _, r := range s {
		if r == of {
			run++
		} else {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// link links what is Markdown already, if the address is one of the web.
func link(shown, address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return shown
	}
	var b strings.Builder
	for _, c := range []byte(u.String()) {
		if c > ' ' && c < 0x7f && !strings.ContainsRune("()<>[]\\\"'`|*_~@$", rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return "[" + shown + "](" + b.String() + ")"
}
