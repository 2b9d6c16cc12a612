package vars

import (
	"maps"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// The prefixes of environment variables that set any variable.
const (
	envPrefix    = "IMGBAKE_VAR_"
	packerPrefix = "PKR_VAR_"
)

// candidate is a value somebody gave a variable.
type candidate struct {
	node   value.Node
	isText bool // node is a string to be read as the declared type
	source string
	pos    diag.Pos
}

func textCandidate(text, source string) candidate {
	return candidate{node: value.Node{V: text}, isText: true, source: source}
}

func environ(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, kv := range list {
		if name, text, ok := strings.Cut(kv, "="); ok {
			env[name] = text
		}
	}
	return env
}

func (r *resolver) files(files []File) {
	ordered := slices.Clone(files)
	slices.SortStableFunc(ordered, func(a, b File) int {
		switch {
		case a.Auto == b.Auto:
			return 0
		case a.Auto:
			return -1
		}
		return 1
	})
	for _, f := range ordered {
		object, problems := f.parse()
		r.problems.Append(problems)
		for _, m := range object {
			if _, ok := r.byName[m.Key]; !ok {
				r.problems.Warn(m.KeyPos, diag.Suggest(m.Key, r.names()), "variable %q is not declared in the template", m.Key)
				continue
			}
			r.given[m.Key] = candidate{node: m.Node, source: "file " + f.Name, pos: m.Pos}
		}
	}
}

// environment looks up each variable's names. An empty value counts under our
// own prefixes; a name the template declares is often another program's, or
// an input left empty in a workflow, so there it does not.
func (r *resolver) environment() {
	for _, v := range r.vars {
		for _, name := range []string{envPrefix + v.Name, packerPrefix + v.Name} {
			if text, ok := r.env[name]; ok {
				r.setOnce(v.Name, name, text)
			}
		}
		for _, name := range v.decl.Env {
			if text := r.env[name]; text != "" {
				r.setOnce(v.Name, name, text)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		short, ours := strings.CutPrefix(name, envPrefix)
		if _, ok := r.byName[short]; ours && !ok {
			r.problems.Warn(diag.Pos{}, diag.Suggest(short, r.names()), "environment %s: variable %q is not declared in the template", name, short)
		}
	}
}

// setOnce takes the first environment variable that has a value.
func (r *resolver) setOnce(variable, env, text string) {
	if before, ok := r.given[variable]; ok && before.isText {
		return
	}
	r.given[variable] = textCandidate(text, "environment "+env)
}

func (r *resolver) inputs(inputs map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if inputs[name] != "" {
			r.set(name, inputs[name], "workflow input")
		}
	}
}

// secrets are inputs, and make their variables sensitive.
func (r *resolver) secrets(secrets map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if v, ok := r.byName[name]; ok {
			v.Sensitive = true
		}
	}
	r.inputs(secrets)
}

func (r *resolver) flags(flags []string) {
	for _, flag := range flags {
		name, text, ok := strings.Cut(flag, "=")
		if !ok || name == "" {
			// What stands there may be a secret, so it is not repeated.
			r.problems.Add(diag.Pos{}, `write -var "name=value"`, "a -var flag has no name and value")
			continue
		}
		r.set(name, text, "flag")
	}
}

func (r *resolver) set(name, text, source string) {
	if _, ok := r.byName[name]; !ok {
		r.problems.Add(diag.Pos{}, diag.Suggest(name, r.names()), "%s: variable %q is not declared in the template", source, name)
		return
	}
	r.given[name] = textCandidate(text, source)
}
