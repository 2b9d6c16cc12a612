// Package vars decides the value of every variable a template declares, and
// remembers where each came from: flag > workflow input > environment > variable
// file > default. It reads nothing by itself: flags, environment and files
// come in as Sources.
package vars

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Sources is where values come from, besides the defaults in the template.
type Sources struct {
	Flags   []string          // -var, each name=value; the last one of a name wins
	Inputs  map[string]string // what the workflow passes; an empty value is one not given
	Secrets map[string]string // as Inputs; the variables are sensitive, also those whose value is empty
	Environ []string          // K=V
	Files   []File            // a later one wins; those with Auto set come first
	// Facts are what defaults may read besides env.* and var.*: see plan.Facts.
	Facts map[string]value.Entry
	// Withheld is set where no secret is given to the run: a sensitive variable
	// without a value is then no problem here, but one of what needs it.
	Withheld bool
}

// Variable is a declared variable with its value.
type Variable struct {
	Name      string
	Value     any    // plain Go data, as value.Node.Plain makes it; nil unless Known
	Known     bool   // a value was found and is right
	Source    string // "flag", "workflow input", "environment X", "file F", "default"; empty: not set
	Pos       diag.Pos
	Sensitive bool // declared so, or its default is made of a sensitive one
	IsDefault bool
}

// String hides a sensitive value.
func (v Variable) String() string {
	if v.Sensitive {
		return v.Name + "=" + secret.Mask
	}
	return fmt.Sprintf("%s=%v", v.Name, v.Value)
}

// GoString hides a sensitive value in %#v too.
func (v Variable) GoString() string { return v.String() }

// Resolved is every declared variable, in the order of the template.
type Resolved struct{ Variables []Variable }

// Scope is the variables as expressions read them, by "var.NAME". One without
// a value is there, but not known.
func (r Resolved) Scope() map[string]value.Entry {
	entries := make(map[string]value.Entry, len(r.Variables))
	for _, v := range r.Variables {
		entries["var."+v.Name] = value.Entry{Value: v.Value, Known: v.Known, Sensitive: v.Sensitive}
	}
	return entries
}

// Secrets lists every string that must not be shown, those inside lists and
// maps too.
func (r Resolved) Secrets() []string {
	var out []string
	for _, v := range r.Variables {
		if v.Sensitive {
			out = append(out, Texts(v.Value)...)
		}
	}
	return out
}

// Texts lists the strings and numbers in plain data, empty ones left out.
func Texts(v any) []string {
	var out []string
	eachText(value.Of(diag.Pos{}, v), func(text string) {
		if text != "" {
			out = append(out, text)
		}
	})
	return out
}

func eachText(n value.Node, visit func(string)) {
	switch v := n.V.(type) {
	case string:
		visit(v)
	case value.Number:
		visit(string(v))
	case value.List:
		for _, item := range v {
			eachText(item, visit)
		}
	case value.Object:
		for _, m := range v {
			eachText(m.Node, visit)
		}
	}
}

// Resolve finds the value of every declared variable. All problems are
// reported at once; a variable with a problem has no value.
func Resolve(decls []template.Variable, src Sources) (Resolved, diag.List) {
	r := &resolver{byName: map[string]*variable{}, given: map[string]candidate{}, env: environ(src.Environ), facts: value.Scope{}.With(src.Facts), withheld: src.Withheld}
	r.declare(decls)
	// The lowest first: what comes later wins.
	r.files(src.Files)
	r.environment()
	r.inputs(src.Inputs)
	r.secrets(src.Secrets)
	r.flags(src.Flags)

	var out Resolved
	for _, v := range r.vars {
		r.resolve(v)
	}
	scope := value.Scope{}.With(r.entries())
	for _, v := range r.vars {
		r.validate(v, scope)
		out.Variables = append(out.Variables, v.Variable)
	}
	r.problems.Sort()
	return out, r.problems
}

type resolver struct {
	vars     []*variable
	byName   map[string]*variable
	given    map[string]candidate
	env      map[string]string
	facts    value.Scope
	withheld bool
	path     []string // the variables whose defaults are being evaluated
	problems diag.List
}

type variable struct {
	Variable
	decl  template.Variable
	state state
}

type state int

const (
	untouched state = iota
	visiting
	done
)

func (r *resolver) declare(decls []template.Variable) {
	for _, d := range decls {
		if first, dup := r.byName[d.Name]; dup {
			r.problems.Add(d.Pos, "the first one is at "+first.decl.Pos.String(), "variable %q is declared twice", d.Name)
			continue
		}
		if _, known := types[d.Type]; !known {
			r.problems.Add(d.Pos, diag.Suggest(d.Type, typeNames()), "variable %q: unknown type %q", d.Name, d.Type)
			d.Type = ""
		}
		v := &variable{decl: d, Variable: Variable{Name: d.Name, Pos: d.Pos, Sensitive: d.Sensitive}}
		r.vars = append(r.vars, v)
		r.byName[d.Name] = v
	}
}

func (r *resolver) names() []string {
	names := make([]string, len(r.vars))
	for i, v := range r.vars {
		names[i] = v.Name
	}
	return names
}

func (r *resolver) resolve(v *variable) {
	switch v.state {
	case done:
		return
	case visiting:
		r.cycle(v)
		return
	}
	v.state = visiting
	r.path = append(r.path, v.Name)
	c, ok := r.given[v.Name]
	if !ok {
		c, ok = r.fallback(v)
	}
	if ok {
		r.accept(v, c)
	}
	r.path = r.path[:len(r.path)-1]
	v.state = done
}

// fallback is the default as a candidate, or a problem.
func (r *resolver) fallback(v *variable) (candidate, bool) {
	if v.decl.Default == nil && v.Sensitive && r.withheld {
		return candidate{}, false
	}
	if v.decl.Default == nil {
		r.problems.Add(v.Pos, waysToSet(v.decl), "variable %q is required and not set", v.Name)
		return candidate{}, false
	}
	v.IsDefault, v.Source = true, "default"
	n, ok := r.eval(v, *v.decl.Default)
	return candidate{node: n, source: "default", pos: n.Pos}, ok
}

// eval computes a default. ok is false where a problem was reported, for this
// variable or for one it is made of.
func (r *resolver) eval(v *variable, n value.Node) (value.Node, bool) {
	needs := n.Needs() // none is no sign of a literal: env() needs no other name
	before := len(r.problems)
	entries := map[string]value.Entry{}
	for _, name := range needs {
		kind, rest, _ := strings.Cut(name, ".")
		switch kind {
		case "env":
			entries[name] = value.Known(r.env[rest])
		case "var":
			r.need(v, rest, entries)
		}
	}
	if len(r.problems) > before {
		return n, false
	}
	scope := r.facts.With(entries)
	out, problems := value.Eval(n, scope)
	v.Sensitive = v.Sensitive || scope.Sensitive(needs)
	if problems.HasErrors() && v.Sensitive {
		problems = nil // a front end's message may quote values
		r.problems.Add(n.Pos, "the reason is not shown since the variable is sensitive", "the default of variable %q cannot be evaluated", v.Name)
	}
	r.problems.Append(problems)
	return out, len(r.problems) == before && len(out.Needs()) == 0
}

// need resolves the variable a default names and puts it in the scope. Path is
// its name, perhaps with attributes after it.
func (r *resolver) need(v *variable, path string, entries map[string]value.Entry) {
	name, _, _ := strings.Cut(path, ".")
	other, ok := r.byName[name]
	if !ok {
		r.problems.Add(v.decl.Default.Pos, diag.Suggest(name, r.names()), "the default of variable %q reads var.%s, which is not declared", v.Name, name)
		return
	}
	r.resolve(other)
	entries["var."+name] = value.Entry{Value: other.Value, Known: other.Known, Sensitive: other.Sensitive}
}

func (r *resolver) cycle(v *variable) {
	start := 0
	for i, name := range r.path {
		if name == v.Name {
			start = i
		}
	}
	loop := r.path[start:]
	places := make([]string, len(loop))
	for i, name := range loop {
		places[i] = fmt.Sprintf("%s at %s", name, r.byName[name].Pos)
	}
	r.problems.Add(v.Pos, strings.Join(places, ", "), "the defaults of variables go round in a circle: %s -> %s", strings.Join(loop, " -> "), v.Name)
}

// accept checks a candidate against the declaration and makes it the value.
func (r *resolver) accept(v *variable, c candidate) {
	v.Source = c.source
	if !c.pos.IsZero() {
		v.Pos = c.pos
	}
	n, err := c.typed(v.decl.Type)
	switch {
	case err != nil && v.Sensitive:
		r.problems.Add(v.Pos, "", "variable %q (%s): expected %s", v.Name, c.source, types[v.decl.Type])
		return
	case err != nil:
		r.problems.Add(v.Pos, "", "variable %q (%s): %v", v.Name, c.source, err)
		return
	}
	v.Value, v.Known = n.Plain(), true
	r.choose(v, n)
	r.warnShort(v)
}

func (r *resolver) warnShort(v *variable) {
	short := func(text string) bool { return len(text) < secret.MinLength }
	if v.Sensitive && slices.ContainsFunc(Texts(v.Value), short) {
		r.problems.Warn(v.Pos, "masking so short a text would make logs unreadable: use a longer secret",
			"sensitive variable %q is shorter than %d bytes and is not masked in logs", v.Name, secret.MinLength)
	}
}

func (r *resolver) entries() map[string]value.Entry {
	var all Resolved
	for _, v := range r.vars {
		all.Variables = append(all.Variables, v.Variable)
	}
	return all.Scope()
}

func waysToSet(d template.Variable) string {
	env := append([]string{envPrefix + d.Name, packerPrefix + d.Name}, d.Env...)
	return fmt.Sprintf("set it with -var %s=..., in the workflow's vars input, in the environment (%s), in a -var-file, or give it a default", d.Name, strings.Join(env, ", "))
}
