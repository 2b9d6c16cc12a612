package plan

import (
	"maps"
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// kind is what plan needs of a bake.Kind, whatever it makes.
type kind struct {
	hostExec bool
	sources  []string
	fields   []value.Field
	check    func(value.Node) diag.List
	inputs   func(value.Node) []bake.Input
	title    func(value.Node) string
	outside  func(value.Node) bool
}

// kinds are the types of one sort of component by name.
type kinds struct {
	what   string // builder, provisioner, post-processor
	byName map[string]kind
}

func index[T any](what string, list []bake.Kind[T]) kinds {
	out := kinds{what, make(map[string]kind, len(list))}
	for _, k := range list {
		out.byName[k.Name] = kind{k.HostExec, k.Sources, k.Fields, k.Check, k.Inputs, k.Title, k.Outside}
	}
	return out
}

// find looks a component's type up and checks that it may be used.
func (p *planner) find(ks kinds, name string, pos diag.Pos) (kind, bool) {
	k, ok := ks.byName[name]
	if !ok {
		p.problems.Add(pos, diag.Suggest(name, slices.Collect(maps.Keys(ks.byName))), "unknown %s type %q", ks.what, name)
		return k, false
	}
	if k.hostExec && p.facts.CI && !p.facts.AllowHostExec {
		p.problems.Add(pos, "allow it with --allow-host-exec if you trust the template",
			"%s %q runs commands on this machine, which is not allowed under CI", ks.what, name)
	}
	return k, true
}

// checked is the result of looking at one component's evaluated body.
type checked struct {
	title   string
	inputs  []Input
	outside bool
}

// check lets the kind look at the body, and asks for its title and files.
func (p *planner) check(k kind, c template.Component, body value.Node) checked {
	problems := k.check(body)
	p.problems.Append(problems)
	if problems.HasErrors() {
		return checked{}
	}
	return checked{k.title(body), p.digests(k.inputs(body), c.Pos), k.outside(body)}
}

// canonical is the key that a config calls by the name given, itself or an alias.
func (k kind) canonical(name string) string {
	for _, f := range k.fields {
		if slices.Contains(f.Aliases, name) {
			return f.Key
		}
	}
	return name
}

// given lists the members of a builder's body that give it a source.
func (k kind) given(body value.Node) []value.Member {
	var out []value.Member
	object, _ := body.V.(value.Object)
	for _, m := range object {
		if m.V != nil && slices.Contains(k.sources, k.canonical(m.Key)) {
			out = append(out, m)
		}
	}
	return out
}

// withoutSources is a builder's body less its source, for an image that starts
// from another one.
func (k kind) withoutSources(body value.Node) value.Node {
	if object, ok := body.V.(value.Object); ok {
		body.V = slices.DeleteFunc(slices.Clone(object), func(m value.Member) bool {
			return slices.Contains(k.sources, k.canonical(m.Key))
		})
	}
	return body
}
