package sink

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// phase is where a bake is.
type phase int

const (
	waiting phase = iota
	running
	baked
	failed
	skipped
)

// keptLines is how many of its last output lines a bake keeps, to show them
// when it fails.
const keptLines = 30

// progress is what the events so far say about one bake.
type progress struct {
	name        string
	phase       phase
	step, steps int
	title       string
	stepFailed  bool     // the last step that ended
	cached      int      // steps that came from the cache
	last        string   // the last line of output or note
	tail        []string // the last lines of the current step's output
	reason      string   // why it failed or was skipped
	started     time.Time
	seconds     float64
	artifacts   []bake.ArtifactSummary
	refs        []string
}

// tally follows a run. Bakes keep the order in which they were first heard of.
type tally struct {
	bakes   []*progress
	byName  map[string]*progress
	started time.Time
	seconds float64
	done    bool
}

// apply takes the event in and returns the bake it is about, nil for one
// about the run.
func (t *tally) apply(e bake.Event) *progress {
	switch e.Type {
	case bake.RunStarted:
		t.started = e.Time
		for name := range strings.SplitSeq(e.Data["bakes"], ",") {
			t.bake(name)
		}
	case bake.RunFinished:
		t.done = true
		t.seconds = cmp.Or(e.Seconds, e.Time.Sub(t.started).Seconds())
	}
	b := t.bake(e.Bake)
	if b != nil {
		b.apply(e)
	}
	return b
}

func (t *tally) bake(name string) *progress {
	if name == "" {
		return nil
	}
	if b, ok := t.byName[name]; ok {
		return b
	}
	if t.byName == nil {
		t.byName = map[string]*progress{}
	}
	b := &progress{name: name}
	t.byName[name] = b
	t.bakes = append(t.bakes, b)
	return b
}

func (p *progress) apply(e bake.Event) {
	switch e.Type {
	case bake.BakeStarted:
		p.phase, p.started, p.steps = running, e.Time, e.Steps
	case bake.StepStarted:
		p.step, p.steps, p.title = e.Step, max(p.steps, e.Steps), e.Title
		p.last, p.tail = "", nil
	case bake.Output:
		p.remember(Clean(e.Text))
	case bake.Note:
		p.last = Clean(e.Text)
	case bake.StepFinished:
		p.finishStep(e)
	case bake.ArtifactMade:
		if e.Artifact != nil {
			p.artifacts = append(p.artifacts, *e.Artifact)
		}
	case bake.Published:
		p.refs = append(p.refs, e.Refs...)
	case bake.BakeSkipped:
		p.phase, p.reason = skipped, cmp.Or(e.Text, e.Error)
	case bake.BakeFinished:
		p.phase, p.reason = baked, e.Error
		if e.Error != "" {
			p.phase = failed
		}
		p.seconds = cmp.Or(e.Seconds, e.Time.Sub(p.started).Seconds())
	}
}

func (p *progress) finishStep(e bake.Event) {
	p.stepFailed = e.Error != ""
	if e.Data["cached"] == "true" { // it never started
		p.step, p.steps, p.title = e.Step, max(p.steps, e.Steps), cmp.Or(e.Title, p.title)
		p.cached++
	}
}

func (p *progress) remember(line string) {
	p.tail = append(p.tail, line)
	if len(p.tail) > keptLines {
		p.tail = p.tail[1:]
	}
	if strings.TrimSpace(line) != "" {
		p.last = line
	}
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// place says which step the bake is in: "2/5 shell: make".
func (p *progress) place() string {
	if p.step == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", p.counter(), Clean(p.title)))
}

func (p *progress) counter() string {
	if p.steps == 0 {
		return fmt.Sprint(p.step)
	}
	return fmt.Sprintf("%d/%d", p.step, p.steps)
}

// count is how many bakes are in the phase.
func (t *tally) count(in phase) int {
	n := 0
	for _, b := range t.bakes {
		if b.phase == in {
			n++
		}
	}
	return n
}

// summary is the run in one line: "2 baked, 1 failed, 1 skipped in 21.9s".
func (t *tally) summary() string {
	var parts []string
	for _, c := range []struct {
		phase phase
		word  string
	}{{baked, "baked"}, {failed, "failed"}, {skipped, "skipped"}, {running, "not finished"}, {waiting, "not started"}} {
		if n := t.count(c.phase); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c.word))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to bake"}
	}
	return strings.Join(parts, ", ") + " in " + span(t.seconds)
}

// span is a duration as people read it: 0.4s, 12.4s, 1m04s, 2h03m.
func span(seconds float64) string {
	switch whole := int(seconds + 0.5); {
	case seconds < 59.95:
		return fmt.Sprintf("%.1fs", seconds)
	case whole < 3600:
		return fmt.Sprintf("%dm%02ds", whole/60, whole%60)
	default:
		return fmt.Sprintf("%dh%02dm", whole/3600, whole%3600/60)
	}
}

// size is a number of bytes as people read it, in powers of ten.
func size(bytes int64) string {
	amount, unit := float64(bytes), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB"} {
		if amount < 999.5 {
			break
		}
		amount, unit = amount/1000, larger
	}
	if amount >= 99.5 || unit == "B" {
		return fmt.Sprintf("%.0f %s", amount, unit)
	}
	return fmt.Sprintf("%.1f %s", amount, unit)
}

// short is a digest as people compare it: sha256: and twelve digits.
func short(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) <= 12 {
		return digest
	}
	return algorithm + ":" + hex[:12]
}

// describe says what an artifact is in one line.
func describe(a bake.ArtifactSummary) string {
	parts := []string{a.Builder}
	if a.Platform != "" {
		parts = append(parts, a.Platform)
	}
	if id := cmp.Or(a.Digest, a.EngineID); id != "" {
		parts = append(parts, id)
	}
	if a.Size > 0 {
		parts = append(parts, "("+size(a.Size)+")")
	}
	if len(a.Tags) > 0 {
		parts = append(parts, "as "+strings.Join(a.Tags, ", "))
	}
	if len(a.Files) > 0 {
		parts = append(parts, "in "+strings.Join(a.Files, ", "))
	}
	return strings.Join(parts, " ")
}
