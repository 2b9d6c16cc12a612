package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/sink"
)

// Output rules: results that programs read go to standard output (plan, record,
// JSON events, -machine-readable), all that people read during a bake goes to
// standard output too when it is the only thing there; problems go to standard
// error. Texts are lower case and have no full stop.

// faces are the ways a run can be shown.
type faces struct {
	colour          bool
	timestamps      bool
	machineReadable bool
	json            bool
	plain           bool
}

func (f *faces) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.colour, "color", true, "colours, where there is a terminal")
	flags.BoolVar(&f.timestamps, "timestamp-ui", false, "RFC 3339 time in front of every line")
	flags.BoolVar(&f.machineReadable, "machine-readable", false, "Packer's comma-separated lines")
	flags.BoolVar(&f.json, "json", false, "one JSON event a line (docs/events.md)")
	flags.BoolVar(&f.plain, "plain", false, "plain lines also in a terminal")
}

// face is a sink in use.
type face struct {
	sink     bake.Sink
	interact func(ask func() error) error // takes a moving view off the screen
	once     *sync.Once
	end      func()
}

func (f face) close() { f.once.Do(f.end) }

// face chooses how to show the run: what the flags say, a live view in a
// terminal, plain lines elsewhere. Everything passes the redactor once more.
func (a *App) face(f faces, redactor *secret.Redactor) face {
	made := face{once: &sync.Once{}, end: func() {}, interact: func(ask func() error) error { return ask() }}
	colour := f.colour && a.colour(a.Stdout)
	switch {
	case f.json:
		made.sink = sink.NewJSON(a.Stdout)
	case f.machineReadable:
		made.sink = sink.NewMachineReadable(a.Stdout)
	case isTerminal(a.Stdout) && !f.plain && !f.timestamps && !a.ci() && a.Getenv("TERM") != "dumb":
		ticker := time.NewTicker(100 * time.Millisecond)
		live := sink.NewLive(a.Stdout, sink.LiveOptions{Ticks: ticker.C, Size: a.size, Color: colour, ASCII: !a.utf8()})
		made.sink, made.interact = live, live.Interact
		made.end = func() { live.Close(); ticker.Stop() }
	default:
		made.sink = sink.NewPlain(a.Stdout, sink.PlainOptions{
			Color: colour, Timestamps: f.timestamps, Actions: a.Getenv("GITHUB_ACTIONS") == "true",
		})
	}
	made.sink = sink.Redacting(made.sink, redactor.Redact)
	return made
}

// utf8 reports whether the terminal speaks UTF-8, by the locale.
func (a *App) utf8() bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := a.Getenv(key); locale != "" {
			locale = strings.ToLower(locale)
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return true
}

// size is the terminal's columns and rows.
func (a *App) size() (columns, rows int) {
	if f, ok := a.Stdout.(interface{ Fd() uintptr }); ok {
		columns, rows, _ = term.GetSize(int(f.Fd()))
	}
	return columns, rows
}

// asker puts questions on the terminal, one at a time; nil where nobody answers.
func (a *App) asker(f face) bake.Asker {
	if !isTerminal(a.Stdin) || a.ci() {
		return nil
	}
	return &asker{in: bufio.NewReader(a.Stdin), out: a.Stderr, interact: f.interact}
}

type asker struct {
	mu       sync.Mutex
	in       *bufio.Reader
	out      io.Writer
	interact func(func() error) error
}

// Ask repeats the question until the answer is one of the choices, or the
// first letter of one.
func (q *asker) Ask(ctx context.Context, question string, choices ...string) (answer string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.interact(func() error {
		for {
			fmt.Fprint(q.out, prompt(question, choices))
			line, err := q.line(ctx)
			if err != nil {
				return err
			}
			if answer = match(line, choices); answer != "" || len(choices) == 0 {
				return nil
			}
		}
	})
	return answer, err
}

func (q *asker) line(ctx context.Context) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := q.in.ReadString('\n')
		done <- read{strings.TrimSpace(line), err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func prompt(question string, choices []string) string {
	if len(choices) == 0 {
		return question + " "
	}
	return fmt.Sprintf("%s [%s] ", question, strings.Join(choices, "/"))
}

func match(line string, choices []string) string {
	if slices.Contains(choices, line) {
		return line
	}
	for _, c := range choices {
		if line != "" && strings.HasPrefix(c, strings.ToLower(line)) {
			return c
		}
	}
	return ""
}
