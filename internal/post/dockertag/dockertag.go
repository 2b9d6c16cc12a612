// Package dockertag is the docker-tag post-processor: it gives an image names.
// The names become real where the image goes: in the engine it is loaded into,
// and in the registry docker-push pushes it to.
package dockertag

import (
	"context"
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Repository string   `key:"repository" doc:"Repository to name the image in, such as ghcr.io/acme/web." opt:"required,known"`
	Tags       []string `key:"tags" alias:"tag" doc:"Tags to give it." opt:"known,default=latest"`
	Force      bool     `key:"force" doc:"Accepted for Packer templates: a tag always moves."`
	DockerPath string   `key:"docker_path" doc:"Accepted for Packer templates: the docker command is not used."`
}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name: "docker-tag",
		Doc:  "Names the image: repository:tag for every tag. A docker-push after it in the same sequence pushes under these names.",
		Example: `- docker-tag:
    repository: ghcr.io/acme/web
    tags: ["1.2", latest]`,
		Check: func(c Config, w value.Where) diag.List {
			if w.Late("repository") || w.Late("tags") {
				return nil
			}
			key := "tags"
			if w.Given("tag") {
				key = "tag"
			}
			_, problems := bake.TagNames(c.Repository, c.Tags, w, key)
			return problems
		},
		Title: func(c Config) string { return "docker-tag: " + c.Repository },
		New:   func(c Config) (bake.Post, error) { return tagger{c}, nil },
	})
}

type tagger struct{ Config }

// Process adds the names. The image is always kept, whatever it is called.
func (t tagger) Process(_ context.Context, _ bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	if _, err := bake.Images(in, "docker-tag"); err != nil {
		return nil, false, err
	}
	refs, problems := bake.TagNames(t.Repository, t.Tags, value.Where{}, "tags")
	if err := problems.Err(); err != nil {
		return nil, false, err
	}
	out := slices.Clone(in)
	for i, a := range out {
		if a.Image != nil {
			out[i] = a.WithRefs(refs...)
		}
	}
	return out, true, nil
}
