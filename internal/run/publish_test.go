package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// loader keeps what it is asked to load.
type loader struct {
	loaded []bake.Artifact
	err    error
}

func (l *loader) Load(_ context.Context, a bake.Artifact) (bake.Artifact, error) {
	l.loaded = append(l.loaded, a)
	a.EngineID = "sha256:engine"
	return a, l.err
}

func refsOf(p baketest.Push) (names []string) {
	for _, ref := range p.Refs {
		names = append(names, ref.Name())
	}
	return names
}

func TestPublishOnceWithEveryReference(t *testing.T) {
	w := newWorld(t)
	b := baked("web.a", "x")
	b.Publish = []plan.Target{{Repository: "ghcr.io/acme/web", Tags: []string{"1", "latest"}}, {Repository: "localhost:5000/web"}}
	res := w.one(t, b)
	pushes := w.publisher.Pushes()
	if res.Err != nil || len(pushes) != 1 || len(res.Published) != 3 {
		t.Fatalf("got %v, pushes %v, published %v", res.Err, pushes, res.Published)
	}
	digest := res.Artifacts[0].Digest.String()
	if diff := cmp.Diff([]string{"ghcr.io/acme/web:1", "ghcr.io/acme/web:latest", "localhost:5000/web@" + digest}, refsOf(pushes[0])); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	told := 0
	for _, e := range w.sink.Events() {
		if e.Type != bake.Published {
			continue
		}
		told++
		if e.Data["digest"] != digest || !slices.Equal(e.Refs, refsOf(pushes[0])) || e.Bake != "web.a" {
			t.Errorf("event %+v", e)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	w.publisher.Nowhere = true
	b := baked("web.a", "x")
	b.Publish = []plan.Target{{Repository: "ghcr.io/acme/web", Tags: []string{"1"}}}
	if res := w.one(t, b); res.Err != nil || res.Published != nil {
		t.Errorf("got %+v", res)
	}
	if story := strings.Join(w.sink.story(), "\n"); strings.Contains(story, "published") {
		t.Errorf("story: %s", story)
	}
}

// Targets with annotations of their own get a manifest of their own, of the
// same layers.
func TestAnnotations(t *testing.T) {
	w := newWorld(t)
	note := map[string]string{"org.opencontainers.image.title": "web"}
	b := baked("web.a", "x")
	b.Publish = []plan.Target{{Repository: "a/web", Tags: []string{"1"}, Annotations: note}, {Repository: "b/web", Tags: []string{"1"}}, {Repository: "c/web", Tags: []string{"1"}, Annotations: note}}
	res := w.one(t, b)
	if res.Err != nil || len(res.Published) != 3 {
		t.Fatal(res.Err, res.Published)
	}
	pushes := w.publisher.Pushes()
	if len(pushes) != 2 || len(pushes[0].Refs) != 2 || pushes[1].Artifact.Digest != res.Artifacts[0].Digest {
		t.Fatalf("pushes %v", pushes)
	}
	manifest, err := pushes[0].Artifact.Image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(note, manifest.Annotations); diff != "" {
		t.Errorf("annotations, -want +got:\n%s", diff)
	}
	digest, err := pushes[0].Artifact.Image.Digest()
	if err != nil || digest != pushes[0].Artifact.Digest || digest == res.Artifacts[0].Digest {
		t.Errorf("digest %s, %v; the artifact's is %s", digest, err, pushes[0].Artifact.Digest)
	}
	if !slices.Equal(pushes[0].Artifact.Summary().Layers, res.Artifacts[0].Summary().Layers) {
		t.Error("the layers differ")
	}
}

func TestPublishFails(t *testing.T) {
	w := newWorld(t)
	w.publisher.Err = errors.New("denied")
	b := baked("web.a", "x")
	b.Publish = []plan.Target{{Repository: "ghcr.io/acme/web", Tags: []string{"1"}}}
	results := w.run(t.Context(), b, from("web.a", baked("child.a")))
	if err := results[0].Err; !errors.Is(err, w.publisher.Err) || err.Error() != "publishing: denied" || results[0].Artifacts != nil {
		t.Errorf("got %v", results[0])
	}
	if results[1].Skipped != "web.a failed" {
		t.Errorf("child: %+v", results[1])
	}
	b.Publish[0].Repository = "No Repository"
	if res := w.one(t, b); res.Err == nil || !strings.Contains(res.Err.Error(), `repository "No Repository"`) {
		t.Errorf("got %v", res.Err)
	}
}

func TestFilesAreNotPublished(t *testing.T) {
	w, b, _ := files(t)
	b.Publish = []plan.Target{{Repository: "ghcr.io/acme/web", Tags: []string{"1"}}}
	if res := w.one(t, b); res.Err != nil || len(w.publisher.Pushes()) != 0 {
		t.Errorf("got %v, %v", res.Err, w.publisher.Pushes())
	}
}

// Every image is loaded once, with all its names: those that docker-tag gave
// it and the tags it is published under.
func TestLoad(t *testing.T) {
	w := newWorld(t)
	l := &loader{}
	w.Loader = l
	w.posts["tag"] = func(_ bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
		return []bake.Artifact{in[0].WithRefs(bake.Ref{Reference: mustParse(t, "web:1")}), {Builder: "sum", Files: []string{"/sums"}}}, true, nil
	}
	b := baked("web.a", "x")
	b.Posts = [][]plan.Post{posts("tag")}
	b.Publish = []plan.Target{{Repository: "acme/web", Tags: []string{"1", "2"}}, {Repository: "by/digest"}, {Repository: "library/web", Tags: []string{"1"}}}
	res := w.one(t, b)
	if res.Err != nil || len(l.loaded) != 1 {
		t.Fatalf("got %v, loaded %v", res.Err, l.loaded)
	}
	if diff := cmp.Diff([]string{"index.docker.io/library/web:1", "index.docker.io/acme/web:1", "index.docker.io/acme/web:2"}, l.loaded[0].Summary().Tags); diff != "" {
		t.Errorf("names, -want +got:\n%s", diff)
	}
	if res.Artifacts[0].EngineID != "sha256:engine" || res.Artifacts[1].EngineID != "" {
		t.Errorf("artifacts %+v", res.Artifacts)
	}
	l.err = errors.New("no space left on device")
	if res := w.one(t, b); !errors.Is(res.Err, l.err) || res.Artifacts != nil {
		t.Errorf("got %v", res.Err)
	}
}
