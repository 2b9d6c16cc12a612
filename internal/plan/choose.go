package plan

import (
	"path"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
)

// Options is what the user chose of the template. Patterns are exact names or
// globs over an image, a builder, or image.builder, and image.builder@platform
// where an image is for several.
type Options struct {
	Only   []string // nothing: all
	Except []string // leaves out post-processors of the name too

	Platforms []string // to bake for, in place of those of the images; none: those
}

// pattern is one -only or -except pattern and whether it was of use.
type pattern struct {
	text string
	used bool
}

// matches reports whether the pattern means one of the names, and notes it.
func (g *pattern) matches(names ...string) bool {
	for _, name := range names {
		if name == "" {
			continue
		}
		if g.text == name || globbed(g.text, name) {
			g.used = true
			return true
		}
	}
	return false
}

// globbed reports whether the glob means the name. The slashes of a platform
// are letters like others.
func globbed(glob, name string) bool {
	if strings.Contains(name, "@") {
		glob, name = strings.ReplaceAll(glob, "/", ":"), strings.ReplaceAll(name, "/", ":")
	}
	ok, _ := path.Match(glob, name)
	return ok
}

func anyMatches(patterns []*pattern, names ...string) bool {
	found := false
	for _, g := range patterns { // all of them, to know which are of use
		found = g.matches(names...) || found
	}
	return found
}

// choose marks the bakes that the user wants.
func (p *planner) choose(o Options) {
	only, except := p.patterns("-only", o.Only), p.patterns("-except", o.Except)
	p.except = except
	wanted := 0
	for _, b := range p.all() {
		names := b.patterned()
		b.selected = len(only) == 0 || anyMatches(only, names...)
		if anyMatches(except, names...) {
			b.selected = false
		}
		b.needed = b.selected
		if b.selected {
			wanted++
		}
	}
	for _, t := range p.template.Images {
		for _, sequence := range t.Posts {
			for _, post := range sequence {
				anyMatches(except, postName(post))
			}
		}
	}
	p.unused("-only", only)
	p.unused("-except", except)
	if wanted == 0 && len(p.all()) > 0 && !p.problems.HasErrors() {
		p.problems.Add(diag.Pos{}, diag.Suggest("", p.patternNames()), "-only and -except leave nothing to bake")
	}
}

func (p *planner) patterns(flag string, texts []string) []*pattern {
	var out []*pattern
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if _, err := path.Match(text, ""); err != nil && !slices.Contains(p.patternNames(), text) {
			p.problems.Add(diag.Pos{}, "", "%s: %q is no valid pattern", flag, text)
			continue
		}
		out = append(out, &pattern{text: text})
	}
	return out
}

func (p *planner) unused(flag string, patterns []*pattern) {
	for _, g := range patterns {
		if !g.used {
			p.problems.Add(diag.Pos{}, diag.Suggest(g.text, p.patternNames()), "%s: nothing matches %q", flag, g.text)
		}
	}
}

// patternNames lists what patterns can match of images and bakes.
func (p *planner) patternNames() []string {
	names := slices.Clone(p.names)
	for _, b := range p.all() {
		names = append(names, b.patterned()[1:]...)
	}
	return names
}

// all lists every builder of every image.
func (p *planner) all() []*builder {
	var out []*builder
	for _, img := range p.images {
		out = append(out, img.builders...)
	}
	return out
}

// postName is what -except knows a post-processor by: its name, or else its type.
func postName(post template.Post) string {
	if name, ok := commonText(post.Common, "name"); ok {
		return name
	}
	return post.Type
}
