package comment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxComment is the length of the longest comment, in bytes.
	MaxComment = 65536
	// maxSummary is below GitHub's limit of 1 MiB a step, with room for what
	// others add to the same file.
	maxSummary = 1_000_000
)

// detail says how much is shown.
type detail struct {
	packages int // changes listed of an image; 0 means none
	mermaid  bool
	old      int // sections of earlier commits that are shown
	images   int // rows
	about    int // images that are told about beyond their row
	problems int
}

// details are tried one after another until the text fits: what is dropped
// first is what is missed least.
var details = []detail{
	{maxPackages, true, 20, maxImages, maxImages, maxList},
	{20, true, 20, maxImages, maxImages, maxList},
	{0, true, 20, maxImages, maxImages, maxList},
	{0, false, 20, maxImages, maxImages, maxList},
	{0, false, 0, maxImages, maxImages, maxList},
	{0, false, 0, maxImages, maxImages, 10},
	{0, false, 0, maxImages, 10, 10},
	{0, false, 0, maxImages, 0, 5},
	{0, false, 0, 20, 0, 3},
	{0, false, 0, 5, 0, 1},
}

// Comment renders all sections in at most room bytes.
func Comment(sections []Section, room int) string {
	sections = ordered(sections)
	for _, d := range details {
		if s := document(sections, d); len(s) <= room {
			return s
		}
	}
	const short = "There is more to say about these images than fits into a comment: see the job's summary.\n"
	return short[:min(room, len(short))]
}

// Summary renders one job's data for its summary page.
func Summary(d Data) string {
	all := detail{5000, true, 0, 1000, 1000, 1000}
	sections := []Section{{Data: d}}
	if s := document(sections, all); len(s) <= maxSummary {
		return s
	}
	return Comment(sections, maxSummary)
}

// ordered sorts the sections by name.
func ordered(sections []Section) []Section {
	sections = slices.Clone(sections)
	slices.SortStableFunc(sections, func(a, b Section) int { return strings.Compare(a.Leg, b.Leg) })
	return sections
}

// split tells the sections of the latest run or commit from earlier ones.
func split(sections []Section) (now, old []Section) {
	if len(sections) == 0 {
		return nil, nil
	}
	last := slices.MaxFunc(sections, func(a, b Section) int { return cmp.Compare(a.Run, b.Run) })
	for _, s := range sections {
		sameCommit := s.Data.Source.Commit == last.Data.Source.Commit && (s.Data.Closed == nil) == (last.Data.Closed == nil)
		if s.Run == last.Run || sameCommit {
			now = append(now, s)
		} else {
			old = append(old, s)
		}
	}
	return now, old
}

func document(sections []Section, d detail) string {
	now, old := split(sections)
	if len(now) == 0 {
		return "### imgbake\n\nNothing was baked.\n"
	}
	w := &writer{detail: d}
	var images []Image
	for _, s := range now {
		images = append(images, s.Data.Images...)
	}
	closed := closedOf(now)
	w.title(images, closed, hasErrors(now))
	if closed != nil {
		w.closed(*closed)
	}
	w.sources(now)
	w.problems(now)
	w.table(images)
	w.commands(images)
	w.about(images)
	w.picture(now)
	w.earlier(old)
	w.foot(now)
	return w.String()
}

func hasErrors(sections []Section) bool {
	return slices.ContainsFunc(sections, func(s Section) bool {
		return slices.ContainsFunc(s.Data.Problems, func(p Problem) bool { return !p.Warning })
	})
}

func closedOf(sections []Section) *Closed {
	for _, s := range sections {
		if s.Data.Closed != nil {
			return s.Data.Closed
		}
	}
	return nil
}

// writer writes the parts of a document.
type writer struct {
	strings.Builder
	detail detail
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
}

func (w *writer) title(images []Image, closed *Closed, broken bool) {
	var done, failed, skipped int
	for _, im := range images {
		switch im.Status {
		case Failed:
			failed++
		case Skipped:
			skipped++
		default:
			done++
		}
	}
	var said []string
	switch {
	case len(images) == 0 && broken:
		said = append(said, "Nothing was baked")
	case done > 0 || failed+skipped == 0:
		said = append(said, count(done, "image")+" baked")
	}
	if failed > 0 {
		said = append(said, fmt.Sprintf("%d failed", failed))
	}
	if skipped > 0 {
		said = append(said, fmt.Sprintf("%d skipped", skipped))
	}
	icon := "📦"
	switch {
	case failed > 0, len(images) == 0 && broken:
		icon = "❌"
	case closed != nil:
		icon, said = "🧹", []string{closed.title()}
	}
	w.line("### %s %s\n", icon, strings.Join(said, ", "))
}

func (c Closed) title() string {
	switch {
	case c.DryRun:
		return "A dry run: no preview is deleted"
	case len(c.Left) > 0 && len(c.Deleted) > 0:
		return "Some previews are deleted"
	case len(c.Left) > 0:
		return "The previews could not be deleted"
	case len(c.Deleted) > 0:
		return "The previews are deleted"
	}
	return "There were no previews to delete"
}

func (w *writer) closed(c Closed) {
	how := "closed"
	if c.Merged {
		how = "merged"
	}
	w.line("This pull request was %s.", how)
	done := "Deleted"
	if c.DryRun {
		done = "Would be deleted"
	}
	w.list(done, c.Deleted)
	if len(c.Left) > 0 {
		w.line("\n| Left | Because |\n|:--|:--|")
		for _, l := range cut(c.Left, maxList) {
			w.line("| %s | %s |", code(l.Tag), text(l.Why))
		}
		w.more(len(c.Left)-maxList, "tag")
	}
	w.line("")
}

func (w *writer) list(title string, values []string) {
	if len(values) > 0 {
		w.line("\n**%s:** %s", title, codes(values, maxList, ", "))
	}
}

func (w *writer) more(n int, what string) {
	if n > 0 {
		w.line("\n_… and %s more._", count(n, what))
	}
}

// codes shows values in a row.
func codes(values []string, most int, between string) string {
	var out []string
	for _, v := range cut(values, most) {
		out = append(out, code(v))
	}
	if more := len(values) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("… %d more", more))
	}
	return strings.Join(out, between)
}

// problems are in a box of their own: errors in one, warnings in another.
func (w *writer) problems(sections []Section) {
	for _, box := range []struct {
		kind    string
		warning bool
	}{{"CAUTION", false}, {"WARNING", true}} {
		var lines []string
		for _, s := range sections {
			for _, p := range s.Data.Problems {
				if line := p.line(); p.Warning == box.warning && !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
		if len(lines) == 0 {
			continue
		}
		w.line("> [!%s]", box.kind)
		for _, line := range cut(lines, w.detail.problems) {
			w.line("> - %s", line)
		}
		if more := len(lines) - w.detail.problems; more > 0 {
			w.line("> - … %s more", count(more, "problem"))
		}
		w.line("")
	}
}

func (p Problem) line() string {
	s := text(p.Text)
	if p.Place != "" {
		s = link(code(p.Place), p.URL) + ": " + s
	}
	if p.Hint != "" {
		s += "<br><i>" + text(p.Hint) + "</i>"
	}
	return s
}

func (w *writer) details(summary string, body func()) {
	w.line("<details><summary>%s</summary>\n", summary)
	body()
	w.line("\n</details>\n")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
