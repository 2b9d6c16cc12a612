package actions

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// commandNames are those the runner knows.
var commandNames = []string{"add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice",
	"remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning"}

// command is what the runner makes of a line.
type command struct {
	name, properties, data string
}

var unescape = strings.NewReplacer("%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%")

// ignorable is what a comparison by culture passes over, which is how the
// runner looks for :: and ##[; a list on purpose, and another than the one
// that is tested.
var ignorable = regexp.MustCompile(`[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\x{ad}\x{34f}\x{61c}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{180b}-\x{180f}\x{200b}-\x{200f}` +
	`\x{202a}-\x{202e}\x{2060}-\x{206f}\x{3164}\x{fe00}-\x{fe0f}\x{feff}\x{ffa0}\x{fff0}-\x{fffb}\x{e0000}-\x{e0fff}]`)

var colours = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)`)

// parseLine reads a line by the runner's rules (ActionCommand.cs): :: at the
// beginning behind white space, or else ##[ anywhere.
func parseLine(line string, names []string) (command, bool) {
	known := func(info string) (command, bool) {
		name, properties, _ := strings.Cut(info, " ")
		for _, n := range names {
			if strings.EqualFold(n, name) {
				return command{name: name, properties: properties}, true
			}
		}
		return command{}, false
	}
	if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "::"); ok {
		if info, data, ok := strings.Cut(rest, "::"); ok {
			if c, ok := known(info); ok {
				c.data = unescape.Replace(data)
				return c, true
			}
		}
	}
	if _, rest, ok := strings.Cut(line, "##["); ok {
		if info, data, ok := strings.Cut(rest, "]"); ok {
			if c, ok := known(info); ok {
				c.data = data
				return c, true
			}
		}
	}
	return command{}, false
}

// readLog is what the runner makes of a log: commands, and the other lines.
func readLog(log string) (commands []command, lines []string) {
	stop := ""
	for line := range strings.SplitSeq(strings.TrimSuffix(log, "\n"), "\n") {
		names := commandNames
		if stop != "" {
			names = []string{stop}
		}
		c, ok := parseLine(line, names)
		switch {
		case !ok:
			lines = append(lines, line)
		case c.name == "stop-commands":
			stop = c.data
		case c.name == stop:
			stop = ""
		default:
			commands = append(commands, c)
		}
	}
	return commands, lines
}

func TestCommands(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(&b)
	err := errors.Join(
		l.Group("build: 100%\n::error::x"),
		l.Error(Annotation{Title: "a, b: c", Message: "100%\nnext", File: "dir/im:age.yaml", Line: 3, Column: 5, EndLine: 4, EndColumn: 1}),
		l.Group("second"),
		l.Warning(Annotation{Message: "no place", Line: 3}),
		l.Notice(Annotation{Message: "::error::quoted", File: "f"}),
		l.EndGroup(), l.EndGroup(),
		l.Debug("d\r\n"),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"::group::build: 100%25%0A::error::x",
		"::error file=dir/im%3Aage.yaml,line=3,endLine=4,col=5,endColumn=1,title=a%2C b%3A c::100%25%0Anext",
		"::endgroup::", "::group::second",
		"::warning::no place",
		"::notice file=f::::error::quoted",
		"::endgroup::",
		"::debug::d%0D%0A", "",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	commands, lines := readLog(b.String())
	if len(commands) != 8 || len(lines) > 0 {
		t.Errorf("the runner reads %d commands and the lines %q, want 8 and none", len(commands), lines)
	}
}

func TestLongMessageIsCut(t *testing.T) {
	var b bytes.Buffer
	if err := NewLog(&b).Error(Annotation{Message: strings.Repeat("é", 5000)}); err != nil {
		t.Fatal(err)
	}
	if got := len([]rune(strings.TrimSpace(b.String()))) - len("::error::"); got != maxMessage {
		t.Errorf("got %d characters, want %d", got, maxMessage)
	}
}

func TestMask(t *testing.T) {
	for _, c := range []struct {
		name   string
		secret string
		forms  []string
		want   []string
	}{
		{"one line", "hunter2 100%", nil, []string{"hunter2 100%"}},
		{"short", "abc", nil, []string{"abc"}},
		{"forms, each once", "hunter2", []string{"hunter2", "aHVudGVyMg"}, []string{"hunter2", "aHVudGVyMg"}},
		{"lines, but no brackets", "{\n  \"key\": \"value\"\r\n}\n", nil, []string{`"key": "value"`}},
		{"short lines only", "ab\ncd", nil, []string{"ab\ncd"}},
		{"nothing", " \n", []string{""}, nil},
	} {
		var b bytes.Buffer
		if err := NewLog(&b).Mask(c.secret, c.forms...); err != nil {
			t.Fatal(err)
		}
		commands, _ := readLog(b.String())
		var got []string
		for _, command := range commands {
			got = append(got, command.data)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// While stopped, our own commands are heard and nobody else's are.
func TestStop(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(&b)
	n := 0
	l.token = func() string { n++; return fmt.Sprintf("TOKEN%d", n) }
	raw := func(s string) error { b.WriteString(s + "\n"); return nil }
	err := errors.Join(l.Stop(), l.Stop(), raw("::error::theirs"), l.Error(Annotation{Message: "ours"}),
		raw("::TOKEN1::"), raw("::warning::theirs"), l.Resume(), l.Resume(), l.Debug("after"))
	if err != nil {
		t.Fatal(err)
	}
	commands, lines := readLog(b.String())
	if diff := cmp.Diff([]command{{name: "error", data: "ours"}, {name: "debug", data: "after"}}, commands, cmp.AllowUnexported(command{})); diff != "" {
		t.Errorf("(-want +got):\n%s\nin %s", diff, b.String())
	}
	if diff := cmp.Diff([]string{"::error::theirs", "::TOKEN1::", "::warning::theirs"}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFence(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"hello\n", "hello\n"},
		{"no end", "no end\n"},
		{"", ""},
		{"\n\na\n", "\n\na\n"},
		{"std::vector<T>: a::b\n", "std::vector<T>: a::b\n"},
		{"::error::x\n", ": :error::x\n"},
		{"  \t::error::x\n", "  \t: :error::x\n"},
		{":::error::x\n", ": ::error::x\n"},
		{"x ##[error]y ##[warning]z\n", "x ## [error]y ## [warning]z\n"},
		{"###[error]y ## [a] #[b]\n", "### [error]y ## [a] #[b]\n"},
		{"10%\r20%\r::error::x\r\nnext\r\n\r\n", "10%\n20%\n: :error::x\nnext\n\n"},
		{"\r\r::error::x\r\r\n", ": :error::x\n"},
		{"\x1b[31m::error::x\n", "\x1b[31m: :error::x\n"},
		{"\x1b]0;t\x07:\x1b[0m:error::x\n", "\x1b]0;t\x07:\x1b[0m :error::x\n"},
		{"\x1b]0;##[error]x\x07\n", "\x1b]0;## [error]x\x07\n"},
		{"#\x1b[1m#[error]x\n", "#\x1b[1m# [error]x\n"},
		{"\ufeff::error::x\n", "\ufeff: :error::x\n"},
		{":\u200b:error::x\n", ":\u200b :error::x\n"},
		{"#\u00ad#\u200d[error]x\n", "#\u00ad#\u200d [error]x\n"},
		{"\u00a0\u2028::error::x\n", "\u00a0\u2028: :error::x\n"},
		{"\x00:\xff:error::x\n", "\x00:\xff :error::x\n"},
		{"é: ::not at the beginning\n", "é: ::not at the beginning\n"},
	} {
		for _, size := range []int{1, 2, 3, len(c.in) + 1} {
			var b bytes.Buffer
			f := NewLog(&b).Fence()
			writeChunks(t, f, c.in, size)
			if b.String() != c.want {
				t.Errorf("%q in chunks of %d: got %q, want %q", c.in, size, b.String(), c.want)
			}
		}
	}
}

func writeChunks(t testing.TB, f *Fence, s string, size int) {
	t.Helper()
	for len(s) > 0 {
		n := min(size, len(s))
		if got, err := f.Write([]byte(s[:n])); got != n || err != nil {
			t.Fatal(got, err)
		}
		s = s[n:]
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A line without end is not kept in memory, and no command forms at the break.
func TestFenceBreaksLongLines(t *testing.T) {
	var b bytes.Buffer
	f := NewLog(&b).Fence()
	writeChunks(t, f, strings.Repeat("x", maxLine)+"::error::x\n"+strings.Repeat("x", maxLine-2)+"##[error]x", 1000)
	if commands, _ := readLog(b.String()); len(commands) > 0 {
		t.Errorf("the runner reads %v", commands)
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > maxLine+1 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// Lines of several streams and commands do not mix.
func TestLogTogether(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(&b)
	var wait sync.WaitGroup
	for _, word := range []string{"aa", "bb", "cc"} {
		wait.Go(func() {
			f := l.Fence()
			for range 200 {
				_, _ = f.Write([]byte(word[:1]))
				_ = l.Warning(Annotation{Message: word})
				_, _ = f.Write([]byte(word[1:] + "\n"))
			}
		})
	}
	wait.Wait()
	commands, lines := readLog(b.String())
	if len(commands) != 600 || len(lines) != 600 {
		t.Errorf("got %d commands and %d lines, want 600 each", len(commands), len(lines))
	}
	for _, line := range lines {
		if line != "aa" && line != "bb" && line != "cc" {
			t.Fatalf("line %q is mixed", line)
		}
	}
}

func TestLogErrorsAreReturned(t *testing.T) {
	l := NewLog(brokenWriter{})
	_, err := l.Fence().Write([]byte("x\n"))
	for _, err := range []error{err, l.Debug("x"), l.Group("x"), l.Mask("secret"), l.Stop()} {
		if !errors.Is(err, errBroken) {
			t.Errorf("got %v, want %v", err, errBroken)
		}
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// Whatever is written, in whatever pieces, the runner reads no command, with
// unseen characters and colours or without.
func FuzzFence(f *testing.F) {
	for _, seed := range []string{"::error::x", "##[error]x", "\r::error::x", "\x1b[1m::set-output name=a::b", ":\u200b:add-mask::x",
		"\x1b]##[error]x\x1b\\", "#\ufe0f#[group]x", "\u2029::warning::", "\xc2\x85::error::", "a\n:\r:error::x"} {
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var b bytes.Buffer
		writeChunks(t, NewLog(&b).Fence(), string(in), int(size)+1)
		for _, view := range []string{b.String(), ignorable.ReplaceAllString(strings.ToValidUTF8(b.String(), ""), ""), colours.ReplaceAllString(b.String(), "")} {
			if commands, _ := readLog(strings.ReplaceAll(view, "\r", "\n")); len(commands) > 0 {
				t.Errorf("%q became %q: the runner reads %q", in, view, commands)
			}
		}
		if visible(b.String()) != visible(string(in)) {
			t.Errorf("%q became %q: more changed than spaces and ends of lines", in, b.String())
		}
	})
}

// visible is what is left without white space.
func visible(s string) string {
	return strings.NewReplacer(" ", "", "\n", "", "\r", "").Replace(s)
}
