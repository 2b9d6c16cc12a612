package plan

import (
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// Make plans a template. The scope returned beside the plan has every value,
// secrets too, for the expressions that the plan leaves to the run; Secrets
// lists those that must not be shown. The problems are all there are; with an
// error among them the plan is incomplete and must not be run.
func Make(t template.Template, r vars.Resolved, c bake.Catalog, f Facts, o Options) (Plan, value.Scope, diag.List) {
	p := &planner{
		template: t, facts: f,
		builders:     index("builder", c.Builders),
		provisioners: index("provisioner", c.Provisioners),
		posts:        index("post-processor", c.Posts),
		byName:       map[string]*image{}, digested: map[string]digested{},
		full: value.Scope{}.With(f.Entries()).With(r.Scope()),
	}
	p.asked = o.Platforms
	p.evalLocals(t.Locals)
	p.full = p.full.With(map[string]value.Entry{late: {}})
	p.base = p.full.Plan()

	out := Plan{Version: 1, Template: t.File, Format: t.Format, Variables: variables(r), Images: []Image{}}
	if len(t.Images) == 0 {
		p.problems.Add(diag.Pos{File: t.File}, "", "the template has no image to bake")
	}
	out.Cache = p.cache(t.Cache)
	if p.link() {
		p.inherit()
		p.choose(o)
		p.bakeAll()
		out.Images = p.assemble()
		p.collisions()
	}
	p.problems.Sort()
	return out, p.full, p.problems
}

type planner struct {
	template                      template.Template
	facts                         Facts
	builders, provisioners, posts kinds
	full                          value.Scope // with secrets
	base                          value.Scope // without: what the plan may see
	images                        []*image    // parents first, once linked
	byName                        map[string]*image
	names                         []string
	except                        []*pattern
	asked                         []string // platforms, by the user
	digested                      map[string]digested
	pushes                        []pushed
	problems                      diag.List
}

// bakeAll plans the bakes that are needed. Children come first: what they turn
// out to need is marked before its turn comes.
func (p *planner) bakeAll() {
	for _, img := range slices.Backward(p.images) {
		for _, b := range img.builders {
			if b.needed {
				p.bake(b)
			}
		}
	}
}

// need marks a bake as one that another one needs.
func (b *builder) need() string {
	b.needed = true
	return b.bakeName()
}

func (p *planner) assemble() []Image {
	out := []Image{}
	for _, img := range p.images {
		made := Image{Name: img.tmpl.Name, Description: img.tmpl.Description, From: img.tmpl.From}
		for _, b := range img.builders {
			if b.bake != nil {
				b.bake.Platform = b.bakedFor()
				made.Bakes = append(made.Bakes, *b.bake)
			}
		}
		made.Indexes = img.indexes()
		if len(made.Bakes) > 0 {
			out = append(out, made)
		}
	}
	return out
}

// bakedFor is the bake's own platform, or else that of what it is made from.
func (b *builder) bakedFor() string {
	for ; b != nil; b = b.parent {
		if b.bake != nil && b.bake.Platform != "" {
			return b.bake.Platform
		}
	}
	return ""
}

func variables(r vars.Resolved) []Variable {
	var out []Variable
	for _, v := range r.Variables {
		shown := Variable{Name: v.Name, Source: v.Source, Sensitive: v.Sensitive, Default: v.IsDefault}
		if !v.Sensitive {
			shown.Value = v.Value
		}
		out = append(out, shown)
	}
	return out
}
