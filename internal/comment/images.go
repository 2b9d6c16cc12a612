package comment

import (
	"fmt"
	"slices"
	"strings"
)

var icons = map[Status]string{Done: "✅", Cached: "✅", Failed: "❌", Skipped: "⏭️"}

func icon(s Status) string {
	if i, ok := icons[s]; ok {
		return i
	}
	return "❔"
}

// table is one row an image.
func (w *writer) table(images []Image) {
	if len(images) == 0 {
		return
	}
	against, change := "", func(Image) string { return "" }
	if i := slices.IndexFunc(images, func(im Image) bool { return im.Before != nil }); i >= 0 {
		against, change = " Against "+optional(images[i].Before.Name)+" |", func(im Image) string { return " " + im.change() + " |" }
	}
	w.line("| | Image | Platform | Size |%s Cached | Time |", against)
	w.line("|:-:|:--|:--|--:|%s:-:|--:|", strings.Repeat("--:|", min(1, len(against))))
	for _, im := range cut(images, w.detail.images) {
		w.line("| %s | %s | %s | %s |%s %s | %s |", icon(im.Status), im.cell(), orDash(im.Platform), im.size(),
			change(im), im.cache(), duration(im.Seconds))
	}
	w.more(len(images)-w.detail.images, "image")
	w.line("")
}

// cell is the name with what people look for first: the tag, or why there is
// none.
func (im Image) cell() string {
	s := "**" + code(im.Name) + "**"
	switch {
	case im.Reason != "":
		s += "<br>" + text(shorten(im.Reason, 200))
	case len(im.Tags) > 0:
		s += "<br>" + code(im.Tags[0])
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return code(s)
}

func (im Image) size() string {
	if im.Status != Done {
		return "–"
	}
	return size(im.Size)
}

func (im Image) change() string {
	switch {
	case im.Status != Done || im.Size == 0 || im.Before == nil:
		return "–"
	case im.Before.Size == 0:
		return "new"
	case im.Before.Digest != "" && im.Before.Digest == im.Digest:
		return "same image"
	case im.Before.SameFiles:
		return "same files"
	}
	by := im.Size - im.Before.Size
	switch {
	case by == 0:
		return "± 0"
	case by < 0:
		return fmt.Sprintf("−%s (−%s)", size(-by), percent(-by, im.Before.Size))
	}
	mark := ""
	if by >= im.Before.Size/20 { // of note: a twentieth
		mark = "🔺\u00a0"
	}
	return fmt.Sprintf("%s+%s (+%s)", mark, size(by), percent(by, im.Before.Size))
}

func percent(part, whole int64) string {
	p := 100 * float64(part) / float64(whole)
	if p >= 10 {
		return fmt.Sprintf("%.0f\u00a0%%", p)
	}
	return fmt.Sprintf("%.1f\u00a0%%", p)
}

func (im Image) cache() string {
	if im.Steps == 0 {
		return "–"
	}
	return fmt.Sprintf("%d of\u00a0%d", im.Cached, im.Steps)
}

func size(n int64) string {
	if n <= 0 {
		return "–"
	}
	v, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, next
	}
	if v < 99.95 && unit != "B" {
		return fmt.Sprintf("%.1f\u00a0%s", v, unit)
	}
	return fmt.Sprintf("%.0f\u00a0%s", v, unit)
}

func duration(s float64) string {
	switch {
	case s <= 0:
		return "–"
	case s < 60:
		return fmt.Sprintf("%.1f\u00a0s", s)
	case s < 3600:
		return fmt.Sprintf("%d\u00a0min %d\u00a0s", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d\u00a0h %d\u00a0min", int(s)/3600, int(s)%3600/60)
}

// commands are for copying: GitHub puts a button on every block.
func (w *writer) commands(images []Image) {
	var lines []string
	for _, im := range images {
		if im.Run != "" && len(lines) < 5 && w.detail.about > 0 {
			lines = append(lines, im.Run)
		}
	}
	if len(lines) > 0 {
		w.line("%s", block("sh", lines...))
	}
}

// about tells of every image what has no room in the table.
func (w *writer) about(images []Image) {
	told := 0
	for _, im := range images {
		if told >= w.detail.about || len(im.Tags) == 0 && im.Digest == "" && im.Packages == nil && im.Base == "" && len(im.Output) == 0 {
			continue
		}
		told++
		summary := "<b>" + htmlCode(im.Name) + "</b>"
		if im.Platform != "" {
			summary += " " + htmlCode(im.Platform)
		}
		switch {
		case len(im.Output) > 0:
			summary += ": what it said last"
		case im.Packages != nil:
			summary += ": " + im.Packages.summary()
		}
		w.details(summary, func() { w.image(im) })
	}
}

func (w *writer) image(im Image) {
	rule := "\n|:--|:--|" // below the first row, which is the head
	row := func(name, value string) {
		if value != "" {
			w.line("| %s | %s |%s", name, value, rule)
			rule = ""
		}
	}
	row("Digest", optional(im.Digest))
	row("Tags", codes(im.Tags, 20, "<br>"))
	if im.Before != nil {
		row("Before", strings.TrimSpace(optional(im.Before.Name)+" "+optional(im.Before.Digest)))
	}
	if im.Base != "" {
		row("Base image", strings.TrimSuffix(code(im.Base)+"<br>"+optional(im.BaseDigest), "<br>"))
	}
	row("Builder", optional(im.Builder))
	if len(im.Output) > 0 {
		w.line("\n%s", strings.TrimSuffix(output(im.Output), "\n"))
	}
	if im.Verify != "" {
		w.line("\nFetch it, checked against the digest. It is not signed.\n\n%s", strings.TrimSuffix(block("sh", im.Verify), "\n"))
	}
	if im.Packages != nil {
		w.packages(*im.Packages)
	}
}

func optional(s string) string {
	if s == "" {
		return ""
	}
	return code(s)
}

// summary counts the changes; it is HTML as well as Markdown.
func (p Packages) summary() string {
	var added, removed, changed int
	for _, c := range p.Changes {
		switch {
		case c.Old == "":
			added++
		case c.New == "":
			removed++
		default:
			changed++
		}
	}
	var out []string
	if p.Total > 0 {
		out = append(out, count(p.Total, "package"))
	}
	for _, n := range []struct {
		n    int
		what string
	}{{added, "added"}, {removed, "removed"}, {changed, "changed"}, {p.More, "more changes"}} {
		if n.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	if len(p.Changes)+p.More == 0 && p.Against != "" {
		out = append(out, "no package changed")
	}
	return strings.Join(out, ", ")
}

func (w *writer) packages(p Packages) {
	if len(p.Changes) == 0 || w.detail.packages == 0 {
		return
	}
	if p.Against != "" {
		w.line("\nPackages against %s:", code(p.Against))
	}
	w.line("\n| | Package | Before | Now |\n|:-:|:--|:--|:--|")
	for _, c := range cut(p.Changes, w.detail.packages) {
		sign := "🔄"
		switch {
		case c.Old == "":
			sign = "➕"
		case c.New == "":
			sign = "➖"
		}
		w.line("| %s | %s | %s | %s |", sign, code(c.Name), optional(c.Old), optional(c.New))
	}
	w.more(max(0, len(p.Changes)-w.detail.packages)+p.More, "change")
}
