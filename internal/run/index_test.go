package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
)

// family is a plan of one image for two platforms.
func family(targets ...plan.Target) plan.Plan {
	index := plan.Index{Name: "web.a", Builder: "a", Publish: targets}
	image := plan.Image{Name: "web"}
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		b := baked("web.a@"+platform, "step "+platform)
		b.Builder, b.Platform = "a", platform
		for _, t := range targets {
			t.Tags = nil
			b.Publish = append(b.Publish, t)
		}
		image.Bakes = append(image.Bakes, b)
		index.Bakes = append(index.Bakes, b.Name)
	}
	image.Indexes = []plan.Index{index}
	return plan.Plan{Template: "t.yaml", Images: []plan.Image{image}}
}

// Every platform is pushed by digest, and then the index under the tags.
func TestIndex(t *testing.T) {
	w := newWorld(t)
	note := map[string]string{"org.opencontainers.image.title": "web"}
	p := family(plan.Target{Repository: "ghcr.io/acme/web", Tags: []string{"1", "latest"}, Annotations: note}, plan.Target{Repository: "b/web", Annotations: note})
	results := run.Run(t.Context(), p, w.Options)
	if len(results) != 3 {
		t.Fatalf("%d results", len(results))
	}
	for _, res := range results {
		if res.Err != nil || res.Skipped != "" {
			t.Fatalf("%s: %v %s", res.Bake.Name, res.Err, res.Skipped)
		}
	}
	pushes := w.publisher.Pushes()
	if len(pushes) != 3 {
		t.Fatalf("%d pushes, want one for each platform and one for the index", len(pushes))
	}
	for _, push := range pushes[:2] {
		for _, ref := range push.Refs {
			if _, isTag := ref.Reference.(name.Tag); isTag || push.Artifact.Image == nil {
				t.Errorf("%v was pushed before the index", ref)
			}
		}
	}
	index := results[2]
	if diff := cmp.Diff([]string{"ghcr.io/acme/web:1", "ghcr.io/acme/web:latest", "index.docker.io/b/web@" + index.Artifacts[0].Digest.String()}, refsOf(pushes[2])); diff != "" {
		t.Errorf("index, -want +got:\n%s", diff)
	}
	manifest, err := pushes[2].Artifact.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(note, manifest.Annotations); diff != "" {
		t.Errorf("annotations of the index, -want +got:\n%s", diff)
	}
	var platforms []string
	var digests []v1.Hash
	for _, m := range manifest.Manifests {
		platforms, digests = append(platforms, m.Platform.String()), append(digests, m.Digest)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms, -want +got:\n%s", diff)
	}
	for _, push := range pushes[:2] {
		if !slices.Contains(digests, push.Artifact.Digest) {
			t.Errorf("the index has not the image %s that was pushed", push.Artifact.Digest)
		}
	}
	if index.Bake.Name != "web.a" || len(index.Published) != 3 || len(index.Tags) != 2 {
		t.Errorf("result of the index: %+v", index)
	}
	last := w.sink.Events()[len(w.sink.Events())-2]
	if last.Type != bake.BakeFinished || last.Bake != "web.a" || last.Error != "" {
		t.Errorf("the last bake to finish: %+v", last)
	}
}

// A platform that fails keeps every tag where it is.
func TestIndexOfAFailedPlatform(t *testing.T) {
	w := newWorld(t)
	w.steps["step linux/arm64"] = func(context.Context, bake.Env) error { return errors.New("broken") }
	results := run.Run(t.Context(), family(plan.Target{Repository: "ghcr.io/acme/web", Tags: []string{"1"}}), w.Options)
	if got, want := results[2].Skipped, "web.a@linux/arm64 failed"; got != want {
		t.Errorf("index: skipped %q, want %q", got, want)
	}
	for _, push := range w.publisher.Pushes() {
		for _, ref := range push.Refs {
			if _, isTag := ref.Reference.(name.Tag); isTag {
				t.Errorf("tag %s was moved", ref)
			}
		}
	}
}

// Images that are published nowhere are joined all the same, for --output.
func TestIndexWithoutTargets(t *testing.T) {
	w := newWorld(t)
	w.Parallel = 1
	results := run.Run(t.Context(), family(), w.Options)
	if res := results[2]; res.Err != nil || len(res.Artifacts) != 1 || res.Artifacts[0].Index == nil {
		t.Errorf("got %+v", res)
	}
	if pushes := w.publisher.Pushes(); len(pushes) != 0 {
		t.Errorf("pushed %v", pushes)
	}
}

func TestIndexThatCannotBePublished(t *testing.T) {
	w := newWorld(t)
	p := family(plan.Target{Repository: "ghcr.io/acme/web", Tags: []string{"1"}})
	for i := range p.Images[0].Bakes {
		p.Images[0].Bakes[i].Publish = nil
	}
	w.publisher.Err = errors.New("no")
	results := run.Run(t.Context(), p, w.Options)
	if err := results[2].Err; err == nil || !strings.Contains(err.Error(), "publishing: no") {
		t.Errorf("got %v", err)
	}
}
