package manifest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/manifest"
)

var kind = manifest.Kind(func() time.Time { return time.Unix(1700000000, 0) })

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, kind,
		map[string]map[string]any{"defaults": {}, "all": {"output": "m.json", "strip_path": true, "strip_time": true, "custom_data": map[string]any{"k": "v"}}},
		map[string]map[string]any{"custom_data": {"custom_data": "x"}})
}

func process(t *testing.T, env bake.PostEnv, body map[string]any, in ...bake.Artifact) {
	t.Helper()
	out, keep, err := baketest.NewPost(t, kind, body).Process(t.Context(), env, in)
	if err != nil || !keep || len(out) != len(in) {
		t.Fatalf("got %v, keep %t, error %v", out, keep, err)
	}
}

func document(t *testing.T, path string) manifest.Document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc manifest.Document
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// The keys are Packer's, in Packer's order and with its names.
func TestPackersFormat(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	file := filepath.Join(env.OutDir, "hello.txt")
	if err := os.WriteFile(file, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	process(t, env, map[string]any{"strip_path": true, "custom_data": map[string]any{"team": "web"}}, bake.Artifact{Files: []string{file}})
	got, err := os.ReadFile(filepath.Join(env.OutDir, "packer-manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "builds": [
    {
      "name": "main",
      "builder_type": "docker",
      "build_time": 1700000000,
      "files": [
        {
          "name": "hello.txt",
          "size": 6
        }
      ],
      "artifact_id": "hello.txt",
      "packer_run_uuid": "run-1",
      "custom_data": {
        "team": "web"
      }
    }
  ],
  "last_run_uuid": "run-1"
}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// One bake is one build, whatever its artifacts: .builds[-1].artifact_id is
// what everybody reads.
func TestImageWithDigestAndTags(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	sums := filepath.Join(env.OutDir, "sums")
	if err := os.WriteFile(sums, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := baketest.Image(t, "layer", "ghcr.io/acme/web:1", "ghcr.io/acme/web:latest")
	id, err := image.Image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	process(t, env, map[string]any{"output": "out/m.json", "strip_time": true}, image, bake.Artifact{Files: []string{sums}})
	want := manifest.Document{LastRunUUID: "run-1", Builds: []manifest.Build{{
		Name: "main", Builder: "docker", RunUUID: "run-1", ArtifactID: id.String(), ImageID: id.String(),
		Digest: image.Digest.String(), Tags: []string{"ghcr.io/acme/web:1", "ghcr.io/acme/web:latest"},
		Platform: image.Summary().Platform, Files: []manifest.File{{Name: sums, Size: 1}},
	}}}
	if diff := cmp.Diff(want, document(t, filepath.Join(env.OutDir, "out", "m.json"))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Later runs add to the file; with -force a new run begins a new one.
func TestRuns(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	path := filepath.Join(env.OutDir, "packer-manifest.json")
	steps := []struct {
		run   string
		force bool
		want  int
	}{{"1", false, 1}, {"1", false, 2}, {"2", false, 3}, {"3", true, 1}, {"3", true, 2}}
	for _, s := range steps {
		env.Job.RunID, env.Job.Force = s.run, s.force
		process(t, env, nil, bake.Artifact{})
		if doc := document(t, path); len(doc.Builds) != s.want || doc.LastRunUUID != s.run {
			t.Errorf("run %s, force %t: %d builds, want %d; last run %s", s.run, s.force, len(doc.Builds), s.want, doc.LastRunUUID)
		}
	}
}

func TestParallelBakes(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	var all sync.WaitGroup
	for range 20 {
		post := baketest.NewPost(t, kind, nil)
		all.Go(func() {
			if _, _, err := post.Process(t.Context(), env, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(document(t, filepath.Join(env.OutDir, "packer-manifest.json")).Builds); got != 20 {
		t.Errorf("%d builds, want 20", got)
	}
}

// A file that is something else is left as it is.
func TestForeignFile(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	path := filepath.Join(env.OutDir, "packer-manifest.json")
	if err := os.WriteFile(path, []byte("notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err := baketest.NewPost(t, kind, nil).Process(t.Context(), env, nil)
	if err == nil || !strings.Contains(err.Error(), "no build manifest") {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "notes" {
		t.Errorf("the file is now %q", text)
	}
}
