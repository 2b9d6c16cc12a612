package dockersave_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/dockersave"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, dockersave.Kind(), map[string]map[string]any{"path": {"path": "x.tar"}}, map[string]map[string]any{"none": {}})
}

func TestSave(t *testing.T) {
	tests := map[string][]string{
		"named":   {"index.docker.io/acme/web:1", "localhost:5000/web:latest"},
		"unnamed": nil,
	}
	for name, refs := range tests {
		t.Run(name, func(t *testing.T) {
			env, _, _ := baketest.PostEnv(t)
			image := baketest.Image(t, "layer", refs...)
			in := []bake.Artifact{image}
			for range 2 { // the second time it is replaced
				out, keep, err := baketest.NewPost(t, dockersave.Kind(), map[string]any{"path": "out/web.tar"}).Process(t.Context(), env, in)
				if err != nil || !keep || len(out) != 1 || out[0].Digest != image.Digest {
					t.Fatalf("got %v, keep %t, error %v", out, keep, err)
				}
			}
			path := filepath.Join(env.OutDir, "out", "web.tar")
			manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
			if err != nil || len(manifest) != 1 {
				t.Fatalf("manifest %v, %v", manifest, err)
			}
			if got := len(manifest[0].RepoTags); got != len(refs) {
				t.Errorf("names %v, want %v", manifest[0].RepoTags, refs)
			}
			saved, err := tarball.ImageFromPath(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := saved.ConfigName()
			want, _ := image.Image.ConfigName()
			if got != want {
				t.Errorf("the saved image's ID is %s, want %s", got, want)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestNoImage(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	if _, _, err := baketest.NewPost(t, dockersave.Kind(), map[string]any{"path": "x.tar"}).Process(t.Context(), env, []bake.Artifact{{Files: []string{"/x"}}}); err == nil {
		t.Error("got no error")
	}
}

// An interrupt ends the writing of a large image, and no half of it is left.
func TestInterrupted(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	post := baketest.NewPost(t, dockersave.Kind(), map[string]any{"path": "web.tar"})
	if _, _, err := post.Process(ctx, env, []bake.Artifact{baketest.Image(t, "layer")}); !errors.Is(err, interrupted) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(env.OutDir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
