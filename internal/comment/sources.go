package comment

import (
	"fmt"
	"slices"
	"strings"
)

// sources says where the images come from: once, as far as all jobs agree.
func (w *writer) sources(sections []Section) {
	var lines []string
	var all Source
	for _, s := range sections {
		from := s.Data.Source
		lines = union(lines, from.origin())
		all.Variables = union(all.Variables, from.Variables...)
		all.Secrets = union(all.Secrets, from.Secrets...)
		all.Capabilities = union(all.Capabilities, from.Capabilities...)
	}
	if len(all.Variables) > 0 {
		lines = append(lines, "**Variables** "+variables(all.Variables))
	}
	if len(all.Secrets) > 0 {
		lines = append(lines, "**Secrets** "+codes(all.Secrets, maxList, ", ")+" (names only)")
	}
	if len(all.Capabilities) > 0 {
		lines = append(lines, "⚠️ **The template asks for** "+codes(all.Capabilities, 20, ", "))
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	if len(lines) > 0 {
		w.line("%s\n", strings.Join(lines, "  \n"))
	}
}

// union adds what is not in a list yet.
func union[T comparable](list []T, more ...T) []T {
	for _, one := range more {
		if !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}

// origin is one line of links.
func (s Source) origin() string {
	var parts []string
	if s.Commit != "" {
		from := link(code(shortCommit(s.Commit)), s.CommitURL)
		if s.Repository != "" {
			from += " of " + link(code(s.Repository), s.RepositoryURL)
		}
		parts = append(parts, "**Commit** "+from)
	}
	if s.Run != "" {
		parts = append(parts, "**Run** "+link(code(s.Run), s.RunURL))
	}
	if s.Template != "" {
		template := "**Template** " + link(code(s.Template), s.TemplateURL)
		if s.TemplateDigest != "" {
			template += " " + code(shortDigest(s.TemplateDigest))
		}
		parts = append(parts, template)
	}
	return strings.Join(parts, " · ")
}

func variables(vs []Variable) string {
	var out []string
	for _, v := range cut(vs, maxList) {
		s := code(v.Name) + " = " + code(shorten(v.Value, 120))
		if v.From != "" {
			s += " (" + text(v.From) + ")"
		}
		out = append(out, s)
	}
	if more := len(vs) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("… %d more", more))
	}
	return strings.Join(out, ", ")
}

// shortCommit is how git shows a commit, somewhat longer.
func shortCommit(sha string) string {
	if r := []rune(sha); len(r) > 10 {
		return string(r[:10])
	}
	return sha
}

// shortDigest keeps enough to compare by eye; the whole one is in the record.
func shortDigest(d string) string {
	algorithm, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) < 20 {
		return d
	}
	return algorithm + ":" + hex[:12] + "…"
}

// maxDrawn is how many stages GitHub still draws, and people still read.
const maxDrawn = 100

// picture draws the stages.
func (w *writer) picture(sections []Section) {
	n, total := 0, 0.0
	for _, s := range sections {
		n += len(s.Data.Stages)
		for _, stage := range s.Data.Stages {
			total += stage.Seconds
		}
	}
	if n == 0 || n > maxDrawn || !w.detail.mermaid {
		return
	}
	w.details("How they were baked: "+count(n, "stage")+", "+duration(total)+" of work", func() {
		w.line("%s", block("mermaid", mermaid(sections)...))
	})
}

// mermaid is a flow chart. The nodes have made-up names, and labels in which
// all that could be syntax is written by its number.
func mermaid(sections []Section) []string {
	c := chart{ids: map[string]string{}, lines: []string{"flowchart LR"}}
	var jobs int
	for _, s := range sections {
		if len(s.Data.Stages) > 0 {
			jobs++
		}
	}
	for i, s := range sections {
		if jobs > 1 && len(s.Data.Stages) > 0 {
			c.add(`  subgraph job%d["%s"]`, i, mermaidLabel(s.Leg))
		}
		for _, stage := range s.Data.Stages {
			c.node(fmt.Sprint(i, stage.Name), "[", mermaidLabel(stage.Name)+"<br/>"+stageNote(stage), "]", class(stage.Status))
		}
		if jobs > 1 && len(s.Data.Stages) > 0 {
			c.add("  end")
		}
	}
	for i, s := range sections {
		for _, stage := range s.Data.Stages {
			for _, need := range stage.Needs {
				from := fmt.Sprint(i, need)
				if _, ok := c.ids[from]; !ok {
					from = "base " + need
					c.node(from, "([", mermaidLabel(need), "])", "base")
				}
				c.add("  %s --> %s", c.ids[from], c.ids[fmt.Sprint(i, stage.Name)])
			}
		}
	}
	return append(c.lines,
		"  classDef done fill:#dafbe1,stroke:#1a7f37,color:#1f2328",
		"  classDef cached fill:#ddf4ff,stroke:#0969da,color:#1f2328",
		"  classDef failed fill:#ffebe9,stroke:#cf222e,color:#1f2328",
		"  classDef skipped fill:#f6f8fa,stroke:#818b98,color:#59636e,stroke-dasharray:4",
		"  classDef base fill:#fff8c5,stroke:#9a6700,color:#1f2328")
}

// chart is a flow chart being written.
type chart struct {
	ids   map[string]string
	lines []string
}

// add adds a line, once.
func (c *chart) add(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); line == "  end" || !slices.Contains(c.lines, line) {
		c.lines = append(c.lines, line)
	}
}

func (c *chart) node(name, open, label, shut, class string) {
	if _, ok := c.ids[name]; !ok {
		c.ids[name] = fmt.Sprintf("n%d", len(c.ids))
		c.add(`  %s%s"%s"%s:::%s`, c.ids[name], open, label, shut, class)
	}
}

func class(s Status) string {
	if _, ok := icons[s]; ok {
		return string(s)
	}
	return string(Skipped)
}

func stageNote(s Stage) string {
	switch s.Status {
	case Done, Cached, Failed:
		took := strings.ReplaceAll(duration(s.Seconds), "\u00a0", " ")
		if s.Status == Done {
			return took
		}
		return string(s.Status) + ", " + took
	}
	return "skipped"
}

func mermaidLabel(s string) string {
	var b strings.Builder
	for _, r := range shorten(plain(s), 60) {
		if r == ' ' || r == '.' || r == '_' || r == '-' || r == '/' || r > 0x7f ||
			r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

// earlier folds away what jobs wrote for earlier commits and have not written
// again yet.
func (w *writer) earlier(old []Section) {
	if len(old) == 0 || w.detail.old == 0 {
		return
	}
	w.details("From earlier commits", func() {
		w.line("| Job | Commit | Images |\n|:--|:--|:--|")
		for _, s := range cut(old, w.detail.old) {
			var names []string
			for _, im := range s.Data.Images {
				names = append(names, icon(im.Status)+" "+im.short())
			}
			if s.Data.Closed != nil {
				names = append(names, "🧹 "+s.Data.Closed.title())
			}
			w.line("| %s | %s | %s |", code(s.Leg), link(orDash(shortCommit(s.Data.Source.Commit)), s.Data.Source.CommitURL),
				strings.Join(cut(names, 10), "<br>"))
		}
		w.more(len(old)-w.detail.old, "job")
	})
}

// short names an image and its digest.
func (im Image) short() string {
	return strings.TrimSpace(code(im.Name) + " " + optional(shortDigest(im.Digest)))
}

func (w *writer) foot(sections []Section) {
	if tool := sections[0].Data.Source.Tool; tool != "" {
		w.line("<sub>by %s</sub>", htmlCode(tool))
	}
}
