package plan

import (
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/value"
)

// bake plans one builder's work on its image.
func (p *planner) bake(b *builder) {
	img := b.image
	facts := bakeFacts(b)
	c := baking{b: b, facts: facts, base: p.base}
	b.bake = &Bake{
		Name: b.bakeName(), Image: img.tmpl.Name, Builder: b.name, Type: b.typ, Pos: b.Pos, Ancestor: !b.selected,
		Body: p.eval(b.body, c.scopeFor(b.body)), Epoch: p.facts.Epoch, Facts: facts,
	}
	if b.parent != nil {
		b.bake.From = b.parent.need()
	}
	p.builderBody(b)
	if b.bake.Platform = b.platform; b.platform == "" {
		b.bake.Platform = p.platformOf(b)
	}
	p.steps(&c)
	if b.selected {
		p.sequences(&c)
		b.bake.Publish = p.publishing(&c)
	}
	parts := p.parts(&c)
	b.bake.Config, b.bake.Layers, b.bake.Compression, b.bake.Keep = parts.config, parts.layers, parts.compression, parts.keep
}

// baking is one bake while it is planned.
type baking struct {
	b     *builder
	facts map[string]any
	base  value.Scope
	own   *value.Scope // base with the bake's facts, once something needs them
}

// scopeFor is the scope to evaluate the nodes in.
func (c *baking) scopeFor(nodes ...value.Node) value.Scope {
	if !perBake(nodes...) {
		return c.base
	}
	if c.own == nil {
		entries := make(map[string]value.Entry, len(c.facts))
		for name, v := range c.facts {
			entries[name] = value.Known(v)
		}
		own := c.base.With(entries)
		c.own = &own
	}
	return *c.own
}

func (p *planner) builderBody(b *builder) {
	k, ok := p.find(p.builders, b.typ, b.Pos)
	if !ok {
		return
	}
	before := len(p.problems)
	b.bake.Inputs = p.check(k, b.Component, b.bake.Body).inputs
	p.source(b, k, p.problems[before:].HasErrors())
}

// source checks that the bake starts from one thing: another image, or what
// one of the builder's own keys names. In a body with mistakes a key that is
// missing may be one that is misspelt.
func (p *planner) source(b *builder, k kind, mistakes bool) {
	given := k.given(b.bake.Body)
	from := b.image.tmpl.From
	switch {
	case len(k.sources) == 0 || b.image.fromBad:
	case from != "" && len(given) > 0:
		p.problems.Add(given[0].KeyPos, "remove one of the two", "%q gives builder %q a source, but image %q is made from %q",
			given[0].Key, b.name, b.image.tmpl.Name, from)
	case from == "" && len(given) == 0 && mistakes:
	case from == "" && len(given) == 0:
		p.problems.Add(b.Pos, "give it one of: "+strings.Join(k.sources, ", "), "builder %q has no source", b.name)
	case from == "" && len(given) > 1:
		p.problems.Add(given[1].KeyPos, "remove one of the two", "builder %q has two sources, %q and %q", b.name, given[0].Key, given[1].Key)
	}
}

// platformKey is the key by which a builder names the platform it bakes for.
const platformKey = "platform"

func (p *planner) platformOf(b *builder) string {
	body, _ := b.bake.Body.V.(value.Object)
	m, ok := body.Get(platformKey)
	text, isText := m.V.(string)
	if !ok || !isText || text == "" {
		return ""
	}
	platform, _ := p.parsePlatform(text, m.Pos)
	return platform
}

// imageParts are the settings of an image that its bakes share.
type imageParts struct {
	config      bake.ImageConfig
	layers      string
	compression bake.Compression
	keep        []string
}

// parts reads the image's settings, once where they are the same for all bakes.
func (p *planner) parts(c *baking) imageParts {
	img := c.b.image
	settings := []value.Node{img.tmpl.Config, img.tmpl.Layers, img.tmpl.Compression, img.tmpl.Keep}
	own := perBake(settings...)
	if !own && img.shared != nil {
		return *img.shared
	}
	s := c.scopeFor(settings...)
	all := struct {
		Config      bake.ImageConfig `key:"config"`
		Layers      string           `key:"layers" opt:"known,enum=step|squash"`
		Compression bake.Compression `key:"compression" opt:"known,enum=gzip|zstd"`
		Keep        []string         `key:"keep" opt:"known"`
	}{Layers: "step"}
	object := value.Object{}
	for key, n := range map[string]value.Node{
		"config": img.tmpl.Config, "layers": img.tmpl.Layers, "compression": img.tmpl.Compression, "keep": img.tmpl.Keep,
	} {
		if n.V != nil {
			object = append(object, value.Member{Key: key, Node: p.eval(n, s)})
		}
	}
	where, problems := value.Decode(value.Node{Pos: img.tmpl.Pos, V: object}, &all)
	p.problems.Append(problems)
	p.imageConfig(all.Config, where)
	if all.Compression == bake.Gzip {
		all.Compression = "" // one plan, and one key, for what is the same
	}
	img.shared = &imageParts{all.Config, all.Layers, all.Compression, all.Keep}
	return *img.shared
}
