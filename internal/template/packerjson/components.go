package packerjson

import (
	"slices"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// The keys that are not the component's own.
var (
	builderKeys     = []string{"name"}
	provisionerKeys = []string{"only", "except", "override", "pause_before", "max_retries", "timeout", "cache", "cache_key", "env", "mounts"}
	postKeys        = []string{"name", "only", "except", "keep_input_artifact"}
)

// renamed lists the keys that `packer fix` changes in components we have.
var renamed = []struct {
	what, typ, old, now string // now is empty where the key has no use any more
}{
	{"builder", "docker", "login_email", ""},
	{"post-processor", "docker-push", "login_email", ""},
	{"post-processor", "manifest", "filename", "output"},
}

func (p *parser) readBuilders(n value.Node) {
	list, ok := p.list(n, "builders")
	if ok && len(list) == 0 {
		p.add(n, `write [{"type": "docker", ...}]`, "the template has no builders")
	}
	places := map[string]diag.Pos{}
	for _, item := range list {
		b, ok := p.builder(item)
		if !ok {
			continue
		}
		if first, twice := places[b.Name]; twice {
			p.problems.Add(b.NamePos, `give one of them another "name"; the first is at `+first.String(), "two builders are named %q", b.Name)
			continue
		}
		places[b.Name] = b.NamePos
		p.image.Builders = append(p.image.Builders, b)
	}
}

func (p *parser) builder(n value.Node) (template.Builder, bool) {
	c, common, ok := p.component(n, "builder", inBuilder, builderKeys)
	if !ok {
		return template.Builder{}, false
	}
	b := template.Builder{Component: c, Name: c.Type, NamePos: c.Pos}
	name, given := common.Get("name")
	if !given || name.V == nil || name.V == any(text{}) {
		return b, true
	}
	evaluated := p.interpolate(name.Node, inName)
	b.NamePos = name.Pos
	switch v := evaluated.V.(type) {
	case value.Expr:
		b.Name, b.NameOf = v.Source(), evaluated
	default:
		if b.Name, ok = value.Text(evaluated); !ok {
			p.add(evaluated, "", "the name of a builder must be a string, found %s", describe(evaluated))
		}
	}
	return b, ok
}

func (p *parser) readProvisioners(n value.Node) {
	list, _ := p.list(n, "provisioners")
	for _, item := range list {
		if provisioner, ok := p.provisioner(item); ok {
			p.image.Provisioners = append(p.image.Provisioners, provisioner)
		}
	}
}

func (p *parser) readCleanup(n value.Node) {
	if provisioner, ok := p.provisioner(n); ok {
		p.image.Cleanup = &provisioner
	}
}

func (p *parser) provisioner(n value.Node) (template.Provisioner, bool) {
	c, common, ok := p.component(n, "provisioner", inStep, provisionerKeys)
	p.onlyOrExcept(common)
	c.Common = p.interpolate(value.Node{Pos: n.Pos, V: common}, inStep)
	return template.Provisioner{Component: c}, ok
}

func (p *parser) readPosts(n value.Node) {
	list, _ := p.list(n, "post-processors")
	for _, item := range list {
		if sequence := p.sequence(item); len(sequence) > 0 {
			p.image.Posts = append(p.image.Posts, sequence)
		}
	}
}

func (p *parser) sequence(n value.Node) []template.Post {
	items, isList := n.V.(value.List)
	if !isList {
		items = value.List{n}
	} else if len(items) == 0 {
		p.add(n, "", "the sequence of post-processors is empty")
	}
	var out []template.Post
	for _, item := range items {
		if _, nested := item.V.(value.List); nested {
			p.add(item, "a list within post-processors is a sequence already", "a sequence cannot hold another sequence")
			continue
		}
		if post, ok := p.post(item); ok {
			out = append(out, post)
		}
	}
	return out
}

func (p *parser) post(n value.Node) (template.Post, bool) {
	if t, ok := n.V.(text); ok { // the type alone
		n.V = value.Object{{Key: "type", KeyPos: n.Pos, Node: value.Node{Pos: n.Pos, V: t}}}
	}
	c, common, ok := p.component(n, "post-processor", inStep, postKeys)
	p.onlyOrExcept(common)
	c.Common = p.interpolate(value.Node{Pos: n.Pos, V: common}, inStep)
	return template.Post{Component: c}, ok
}

// component splits an object into its type, the common keys named and the
// body. Strings in the body are interpolated, the common keys are not yet.
func (p *parser) component(n value.Node, what string, where place, commonKeys []string) (c template.Component, common value.Object, ok bool) {
	object, ok := n.V.(value.Object)
	if !ok {
		p.add(n, "", "a %s must be an object, found %s", what, describe(n))
		return c, nil, false
	}
	typ, given := object.Get("type")
	switch {
	case !given:
		p.add(n, `add "type": "..."`, "the %s has no type", what)
	case typ.V == any(text{}):
		p.add(typ.Node, "", "the type of the %s is empty", what)
	default:
		c.Type, ok = p.str(typ.Node, "the type of a "+what)
		c.Pos = typ.Pos
	}
	body := value.Object{}
	common = value.Object{}
	for _, m := range object.Without("type") {
		if slices.Contains(commonKeys, m.Key) {
			common = append(common, m)
		} else {
			body = append(body, m)
		}
	}
	body = p.rename(body, what, c.Type)
	c.Body = p.interpolate(value.Node{Pos: n.Pos, V: body}, where)
	return c, common, ok && c.Type != ""
}

// rename does for old keys what `packer fix` does, and says so.
func (p *parser) rename(body value.Object, what, typ string) value.Object {
	for _, r := range renamed {
		i := slices.Index(body.Keys(), r.old)
		_, both := body.Get(r.now)
		switch {
		case r.what != what || r.typ != typ || i < 0:
		case r.now == "":
			p.problems.Warn(body[i].KeyPos, "remove it", "%q of %s has no use any more", r.old, typ)
			body = body.Without(r.old)
		case both:
			p.problems.Add(body[i].KeyPos, "remove it", "%q of %s is the old name of %q, which is given too", r.old, typ, r.now)
		default:
			p.problems.Warn(body[i].KeyPos, "rename it", "%q of %s is called %q now", r.old, typ, r.now)
			body[i].Key = r.now
		}
	}
	return body
}

func (p *parser) onlyOrExcept(common value.Object) {
	_, only := common.Get("only")
	if except, both := common.Get("except"); only && both {
		p.problems.Add(except.KeyPos, "keep one of them", "only and except exclude each other")
	}
}
