package sink

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// PlainOptions say how Plain writes. The zero value is for a file or a pipe.
type PlainOptions struct {
	Color      bool // each bake in one of five colours, errors in red
	Timestamps bool // -timestamp-ui: RFC 3339 before every line
	Actions    bool // a GitHub Actions runner reads along and must find no commands
}

// Plain writes one line after the other, each with the name of its bake in
// front, as Packer does:
//
//	==> web.docker: what imgbake does
//	    web.docker: what a command prints
//	--> web.docker: what was made
type Plain struct {
	options PlainOptions
	tally   tally
	out     output
}

// NewPlain makes a Plain sink.
func NewPlain(w io.Writer, o PlainOptions) *Plain {
	return &Plain{options: o, out: output{w: w}}
}

// Err is the first error of writing.
func (p *Plain) Err() error { return p.out.Err() }

// Emit writes the event's lines in one piece.
func (p *Plain) Emit(e bake.Event) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.tally.apply(e)
	var b strings.Builder
	for _, l := range plainLines(&p.tally, e) {
		p.line(&b, e.Time, l)
	}
	_, _ = io.WriteString(&p.out, b.String())
}

func (p *Plain) line(b *strings.Builder, at time.Time, l line) {
	text := strings.TrimRight(l.String(), " ")
	if p.options.Actions {
		text = withoutCommands(text)
	}
	if p.options.Timestamps {
		text = at.UTC().Format(time.RFC3339) + ": " + text
	}
	if p.options.Color {
		text = p.paint(l, text)
	}
	b.WriteString(text + "\n")
}

// The five colours that bakes take in turn: green, cyan, magenta, yellow, blue.
var bakeColors = [...]string{"32", "36", "35", "33", "34"}

func (p *Plain) paint(l line, text string) string {
	color := "1;31"
	if l.kind != lineError {
		i := p.index(l.bake)
		if i < 0 {
			return text
		}
		color = bakeColors[i%len(bakeColors)]
		if l.kind != lineOutput {
			color = "1;" + color
		}
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (p *Plain) index(name string) int {
	for i, b := range p.tally.bakes {
		if b.name == name {
			return i
		}
	}
	return -1
}

// lineKind is who says a line.
type lineKind int

const (
	lineSay    lineKind = iota // imgbake
	lineOutput                 // a command
	lineError                  // imgbake, about something that went wrong
	lineMade                   // an artifact
)

// line is one line for people.
type line struct {
	kind lineKind
	bake string
	text string
}

// String is the line with its prefix.
func (l line) String() string {
	prefix := "==> "
	switch l.kind {
	case lineOutput:
		prefix = "    "
	case lineMade:
		prefix = "--> "
	}
	name := Clean(l.bake)
	if name == "" {
		if l.kind != lineOutput {
			return prefix + l.text
		}
		name = "imgbake"
	}
	return prefix + name + ": " + l.text
}

// plainLines is the event in lines for people; t has taken it in already.
func plainLines(t *tally, e bake.Event) []line {
	var lines []line
	add := func(kind lineKind, format string, args ...any) {
		for text := range strings.SplitSeq(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
			lines = append(lines, line{kind, e.Bake, Clean(text)})
		}
	}
	b := t.byName[e.Bake]
	if b == nil {
		b = &progress{}
	}
	switch e.Type {
	case bake.RunStarted:
		if e.Text != "" {
			add(lineSay, "%s", e.Text)
		}
	case bake.BakeStarted:
		add(lineSay, "baking%s", steps(e.Steps))
	case bake.StepStarted:
		add(lineSay, "step %s", b.place())
	case bake.Output:
		add(lineOutput, "%s", e.Text)
	case bake.Note:
		add(lineSay, "%s", e.Text)
	case bake.Warned:
		add(lineSay, "warning: %s", e.Text)
	case bake.CleanupProblem:
		add(lineError, "cleanup: %s", cmp.Or(e.Error, e.Text))
	case bake.MachineDetached:
		add(lineSay, "left running: %s", e.Text)
	case bake.StepFinished:
		if e.Error != "" {
			add(lineError, "step %s failed after %s: %s", b.place(), span(e.Seconds), e.Error)
		} else if e.Data["cached"] == "true" {
			add(lineSay, "step %s: from the cache", b.place())
		}
	case bake.ArtifactMade:
		if e.Artifact != nil {
			add(lineMade, "%s", describe(*e.Artifact))
		}
	case bake.Published:
		for _, ref := range e.Refs {
			add(lineMade, "published %s", ref)
		}
	case bake.BakeSkipped:
		add(lineError, "skipped: %s", cmp.Or(e.Text, e.Error))
	case bake.BakeFinished:
		if b.phase == failed {
			if b.stepFailed { // its line said why
				add(lineError, "failed after %s", span(b.seconds))
			} else {
				add(lineError, "failed after %s: %s", span(b.seconds), b.reason)
			}
		} else {
			add(lineSay, "finished after %s", span(b.seconds))
		}
	case bake.RunFinished:
		lines = append(lines, finalLines(t)...)
	}
	return lines
}

func steps(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " in 1 step"
	}
	return fmt.Sprintf(" in %d steps", n)
}

// finalLines sum the run up: the count, what went wrong, what was made.
func finalLines(t *tally) []line {
	lines := []line{{kind: lineSay, text: t.summary()}}
	for _, b := range t.bakes {
		switch b.phase {
		case failed:
			lines = append(lines, line{lineError, b.name, Clean(firstLine(b.reason))})
		case baked:
			for _, a := range b.artifacts {
				lines = append(lines, line{lineMade, b.name, Clean(describe(a))})
			}
		}
	}
	return lines
}
