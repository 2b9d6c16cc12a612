package cli

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/sink"
	"github.com/imgbake/imgbake-action/internal/tagrule"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// destination is a repository that an image, or every one, is published to
// under the automatic tags.
type destination struct {
	image, repository string
}

// addDestinations adds them to what the template publishes.
func (g given) addDestinations(t *template.Template) error {
	for _, d := range g.publish {
		found := false
		for i := range t.Images {
			img := &t.Images[i]
			if d.image != "" && d.image != img.Name {
				continue
			}
			found = true
			list, err := targetList(img.Publish)
			if err != nil {
				return fmt.Errorf("input repositories: image %q: %w", img.Name, err)
			}
			img.Publish = value.Node{Pos: list.Pos, V: append(list.V.(value.List), d.node())}
		}
		if !found {
			return usage("input repositories: there is no image %q in the template", d.image)
		}
	}
	return nil
}

func (d destination) node() value.Node {
	return value.Of(diag.Pos{File: "input repositories"}, map[string]any{"repository": d.repository, "tags": []string{"auto"}})
}

// targetList is what an image's publish says, as a list.
func targetList(n value.Node) (value.Node, error) {
	switch v := n.V.(type) {
	case nil:
		return value.Node{Pos: n.Pos, V: value.List{}}, nil
	case value.List:
		return value.Node{Pos: n.Pos, V: v[:len(v):len(v)]}, nil
	case value.Object:
		return value.Node{Pos: n.Pos, V: value.List{n}}, nil
	}
	return n, fmt.Errorf("%s: publish is an expression; write the repository there", n.Pos)
}

// label adds labels and annotations to the images that are published, alone or
// in an index. Those of the template win.
func (g given) label(p plan.Plan) {
	for _, img := range p.Images {
		var joined []string
		for i := range img.Indexes {
			if x := &img.Indexes[i]; len(x.Publish) > 0 {
				joined = append(joined, x.Bakes...)
				g.annotate(x.Publish)
			}
		}
		for i := range img.Bakes {
			b := &img.Bakes[i]
			if len(b.Publish) > 0 || slices.Contains(joined, b.Name) {
				b.Config.Labels = under(b.Config.Labels, g.labels)
				g.annotate(b.Publish)
			}
		}
	}
}

func (g given) annotate(targets []plan.Target) {
	for i := range targets {
		targets[i].Annotations = under(targets[i].Annotations, g.annotations)
	}
}

// under is one map with what only the other has.
func under(first, second map[string]string) map[string]string {
	if len(second) == 0 {
		return first
	}
	all := maps.Clone(second)
	maps.Copy(all, first)
	return all
}

// face is the sink that was given, once it is told every secret.
func (g given) face(p prepared, redactor *secret.Redactor) face {
	if g.sink == nil {
		return face{}
	}
	g.mask(plan.Secrets(p.scope)...)
	return face{
		sink: sink.Redacting(g.sink, redactor.Redact), once: &sync.Once{}, end: func() {},
		interact: func(ask func() error) error { return ask() },
	}
}

// gitTags are the automatic tags of a checkout, as if what is checked out had
// just been pushed; nil where git tells nothing.
func gitTags(git map[string]any, now time.Time) []string {
	text := func(name string) string { s, _ := git[name].(string); return s }
	f := tagrule.Facts{Event: "push", SHA: text("sha"), Now: now}
	switch {
	case text("tag") != "":
		f.Ref = "refs/tags/" + text("tag")
	case text("branch") != "":
		f.Ref = "refs/heads/" + text("branch")
	case f.SHA == "":
		return nil
	}
	made, problems := tagrule.Make(f, tagrule.Defaults(f), tagrule.Flavor{})
	if problems.HasErrors() {
		return nil
	}
	return made.Names()
}
