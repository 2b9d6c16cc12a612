package plan

import (
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Index is what the bakes of one image and builder, one a platform, become
// together: one image for several platforms.
type Index struct {
	Name    string   `json:"name"` // image.builder
	Builder string   `json:"builder"`
	Pos     diag.Pos `json:"pos,omitzero"`
	Bakes   []string `json:"bakes"` // by name, in the order of the platforms
	Publish []Target `json:"publish,omitempty"`
}

// family is one builder's bakes for several platforms.
type family struct {
	bakes   []*builder
	planned bool // the targets are
	targets []Target
}

// platforms are those an image is baked for: what the user asked for, or else
// what the template says, or else those of the image it is made from. None:
// each builder's own.
func (p *planner) platforms(img *image) []string {
	list, pos := p.asked, diag.Pos{}
	if len(list) == 0 {
		list, pos = p.platformsKey(img), img.tmpl.Platforms.Pos
	}
	if len(list) == 0 && img.from != nil {
		return img.from.platforms
	}
	var out []string
	for _, text := range slices.DeleteFunc(list, func(text string) bool { return text == "" }) {
		platform, ok := p.parsePlatform(text, pos)
		switch {
		case !ok: // told
		case slices.Contains(out, platform):
			p.problems.Add(pos, "", "platform %q is given twice", text)
		default:
			out = append(out, platform)
		}
	}
	return out
}

// platformsKey is the image's own list; one platform may go without a list.
func (p *planner) platformsKey(img *image) []string {
	n := img.tmpl.Platforms
	if n.V == nil {
		return nil
	}
	if n = p.eval(n, p.base); n.V == nil {
		return nil
	}
	if _, isList := n.V.(value.List); !isList {
		n = value.Node{Pos: n.Pos, V: value.List{n}}
	}
	keys := struct {
		Platforms []string `key:"platforms" opt:"known"`
	}{}
	_, problems := value.Decode(value.Node{Pos: n.Pos, V: value.Object{{Key: "platforms", KeyPos: n.Pos, Node: n}}}, &keys)
	p.problems.Append(problems)
	return keys.Platforms
}

func (p *planner) parsePlatform(text string, pos diag.Pos) (string, bool) {
	platform, err := v1.ParsePlatform(text)
	if err != nil || platform.OS == "" || platform.Architecture == "" || strings.ContainsAny(text, "@:*?[]\\ ") {
		p.problems.Add(pos, "write os/arch or os/arch/variant, such as linux/arm64", "%q is no platform", text)
		return "", false
	}
	return platform.String(), true
}

// addPlatforms adds a builder's bakes to the image: one, or one for each platform.
func (p *planner) addPlatforms(b *builder) {
	img := b.image
	platforms := img.platforms
	if len(platforms) > 0 && !p.builders.byName[b.typ].has(platformKey) {
		if len(p.asked) == 0 && p.builders.byName[b.typ].check != nil {
			p.problems.Add(b.Pos, "take platforms: away, or use another builder", "%s is for platforms, and builder %q knows none", img.label(), b.name)
		}
		platforms = nil
	}
	if len(platforms) == 0 {
		p.addBake(b)
		return
	}
	if own, ok := ownPlatform(b.body); ok {
		if len(p.asked) == 0 {
			p.problems.Add(own.KeyPos, "remove one of the two", "builder %q has a platform, and %s has platforms", b.name, img.label())
		}
		b.body = withoutKey(b.body, platformKey)
	}
	members := &family{}
	for _, platform := range platforms {
		one := *b
		one.platform = platform
		if len(platforms) > 1 {
			one.family = members
			members.bakes = append(members.bakes, &one)
		}
		p.addBake(&one)
	}
}

// addBake adds one bake to its image, and finds what it starts from.
func (p *planner) addBake(b *builder) {
	if b.image.from != nil {
		b.parent = p.parent(b, b.image.from, true)
	}
	b.image.builders = append(b.image.builders, b)
}

// has reports whether the kind's config has the key.
func (k kind) has(key string) bool {
	return slices.ContainsFunc(k.fields, func(f value.Field) bool { return f.Key == key })
}

func ownPlatform(body value.Node) (value.Member, bool) {
	object, _ := body.V.(value.Object)
	m, ok := object.Get(platformKey)
	return m, ok && m.V != nil
}

func withoutKey(body value.Node, key string) value.Node {
	object, _ := body.V.(value.Object)
	body.V = object.Without(key)
	return body
}

// matching are the bakes of an image that a bake for the platform can go with.
// An image without platforms goes with none: whether it is for this one is not
// known before the run.
func matching(list []*builder, platform string) []*builder {
	var out []*builder
	for _, b := range list {
		if platform == "" || b.platform == platform {
			out = append(out, b)
		}
	}
	return out
}

// noPlatform reports that an image is not baked for a platform that a bake of
// another one needs.
func (p *planner) noPlatform(b *builder, of *image) {
	pos := b.image.tmpl.Platforms.Pos
	if pos.IsZero() {
		pos = b.NamePos
	}
	p.problems.Add(pos, "give that image the same platforms", "%s is for %s, and image %q, which it needs, is not", b.image.label(), b.platform, of.tmpl.Name)
}

// familyName is the bake's name, and that of its brothers for other platforms.
func (b *builder) familyName() string {
	if b.image.tmpl.Name == "" {
		return b.name
	}
	return b.image.tmpl.Name + "." + b.name
}

// patterned are the names by which -only and -except know a bake.
func (b *builder) patterned() []string {
	names := []string{b.image.tmpl.Name, b.name, b.familyName()}
	if b.family != nil {
		names = append(names, b.bakeName(), b.name+"@"+b.platform)
	}
	return names
}

// publishing plans where the bake is published. One of several platforms is
// pushed by digest only: tags are moved to their index.
func (p *planner) publishing(c *baking) []Target {
	f := c.b.family
	if f == nil {
		return p.targets(c)
	}
	if !f.planned {
		f.planned = true
		shared := &baking{b: c.b, facts: bakeFacts(c.b), base: c.base}
		delete(shared.facts, platformFact)
		f.targets = p.targets(shared)
	}
	var out []Target
	for _, t := range f.targets {
		t.Tags = nil
		out = append(out, t)
	}
	return out
}

// index is the family's, if all of it is baked for its own sake: tags that
// moved to a part of the platforms would take the others away.
func (f *family) index() (Index, bool) {
	first := f.bakes[0]
	out := Index{Name: first.familyName(), Builder: first.name, Pos: first.Pos, Publish: f.targets}
	for _, b := range f.bakes {
		if b.bake == nil || !b.selected {
			return out, false
		}
		out.Bakes = append(out.Bakes, b.bake.Name)
	}
	return out, true
}

// indexes are those of an image.
func (img *image) indexes() []Index {
	var out []Index
	for _, b := range img.builders {
		if b.family == nil || b.family.bakes[0] != b {
			continue
		}
		if index, ok := b.family.index(); ok {
			out = append(out, index)
		}
	}
	return out
}
