package sink

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "hello\tworld", "hello\tworld"},
		{"empty", "", ""},
		{"colour", "\x1b[1;31mred\x1b[0m x", "red x"},
		{"cursor and erase", "a\x1b[2J\x1b[H\x1b[?25lb", "ab"},
		{"title, ended by BEL", "\x1b]0;evil\aok", "ok"},
		{"link, ended by ST", "\x1b]8;;http://e.vil\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"the terminator that comes first ends it", "\x1b]0;a\x1b\\b\ac", "bc"},
		{"device control", "\x1bP1$r\x1b\\x", "x"},
		{"C1 CSI and OSC", "\u009b31mred\u009d0;t\u009cx", "redx"},
		{"a raw C1 byte is no UTF-8", "a\x9b31m", "a\ufffd31m"},
		{"charset and reset", "\x1b(B\x1bcx", "x"},
		{"a link that never ends hides nothing", "\x1b]8;;http://e.vil", "8;;http://e.vil"},
		{"parameters that never end hide nothing", "\x1b[12;", "12;"},
		{"escape at the end", "x\x1b", "x"},
		{"escape before a control", "x\x1b\ty", "x\ty"},
		{"bell, backspace, NUL, DEL", "a\a\b\x00\x7fb", "ab"},
		{"the last state of a progress bar", "10%\r20%\r\r100%\r", "100%"},
		{"windows line end", "done\r", "done"},
		{"text direction", "a\u202eb\u2066c", "abc"},
		{"line separators", "a\u2028b", "ab"},
		{"other scripts", "名前 é 🙂", "名前 é 🙂"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestWithoutCommands(t *testing.T) {
	tests := []struct{ in, want string }{
		{"    web: ::error::x", "    web: ::error::x"}, // in the middle it is no command
		{"::add-mask::x", ": :add-mask::x"},
		{" \t\u00a0::set-env::x", " \t\u00a0: :set-env::x"},
		{"    web: ##[error]x ##[group]", "    web: ## [error]x ## [group]"},
		{"###[x", "### [x"},
	}
	for _, tt := range tests {
		if got := withoutCommands(tt.in); got != tt.want {
			t.Errorf("withoutCommands(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"a\x1b[31mb", "\x1b]0;t\a", "\u009d\u009c", "\r\r", "##[", "::x", "\xff\x9b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := Clean(line)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\r\n\a\b\x7f\u009b\u009d") {
			t.Errorf("Clean(%q) = %q", line, got)
		}
		if again := Clean(got); again != got {
			t.Errorf("cleaning %q twice gives %q, then %q", line, got, again)
		}
		safe := withoutCommands(got)
		if strings.Contains(safe, "##[") || strings.HasPrefix(strings.TrimSpace(safe), "::") {
			t.Errorf("a command is left in %q", safe)
		}
	})
}
