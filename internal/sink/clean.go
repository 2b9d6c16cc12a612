package sink

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes one line that a command printed safe to show: terminal escape
// sequences, control characters other than tab and text direction overrides
// are dropped, invalid UTF-8 is replaced. Of a line that was overwritten with
// carriage returns, as progress bars are, the last state is kept.
func Clean(line string) string {
	if isPlain(line) {
		return line
	}
	var b strings.Builder
	overwrite := false
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == '\r':
			overwrite = true
		case startsSequence(r):
			size = sequenceLength(line[i:])
		case dropped(r):
		default:
			if overwrite {
				b.Reset()
				overwrite = false
			}
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

func isPlain(line string) bool {
	for i := range len(line) {
		if c := line[i]; c >= 0x7f || c < 0x20 && c != '\t' {
			return false
		}
	}
	return true
}

func dropped(r rune) bool {
	return r != '\t' && unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// The control characters that start a longer sequence, C1 forms included.
const (
	esc = '\x1b'
	csi = '\u009b'
)

func startsSequence(r rune) bool { return r == esc || r == csi || startsString(r) }

// startsString tells the C1 controls DCS, SOS, OSC, PM and APC.
func startsString(r rune) bool { return strings.ContainsRune("\u0090\u0098\u009d\u009e\u009f", r) }

// sequenceLength is how many bytes the escape sequence at the start of s has.
// Of a sequence without an end only the start counts, so that it hides nothing.
func sequenceLength(s string) int {
	r, start := utf8.DecodeRuneInString(s)
	rest := s[start:]
	if r == esc {
		if rest == "" {
			return start
		}
		switch {
		case rest[0] == '[':
			return start + 1 + untilFinal(rest[1:], 0x40)
		case strings.IndexByte("]PX^_", rest[0]) >= 0:
			return start + 1 + stringLength(rest[1:])
		case rest[0] >= 0x20 && rest[0] < 0x7f:
			return start + untilFinal(rest, 0x30)
		}
		return start
	}
	if r == csi {
		return start + untilFinal(rest, 0x40)
	}
	return start + stringLength(rest)
}

// untilFinal is the length of parameters up to and including a final byte, one
// of final to ~; 0 if they do not end.
func untilFinal(s string, final byte) int {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= final && c < 0x7f:
			return i + 1
		case c < 0x20 || c >= 0x7f:
			return 0
		}
	}
	return 0
}

// stringLength is the length of a control string with its terminator; 0 if it
// has none.
func stringLength(s string) int {
	shortest := 0
	for _, end := range []string{"\a", "\x1b\\", "\u009c"} {
		if i := strings.Index(s, end); i >= 0 && (shortest == 0 || i+len(end) < shortest) {
			shortest = i + len(end)
		}
	}
	return shortest
}

// withoutCommands breaks what a GitHub Actions runner would take for a
// workflow command: "::" at the start of a line and "##[" anywhere in it.
func withoutCommands(line string) string {
	line = strings.ReplaceAll(line, "##[", "## [")
	if strings.HasPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::") {
		line = strings.Replace(line, "::", ": :", 1)
	}
	return line
}
