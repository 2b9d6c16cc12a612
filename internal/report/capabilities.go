package report

import (
	"maps"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Capabilities are what a plan asks for beyond steps in a container of their
// own, each with the bakes that do: a reviewer should know.
func Capabilities(p plan.Plan, c bake.Catalog) []string {
	by := map[string][]string{}
	for _, img := range p.Images {
		for _, b := range img.Bakes {
			for _, what := range capabilities(b, c) {
				by[what] = unique(append(by[what], b.Name))
			}
		}
	}
	var out []string
	for _, what := range slices.Sorted(maps.Keys(by)) {
		out = append(out, what+" ("+strings.Join(by[what], ", ")+")")
	}
	return out
}

func capabilities(b plan.Bake, c bake.Catalog) (out []string) {
	body, _ := b.Body.V.(value.Object)
	for _, key := range []string{"privileged", "cap_add", "device", "volumes", "runtime", "run_command"} {
		if m, ok := body.Get(key); ok && asks(m.Node) {
			out = append(out, strings.TrimSpace(key+" "+words(m.Node)))
		}
	}
	if m, ok := body.Get("network"); ok && m.V == "host" {
		out = append(out, "network host")
	}
	for _, s := range b.Steps {
		out = append(out, stepCapabilities(s, c)...)
	}
	for _, sequence := range b.Posts {
		for _, post := range sequence {
			if k := slices.IndexFunc(c.Posts, func(k bake.Kind[bake.Post]) bool { return k.Name == post.Type }); k >= 0 && c.Posts[k].HostExec {
				out = append(out, "commands of "+post.Type)
			}
		}
	}
	return out
}

func stepCapabilities(s plan.Step, c bake.Catalog) (out []string) {
	if k := slices.IndexFunc(c.Provisioners, func(k bake.Kind[bake.Provisioner]) bool { return k.Name == s.Type }); k >= 0 && c.Provisioners[k].HostExec {
		out = append(out, "commands of "+s.Type)
	}
	for _, m := range s.Common.Mounts {
		if m.Type == "ssh" {
			out = append(out, "the SSH agent")
		}
	}
	return out
}

// asks reports whether a value is more than no, or is not known yet.
func asks(n value.Node) bool {
	switch v := n.V.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case value.List:
		return len(v) > 0
	case value.Object:
		return len(v) > 0
	}
	return true
}

// words are the strings of a list, or the keys of a mapping.
func words(n value.Node) string {
	switch v := n.V.(type) {
	case string:
		return v
	case value.Object:
		return strings.Join(v.Keys(), " ")
	case value.List:
		var out []string
		for _, one := range v {
			if s, ok := one.V.(string); ok {
				out = append(out, s)
			}
		}
		return strings.Join(out, " ")
	}
	return ""
}
