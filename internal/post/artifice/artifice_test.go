package artifice_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/artifice"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, artifice.Kind(),
		map[string]map[string]any{"one": {"files": "a"}, "pattern": {"files": []string{"out/*.tar"}}},
		map[string]map[string]any{"none": {}, "empty": {"files": []string{}}, "no name": {"files": []string{""}}, "bad pattern": {"files": []string{"[a"}}})
}

func TestFilesReplaceTheArtifact(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	for name, content := range map[string]string{"b.tar": "22", "a.tar": "1", "c.txt": "333"} {
		if err := os.WriteFile(filepath.Join(env.OutDir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	post := baketest.NewPost(t, artifice.Kind(), map[string]any{"files": []string{"c.txt", "*.tar"}})
	out, keep, err := post.Process(t.Context(), env, []bake.Artifact{baketest.Image(t, "layer")})
	if err != nil || !keep {
		t.Fatalf("keep %t, error %v", keep, err)
	}
	want := []bake.Artifact{{
		Builder: "artifice", MediaType: "application/octet-stream", Size: 6, Foreign: true,
		Files: []string{filepath.Join(env.OutDir, "c.txt"), filepath.Join(env.OutDir, "a.tar"), filepath.Join(env.OutDir, "b.tar")},
	}}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMissingFile(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	for _, file := range []string{"nothing.tar", "*.none", env.OutDir} {
		post := baketest.NewPost(t, artifice.Kind(), map[string]any{"files": file})
		if out, _, err := post.Process(t.Context(), env, nil); err == nil {
			t.Errorf("%s: got %v and no error", file, out)
		}
	}
}
