package sink

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// screen is a terminal that knows the sequences Live uses, and no other.
type screen struct {
	t      *testing.T
	rows   [][]rune
	row    int
	column int
	cursor bool
	writes int
}

func newScreen(t *testing.T) *screen { return &screen{t: t, rows: [][]rune{nil}, cursor: true} }

func (s *screen) Write(p []byte) (int, error) {
	s.writes++
	text := []rune(string(p))
	for i := 0; i < len(text); i++ {
		switch r := text[i]; r {
		case '\r':
			s.column = 0
		case '\n':
			s.row++
			for len(s.rows) <= s.row {
				s.rows = append(s.rows, nil)
			}
		case '\x1b':
			end := i + 2
			for text[end] < '@' {
				end++
			}
			s.control(string(text[i+2:end]), text[end])
			i = end
		default:
			s.put(r)
		}
	}
	return len(p), nil
}

func (s *screen) control(parameters string, final rune) {
	switch final {
	case 'A':
		s.row -= max(1, number(parameters))
		if s.row < 0 {
			s.t.Error("the cursor left the screen at the top")
			s.row = 0
		}
	case 'K':
		s.rows[s.row] = s.rows[s.row][:min(s.column, len(s.rows[s.row]))]
	case 'J':
		s.rows = s.rows[:s.row+1]
		s.control("", 'K')
	case 'h', 'l':
		if parameters == "?25" {
			s.cursor = final == 'h'
		}
	case 'm':
	default:
		s.t.Errorf("unknown sequence %q%c", parameters, final)
	}
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

func (s *screen) put(r rune) {
	for len(s.rows[s.row]) < s.column {
		s.rows[s.row] = append(s.rows[s.row], ' ')
	}
	s.rows[s.row] = append(s.rows[s.row][:s.column], r)
	s.column++
}

func (s *screen) String() string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func diffScreen(t *testing.T, when string, s *screen, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Trim(want, "\n"), s.String()); diff != "" {
		t.Errorf("%s (-want +got)\n%s", when, diff)
	}
}

// upTo is the sample's events up to the first of a type for a bake.
func upTo(typ bake.EventType, name string) []bake.Event {
	events := sample()
	for i, e := range events {
		if e.Type == typ && e.Bake == name {
			return events[:i+1]
		}
	}
	panic("no such event")
}

func TestLive(t *testing.T) {
	s := newScreen(t)
	live := NewLive(s, LiveOptions{Color: true, Size: func() (int, int) { return 72, 20 }})
	seen := 0
	show := func(until []bake.Event, now float64) {
		play(live, until[seen:])
		seen = len(until)
		live.next(at(now))
	}

	show(upTo(bake.Output, "base.docker"), 2.5)
	diffScreen(t, "while base bakes", s, `
⠙ base.docker    2.5s  2/2 shell: scripts/harden.sh  a, red line
· web.docker
· edge.docker
  0 of 3 baked · 2.5s`)
	if s.cursor {
		t.Error("the cursor is not hidden")
	}

	show(upTo(bake.Output, "web.docker"), 5.5)
	base := "! warning: base.docker: no created time\n" +
		"✓ base.docker    4.0s  sha256:3f2a91bc0d12  31.2 MB  1 of 2 cached  localhost:5000/base:1.0 :latest"
	diffScreen(t, "while web bakes", s, base+`
⠹ web.docker     1.5s  1/1 shell: make  ::error::make: *** Error 2
· edge.docker
  1 of 3 baked · 5.5s`)

	show(upTo(bake.BakeFinished, "web.docker"), 6.5)
	web := `
! cleanup: web.docker: container 0123: in use
! left running: web.docker: docker rm -f 0123
✗ web.docker     2.5s  1/1 shell: make
  │ ::error::make: *** Error 2
  ╰ step 1 (shell): make: exit status 2
    imgbake.yaml:31:9`
	diffScreen(t, "after web failed", s, base+web+`
· edge.docker
  1 of 3 baked · 1 failed · 6.5s`)

	play(live, sample()[seen:])
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	diffScreen(t, "at the end", s, base+web+`
○ edge.docker          skipped: web.docker failed

  published → localhost:5000/base@`+digest+`
  ✗ web.docker   step 1 (shell): make: exit status 2
1 baked, 1 failed, 1 skipped in 1m07s`)
	if !s.cursor {
		t.Error("the cursor is not given back")
	}
}

func TestLiveWithoutColorHasNoAttributes(t *testing.T) {
	var b bytes.Buffer
	live := NewLive(&b, LiveOptions{})
	play(live, upTo(bake.Output, "web.docker"))
	live.next(at(5))
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(b.String(), "\x1b[")[1:] {
		if final := strings.TrimLeft(part, "?0123456789;"); final[0] == 'm' {
			t.Fatalf("a colour in %q", part)
		}
	}
}

func TestLiveASCII(t *testing.T) {
	s := newScreen(t)
	live := NewLive(s, LiveOptions{ASCII: true})
	play(live, sample())
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.String() {
		if r > 0x7e {
			t.Errorf("%q is not ASCII", r)
		}
	}
}

func TestLiveFitsTheWindow(t *testing.T) {
	events := []bake.Event{{Time: at(0), Type: bake.RunStarted}}
	for i := range 30 {
		name := fmt.Sprintf("image-%02d-名前.docker", i)
		events = append(events, bake.Event{Time: at(0), Type: bake.BakeStarted, Bake: name},
			bake.Event{Time: at(0), Type: bake.StepStarted, Bake: name, Step: 1, Steps: 3, Title: "shell: 名前名前名前名前"},
			bake.Event{Time: at(0), Type: bake.Output, Bake: name, Text: "\t名前 " + strings.Repeat("long ", 40)})
	}
	for _, window := range [][2]int{{200, 50}, {80, 24}, {40, 10}, {20, 4}, {9, 3}, {1, 1}} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			s := newScreen(t)
			live := NewLive(s, LiveOptions{Size: func() (int, int) { return window[0], window[1] }})
			play(live, events)
			live.next(at(1))
			lines := strings.Split(s.String(), "\n")
			if len(lines) > max(window[1]-1, 1) {
				t.Errorf("%d lines in a window of %d", len(lines), window[1])
			}
			for _, line := range lines {
				if w := width(line); w > max(window[0]-1, 0) {
					t.Errorf("a line is %d wide in a window of %d: %q", w, window[0], line)
				}
			}
			if err := live.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLiveSaysHowManyMore(t *testing.T) {
	s := newScreen(t)
	live := NewLive(s, LiveOptions{Size: func() (int, int) { return 40, 5 }})
	live.Emit(bake.Event{Time: at(0), Type: bake.RunStarted, Data: map[string]string{"bakes": "a,b,c,d,e"}})
	live.Emit(bake.Event{Time: at(0), Type: bake.BakeStarted, Bake: "e"})
	live.next(at(1))
	diffScreen(t, "five bakes in five rows", s, `
⠙ e    1.0s
· a
· and 3 more
  0 of 5 baked · 1.0s`)
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLiveGoesUpOverWrappedLines(t *testing.T) {
	tests := []struct {
		widths  []int
		columns int
		want    int
	}{{nil, 80, 0}, {[]int{79, 0, 5}, 80, 3}, {[]int{79, 20}, 40, 3}, {[]int{79, 20}, 20, 5}}
	for _, tt := range tests {
		if got := strings.Count(up(tt.widths, tt.columns), "A"); got != tt.want {
			t.Errorf("up(%v, %d) goes up %d rows, want %d", tt.widths, tt.columns, got, tt.want)
		}
	}
}

func TestLiveInteract(t *testing.T) {
	s := newScreen(t)
	live := NewLive(s, LiveOptions{})
	play(live, upTo(bake.Output, "base.docker"))
	live.next(at(1))
	want := errors.New("no answer")
	err := live.Interact(func() error {
		if !s.cursor {
			t.Error("no cursor to type at")
		}
		if got := s.String(); got != "" {
			t.Errorf("the moving part is still there: %q", got)
		}
		live.Emit(bake.Event{Time: at(2), Type: bake.Warned, Text: "meanwhile"}) // must not block
		fmt.Fprint(s, "go on? y\r\n")
		return want
	})
	if err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	live.next(at(3))
	if got := s.String(); !strings.HasPrefix(got, "go on? y\n! warning: meanwhile\n") || s.cursor {
		t.Errorf("afterwards the cursor is %t and the screen\n%s", s.cursor, got)
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLiveEmitNeverWaitsForTheTerminal(t *testing.T) {
	defer goleak.VerifyNone(t)
	entered, free := make(chan struct{}), make(chan struct{})
	first := true
	stuck := writerFunc(func(p []byte) (int, error) {
		if first {
			first = false
			close(entered)
			<-free
		}
		return len(p), nil
	})
	ticks := make(chan time.Time)
	live := NewLive(stuck, LiveOptions{Ticks: ticks})
	live.Emit(sample()[0])
	ticks <- at(1)
	<-entered
	play(live, sample()) // returns although the terminal takes nothing
	close(free)
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	if err := live.Close(); err != nil {
		t.Fatal("closing twice:", err)
	}
}

func TestLiveInterrupted(t *testing.T) {
	s := newScreen(t)
	live := NewLive(s, LiveOptions{})
	play(live, upTo(bake.Output, "web.docker"))
	live.next(at(5.5))
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	got := s.String()
	if !strings.HasSuffix(got, "  ○ web.docker   not finished\n1 baked, 1 not finished, 1 not started in 5.5s") || !s.cursor {
		t.Errorf("the cursor is %t and the screen\n%s", s.cursor, got)
	}
	before := s.writes
	live.next(at(6))
	if s.writes != before {
		t.Error("it draws after Close")
	}
}

func TestShortTags(t *testing.T) {
	tests := []struct{ in, want string }{
		{"localhost:5000/a:1 localhost:5000/a:latest localhost:5000/b:1", "localhost:5000/a:1 :latest localhost:5000/b:1"},
		{"index.docker.io/library/web:1 index.docker.io/acme/web:1", "web:1 acme/web:1"},
		{"localhost:5000/a localhost:5000/a", "localhost:5000/a localhost:5000/a"},
	}
	for _, tt := range tests {
		if got := shortTags(strings.Fields(tt.in)); got != tt.want {
			t.Errorf("shortTags(%s) = %s, want %s", tt.in, got, tt.want)
		}
	}
}
