// Package reference writes down what templates can say: the reference page,
// the JSON Schema for editors, the help of a component. All of it comes from
// the catalog and from the tags of config structs; there is no second copy of
// any of it.
package reference

import (
	"reflect"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
	"github.com/imgbake/imgbake-action/internal/value"
)

// SchemaURL is where the schema is published.
const SchemaURL = "https://raw.githubusercontent.com/imgbake/imgbake-action/main/docs/schema/imgbake.schema.json"

// component is a Kind less its Go type.
type component struct {
	id                 string // among all components: builder-docker
	name, doc, example string
	facts              []string // sentences
	fields             []value.Field
}

// group is the components of one sort.
type group struct {
	name       string // as help takes it: provisioner
	title      string // as a heading: Provisioners
	common     []value.Field
	components []component
}

func groups(c bake.Catalog) []group {
	steps, posts := fields[plan.StepCommon](), fields[plan.PostCommon]()
	return []group{
		{"builder", "Builders", nil, components("builder", c.Builders, nil)},
		{"provisioner", "Provisioners", steps, components("provisioner", c.Provisioners, steps)},
		{"post-processor", "Post-processors", posts, components("post-processor", c.Posts, posts)},
	}
}

// components are the kinds by name. A key that is common to all of them is
// not a component's own.
func components[T any](group string, kinds []bake.Kind[T], common []value.Field) []component {
	out := make([]component, len(kinds))
	for i, k := range kinds {
		own := slices.DeleteFunc(slices.Clone(k.Fields), func(f value.Field) bool { return has(common, f.Key) })
		out[i] = component{group + "-" + k.Name, k.Name, k.Doc, k.Example, facts(k), own}
	}
	slices.SortFunc(out, func(a, b component) int { return strings.Compare(a.name, b.name) })
	return out
}

// facts are what is worth knowing of a kind besides its documentation.
func facts[T any](k bake.Kind[T]) []string {
	needs := map[bake.Need]string{
		bake.NeedDocker: "It needs a Docker Engine that can be reached.",
		bake.NeedKVM:    "It needs KVM.",
		bake.NeedRoot:   "It needs root.",
	}
	var out []string
	for _, need := range k.Needs {
		out = append(out, needs[need])
	}
	if k.HostExec {
		out = append(out, "It runs commands on the host: under CI it must be permitted with `--allow-host-exec`.")
	}
	if k.Commit == bake.CommitAtEnd {
		out = append(out, "Its result is recorded once, at the end of a bake.")
	}
	return out
}

func has(fields []value.Field, key string) bool {
	return slices.ContainsFunc(fields, func(f value.Field) bool { return f.Key == key })
}

func fields[T any]() []value.Field { return value.Fields(reflect.TypeFor[T]()) }

// imageFields are the keys of an image with the types that its decoder leaves
// to others.
func imageFields() []value.Field {
	keys := slices.Clone(yaml.Reference().Image)
	types := map[string]string{
		"from": "string", "builders": "builders", "provisioners": "list of provisioners",
		"error_cleanup_provisioner": "provisioner", "post_processors": "list of post-processors",
		"config": "image configuration", "layers": "step or squash", "compression": "gzip or zstd", "keep": "list of string", "publish": "list of targets",
	}
	for i, f := range keys {
		if known, ok := types[f.Key]; ok {
			keys[i].Type = known
		}
	}
	return keys
}

// rootFields are the keys of a template, likewise.
func rootFields() []value.Field {
	keys := slices.Clone(yaml.Reference().Template)
	types := map[string]string{"variables": "map of variables", "locals": "map of any", "cache": "string or cache", "images": "map of images"}
	for i, f := range keys {
		if known, ok := types[f.Key]; ok {
			keys[i].Type = known
		}
	}
	return keys
}

// summary is the first sentence of a component's documentation.
func summary(doc string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(doc), "\n\n")
	first = strings.Join(strings.Fields(first), " ")
	if i := strings.Index(first, ". "); i >= 0 {
		return first[:i+1]
	}
	return first
}
