package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// image is an image of the template with what it is made from resolved.
type image struct {
	tmpl      *template.Image
	from      *image
	fromBad   bool   // From names no image: reported, so what follows from it is not
	edges     []edge // every image that must be baked before, from among them
	builders  []*builder
	shared    *imageParts
	platforms []string     // none: the builders' own
	steps     []sharedStep // one for each provisioner
	state     state
}

// edge is a reason for one image to be baked before another.
type edge struct {
	to  *image
	pos diag.Pos
}

type state int

const (
	untouched state = iota
	visiting
	done
)

// builder is one bake to be, selected or not.
type builder struct {
	template.Builder
	image    *image
	name     string
	typ      string
	body     value.Node // of an inherited builder: the parent's less its source
	parent   *builder   // whose image it starts from
	platform string     // of the image's platforms; empty: the builder's own
	family   *family    // with its brothers for other platforms; nil: there are none
	selected bool       // by -only and -except
	needed   bool       // selected, or an ancestor of one that is
	bake     *Bake
}

// bakeName is the name of a bake for people: image.builder, or the builder
// alone where images have no names, and @platform where there are several.
func (b *builder) bakeName() string {
	if b.family != nil {
		return b.familyName() + "@" + b.platform
	}
	return b.familyName()
}

// called reports whether the template means this builder by the name: its own,
// the expression that makes it, or the platform, alone or after the name.
func (b *builder) called(name string) bool {
	return name == b.name || name == b.Name || b.platform != "" && (name == b.platform || name == b.name+"@"+b.platform)
}

// link finds what every image is made from, and puts the images in an order in
// which they can be baked. It reports false where there is none.
func (p *planner) link() bool {
	for i := range p.template.Images {
		img := &image{tmpl: &p.template.Images[i]}
		p.images = append(p.images, img)
		name := img.tmpl.Name
		if name == "" {
			continue
		}
		if first, dup := p.byName[name]; dup {
			p.twice("image", name, img.tmpl.Pos, first.tmpl.Pos)
			continue
		}
		p.byName[name] = img
		p.names = append(p.names, name)
	}
	for _, img := range p.images {
		p.linkFrom(img)
		p.linkReads(img)
	}
	o := order{planner: p}
	for _, img := range p.images {
		if img.state == untouched {
			o.visit(img)
		}
	}
	p.images = o.images
	return !o.cyclic
}

func (p *planner) linkFrom(img *image) {
	name := img.tmpl.From
	if name == "" {
		return
	}
	from, ok := p.byName[name]
	if !ok {
		img.fromBad = true
		p.problems.Add(img.tmpl.FromPos, diag.Suggest(name, p.names), "image %q is made from %q, which is no image of this template", img.tmpl.Name, name)
		return
	}
	img.from = from
	img.edges = append(img.edges, edge{from, img.tmpl.FromPos})
}

// readKey is the key by which a provisioner names an image to copy files from.
const readKey = "from"

// linkReads adds the images of this template that the steps copy files from.
func (p *planner) linkReads(img *image) {
	for _, pr := range img.tmpl.Provisioners {
		body, _ := pr.Body.V.(value.Object)
		m, ok := body.Get(readKey)
		if !ok {
			continue
		}
		n, _ := value.Eval(m.Node, p.base)
		name, _ := n.V.(string)
		if read, ok := p.byName[name]; ok {
			img.edges = append(img.edges, edge{read, m.Pos})
		}
	}
}

// order sorts images so that each comes after those it needs, and otherwise as
// in the template.
type order struct {
	planner *planner
	images  []*image
	path    []*image
	cyclic  bool
}

func (o *order) visit(img *image) {
	img.state = visiting
	o.path = append(o.path, img)
	for _, e := range img.edges {
		switch e.to.state {
		case untouched:
			o.visit(e.to)
		case visiting:
			o.cycle(e)
		}
	}
	o.path = o.path[:len(o.path)-1]
	img.state = done
	o.images = append(o.images, img)
}

func (o *order) cycle(closing edge) {
	o.cyclic = true
	loop := o.path[slices.Index(o.path, closing.to):]
	var names, places []string
	for i, img := range loop {
		next := loop[(i+1)%len(loop)]
		names = append(names, img.tmpl.Name)
		at := slices.IndexFunc(img.edges, func(e edge) bool { return e.to == next })
		places = append(places, fmt.Sprintf("%s needs %s at %s", img.tmpl.Name, next.tmpl.Name, img.edges[at].pos))
	}
	o.planner.problems.Add(closing.pos, strings.Join(places, ", "), "images go round in a circle: %s -> %s", strings.Join(names, " -> "), loop[0].tmpl.Name)
}

// inherit finds every image's builders, parents first.
func (p *planner) inherit() {
	for _, img := range p.images {
		img.platforms = p.platforms(img)
		list := img.tmpl.Builders
		switch {
		case len(list) > 0:
		case img.from != nil:
			for _, b := range img.from.builders {
				if b.family != nil && b.family.bakes[0] != b {
					continue
				}
				list = append(list, template.Builder{
					Component: template.Component{Type: b.typ, Pos: img.tmpl.FromPos}, Name: b.name, NamePos: img.tmpl.FromPos, Inherit: true,
				})
			}
		case !img.fromBad:
			p.problems.Add(img.tmpl.Pos, "add builders, or from: with another image of the template", "%s has no builder", img.label())
		}
		for _, b := range list {
			p.addBuilder(img, b)
		}
	}
	p.uniqueNames()
}

// label names the image for a message.
func (img *image) label() string {
	if img.tmpl.Name == "" {
		return "the template"
	}
	return fmt.Sprintf("image %q", img.tmpl.Name)
}

func (p *planner) addBuilder(img *image, t template.Builder) {
	b := &builder{Builder: t, image: img, name: p.builderName(t), typ: t.Type, body: t.Body}
	if b.typ == "" {
		b.typ = b.name
	}
	if t.Inherit && img.from != nil {
		if of := img.from.called(b.name); of != nil {
			b.typ = of.typ
			b.body = p.builders.byName[of.typ].withoutSources(of.body)
		}
	}
	p.addPlatforms(b)
}

// called is the image's builder with the name, or nil.
func (img *image) called(name string) *builder {
	for _, b := range img.builders {
		if b.called(name) {
			return b
		}
	}
	return nil
}

func (p *planner) builderName(t template.Builder) string {
	if t.NameOf.V == nil {
		return t.Name
	}
	name, ok := value.Text(p.eval(t.NameOf, p.base))
	if !ok {
		p.problems.Add(t.NamePos, "a name is known before the run: no secret and no build.* in it", "the builder's name %s is no text", t.Name)
		return t.Name
	}
	return name
}

// parent is the bake of another image that a builder goes with: for the same
// platform, and of the same name, else the only one of the same type, else the
// only one. strict leaves out images that do not say what platform they are for.
func (p *planner) parent(b *builder, from *image, strict bool) *builder {
	candidates := matching(from.builders, b.platform)
	if len(candidates) == 0 && !strict && len(from.platforms) == 0 {
		candidates = from.builders
	}
	if len(candidates) == 0 && len(from.builders) > 0 {
		p.noPlatform(b, from)
		return nil
	}
	all := candidates
	for _, fits := range []func(*builder) bool{
		func(other *builder) bool { return other.called(b.name) },
		func(other *builder) bool { return other.typ == b.typ },
	} {
		var fitting []*builder
		for _, other := range all {
			if fits(other) {
				fitting = append(fitting, other)
			}
		}
		if len(fitting) == 1 {
			return fitting[0]
		}
		if len(fitting) > 0 {
			candidates = fitting
			break
		}
	}
	if len(candidates) == 1 {
		return candidates[0]
	}
	if len(candidates) > 1 {
		names := make([]string, len(all))
		for i, other := range all {
			names[i] = other.name
			if other.family != nil {
				names[i] += "@" + other.platform
			}
		}
		p.problems.Add(b.NamePos, fmt.Sprintf("give it the name of one of them: %s", strings.Join(names, ", ")),
			"builder %q could start from several bakes of image %q", b.name, from.tmpl.Name)
	}
	return nil
}

// uniqueNames reports bakes that could not be told apart.
func (p *planner) uniqueNames() {
	seen := map[string]*builder{}
	for _, img := range p.images {
		for _, b := range img.builders {
			name := b.bakeName()
			if first, dup := seen[name]; dup {
				p.twice("builder", b.name, b.NamePos, first.NamePos)
				continue
			}
			seen[name] = b
		}
	}
}
