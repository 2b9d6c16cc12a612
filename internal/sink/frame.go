package sink

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// view is what a frame is drawn for.
type view struct {
	now           time.Time
	frame         int
	columns, rows int
}

// glyphs are the signs at the start of a line.
type glyphs struct {
	spinner                           []string
	baked, failed, skipped, waiting   string
	bar, corner, arrow, dot, ellipsis string
}

var unicodeGlyphs = glyphs{
	spinner: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"},
	baked:   "✓", failed: "✗", skipped: "○", waiting: "·",
	bar: "│", corner: "╰", arrow: "→", dot: "·", ellipsis: "…",
}

var asciiGlyphs = glyphs{
	spinner: []string{"|", "/", "-", `\`},
	baked:   "+", failed: "x", skipped: "o", waiting: ".",
	bar: "|", corner: "`", arrow: ">", dot: "-", ellipsis: "~",
}

// style turns the state of a run into lines.
type style struct {
	glyphs
	color bool
}

func newStyle(color, ascii bool) style {
	if ascii {
		return style{asciiGlyphs, color}
	}
	return style{unicodeGlyphs, color}
}

// The looks of text, as terminal attributes.
const (
	strong = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s style) paint(attributes, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + attributes + "m" + text + "\x1b[0m"
}

// maxName is the widest the column of names gets.
const maxName = 28

// names is the width of the column of names.
func names(t *tally, columns int) int {
	widest := 0
	for _, b := range t.bakes {
		widest = max(widest, width(Clean(b.name)))
	}
	return min(widest, maxName, max(columns/3, 8))
}

// moving is the part of the screen that is drawn anew for every frame.
func (s style) moving(t *tally, v view) []string {
	if t.done || len(t.bakes) == 0 {
		return nil
	}
	column := names(t, v.columns)
	room := max(v.rows-1, 1) // the cursor stands on a line of its own
	footer := v.rows >= 4
	if footer {
		room--
	}
	var lines []string
	for _, in := range []phase{running, waiting} {
		for _, b := range t.bakes {
			if b.phase == in {
				lines = append(lines, s.current(b, column, v))
			}
		}
	}
	if more := len(lines) - room; more > 0 {
		rest := fmt.Sprintf("%s and %d more", s.waiting, more+1)
		lines = append(lines[:room-1], s.fit(v.columns, segment{dim, rest}))
	}
	if footer {
		lines = append(lines, s.footer(t, v))
	}
	return lines
}

// current is the line of a bake that runs or waits.
func (s style) current(b *progress, column int, v view) string {
	name := s.pad(Clean(b.name), column)
	if b.phase == waiting {
		return s.fit(v.columns, segment{dim, s.waiting + " " + name})
	}
	segments := []segment{
		{cyan, s.spinner[v.frame%len(s.spinner)] + " "},
		{strong, name},
		{dim, fmt.Sprintf(" %7s  ", span(v.now.Sub(b.started).Seconds()))},
	}
	place := b.place()
	if b.last != "" {
		// The title yields to the output only where it is longer than half a line.
		place = s.cut(place, max(v.columns*2/5, 12))
	}
	if place != "" {
		segments = append(segments, segment{"", place + "  "})
	}
	return s.fit(v.columns, append(segments, segment{dim, oneLine(b.last)})...)
}

func (s style) footer(t *tally, v view) string {
	total := len(t.bakes)
	parts := []string{fmt.Sprintf("%d of %d baked", t.count(baked), total)}
	if n := t.count(failed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	if n := t.count(skipped); n > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", n))
	}
	if !t.started.IsZero() {
		parts = append(parts, span(v.now.Sub(t.started).Seconds()))
	}
	return s.fit(v.columns, segment{dim, "  " + strings.Join(parts, " "+s.dot+" ")})
}

// lasting are the lines that stay above the moving part because of the event.
func (s style) lasting(t *tally, b *progress, e bake.Event) []string {
	switch e.Type {
	case bake.BakeFinished:
		if b != nil && b.phase == failed {
			return s.broken(b, names(t, 3*maxName))
		}
		if b != nil {
			return []string{s.finished(b, names(t, 3*maxName))}
		}
	case bake.BakeSkipped:
		if b != nil {
			name := s.pad(Clean(b.name), names(t, 3*maxName))
			return []string{s.paint(dim, fmt.Sprintf("%s %s %7s  skipped: %s", s.skipped, name, "", oneLine(b.reason)))}
		}
	case bake.Warned:
		return s.remark("warning", e.Bake, e.Text)
	case bake.CleanupProblem:
		return s.remark("cleanup", e.Bake, e.Text+e.Error)
	case bake.MachineDetached:
		return s.remark("left running", e.Bake, e.Text)
	case bake.Note:
		if e.Bake == "" {
			return []string{s.paint(dim, "  "+oneLine(e.Text))}
		}
	}
	return nil
}

// finished is the one line that a bake that went well collapses to.
func (s style) finished(b *progress, column int) string {
	line := s.paint(green, s.baked) + " " + s.paint(strong, s.pad(Clean(b.name), column)) +
		s.paint(dim, fmt.Sprintf(" %7s  ", span(b.seconds)))
	var parts []string
	a, made := b.main()
	if made {
		parts = artifactParts(a)
	}
	if b.cached > 0 && b.cached >= b.steps {
		parts = append(parts, s.paint(dim, "unchanged"))
	} else if b.cached > 0 {
		parts = append(parts, s.paint(dim, fmt.Sprintf("%d of %d cached", b.cached, b.steps)))
	}
	if len(a.Tags) > 0 {
		parts = append(parts, s.paint(cyan, oneLine(shortTags(a.Tags))))
	}
	return strings.TrimRight(line+strings.Join(parts, "  "), " ")
}

// main is the artifact to show of a bake: its last image, else its last one.
func (p *progress) main() (bake.ArtifactSummary, bool) {
	var best bake.ArtifactSummary
	for _, a := range p.artifacts {
		if a.Digest != "" || best.Digest == "" {
			best = a
		}
	}
	return best, len(p.artifacts) > 0
}

func artifactParts(a bake.ArtifactSummary) []string {
	var parts []string
	id := a.Digest
	if id == "" {
		id = a.EngineID
	}
	if id != "" {
		parts = append(parts, short(Clean(id)))
	}
	if a.Size > 0 {
		parts = append(parts, size(a.Size))
	}
	if id == "" && len(a.Files) > 0 {
		parts = append(parts, oneLine(strings.Join(a.Files, " ")))
	}
	return parts
}

// shortTags writes references of one repository as reg/repo:1.0 :latest, and
// those of Docker Hub without its name.
func shortTags(tags []string) string {
	var out []string
	previous := ""
	for _, tag := range tags {
		tag = strings.TrimPrefix(strings.TrimPrefix(tag, "index.docker.io/"), "library/")
		repository, version := tag, ""
		if colon := strings.LastIndexByte(tag, ':'); colon > strings.LastIndexByte(tag, '/') {
			repository, version = tag[:colon], tag[colon:]
		}
		if repository == previous && version != "" {
			tag = version
		}
		previous = repository
		out = append(out, tag)
	}
	return strings.Join(out, " ")
}

// broken is what stays open of a bake that failed: the step, its last output,
// the reason.
func (s style) broken(b *progress, column int) []string {
	lines := []string{strings.TrimRight(s.paint(red, s.failed)+" "+s.paint(strong, s.pad(Clean(b.name), column))+
		s.paint(dim, fmt.Sprintf(" %7s  ", span(b.seconds)))+oneLine(b.place()), " ")}
	for _, out := range b.tail {
		lines = append(lines, s.paint(red, "  "+s.bar)+" "+s.paint(dim, out))
	}
	for i, text := range strings.Split(strings.TrimRight(b.reason, "\n"), "\n") {
		sign := s.corner
		if i > 0 {
			sign = " "
		}
		lines = append(lines, s.paint(red, "  "+sign+" "+Clean(text)))
	}
	return lines
}

func (s style) remark(word, name, text string) []string {
	if name != "" {
		name = Clean(name) + ": "
	}
	return []string{s.paint(yellow, "! "+word+": ") + name + oneLine(text)}
}

// ending is the plain summary that stays on the screen.
func (s style) ending(t *tally, now time.Time) []string {
	if len(t.bakes) == 0 {
		return nil
	}
	if !t.done && !t.started.IsZero() && now.After(t.started) {
		t.seconds = now.Sub(t.started).Seconds()
	}
	lines := []string{""}
	for _, b := range t.bakes {
		for _, ref := range b.refs {
			lines = append(lines, s.paint(dim, "  published "+s.arrow+" ")+oneLine(ref))
		}
	}
	column := names(t, 3*maxName)
	for _, b := range t.bakes {
		switch b.phase {
		case failed:
			lines = append(lines, s.paint(red, "  "+s.failed)+" "+s.pad(Clean(b.name), column)+"  "+oneLine(firstLine(b.reason)))
		case running:
			lines = append(lines, s.paint(yellow, "  "+s.skipped)+" "+s.pad(Clean(b.name), column)+"  not finished")
		}
	}
	tint := green
	if t.count(failed) > 0 || t.count(baked) < len(t.bakes) {
		tint = red
	}
	return append(lines, s.paint("1;"+tint, t.summary()))
}

// segment is a piece of a line in one look.
type segment struct{ attributes, text string }

// fit joins the segments into one line that leaves the last column free, so
// that no terminal wraps it.
func (s style) fit(columns int, segments ...segment) string {
	room := columns - 1
	var b strings.Builder
	for _, seg := range segments {
		text := s.cut(seg.text, room)
		room -= width(text)
		b.WriteString(s.paint(seg.attributes, text))
		if room <= 0 {
			break
		}
	}
	return b.String()
}

// cut shortens the text to so many cells.
func (s style) cut(text string, cells int) string {
	if cells <= 0 {
		return ""
	}
	return terminal.Truncate(text, cells, s.ellipsis)
}

// pad cuts or fills the text to exactly so many cells.
func (s style) pad(text string, cells int) string {
	return terminal.FillRight(s.cut(text, cells), cells)
}

// terminal measures text without asking the environment how wide ambiguous
// characters are.
var terminal = &runewidth.Condition{}

func width(text string) int { return terminal.StringWidth(text) }

// oneLine makes any text fit to be a part of a line.
func oneLine(text string) string {
	return strings.Join(strings.Fields(Clean(strings.ReplaceAll(text, "\n", " "))), " ")
}
