package dockerimport_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/dockerimport"
	"github.com/imgbake/imgbake-action/internal/store"
)

func kind(t *testing.T) (bake.Kind[bake.Post], *store.Store) {
	t.Helper()
	layers, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := layers.Close(); err != nil {
			t.Error(err)
		}
	})
	return dockerimport.Kind(layers), layers
}

func TestSuite(t *testing.T) {
	k, _ := kind(t)
	baketest.PostSuite(t, k,
		map[string]map[string]any{
			"repository": {"repository": "local/base"},
			"all":        {"repository": "local/base", "tag": "1.0", "changes": []string{"CMD [\"/bin/sh\"]", "ENV A=b"}, "platform": "linux/arm64", "docker_path": "podman"},
		},
		map[string]map[string]any{
			"no repository": {}, "bad repository": {"repository": "No"}, "bad tag": {"repository": "web", "tag": "-"},
			"bad change": {"repository": "web", "changes": []string{"CMD x", "FROM y"}}, "bad platform": {"repository": "web", "platform": "linux"},
		})
}

// rootfs writes a tar with one file and is its artifact.
func rootfs(t *testing.T, dir string) bake.Artifact {
	t.Helper()
	path := filepath.Join(dir, "rootfs.tar")
	content := baketest.Tar(baketest.File{Header: tar.Header{Name: "etc/hello"}, Content: "world"})
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return bake.Artifact{Builder: "docker", Files: []string{path}, Base: bake.Base{Name: "debian"}, Facts: map[string]string{"ID": "c0ffee"}}
}

func TestImport(t *testing.T) {
	k, layers := kind(t)
	env, _, _ := baketest.PostEnv(t)
	epoch := time.Unix(1600000000, 0).UTC()
	env.Job.Epoch = &epoch
	post := baketest.NewPost(t, k, map[string]any{
		"repository": "local/base", "tag": "1.0", "platform": "linux/arm64/v8",
		"changes": []string{`CMD ["/bin/sh"]`, "ENV GREETING=hello", "WORKDIR /srv"},
	})
	var digests []v1.Hash
	for range 2 {
		out, keep, err := post.Process(t.Context(), env, []bake.Artifact{rootfs(t, env.OutDir)})
		if err != nil || keep || len(out) != 1 {
			t.Fatalf("got %v, keep %t, error %v", out, keep, err)
		}
		a := out[0]
		digests = append(digests, a.Digest)
		if s := a.Summary(); s.Platform != "linux/arm64/v8" || s.Base != "debian" || len(s.Tags) != 1 || s.Tags[0] != "index.docker.io/local/base:1.0" || a.Facts["ID"] != "c0ffee" {
			t.Errorf("artifact %+v", s)
		}
		config, err := a.Image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		want := v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"GREETING=hello"}, WorkingDir: "/srv"}
		if diff := cmp.Diff(want, config.Config); diff != "" {
			t.Errorf("config, -want +got:\n%s", diff)
		}
		if !config.Created.Equal(epoch) || len(config.History) != 1 || len(config.RootFS.DiffIDs) != 1 {
			t.Errorf("created %v, history %v, layers %v", config.Created, config.History, config.RootFS.DiffIDs)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("the same tar gives %s and %s", digests[0], digests[1])
	}
	stored, err := layers.Image(digests[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := baketest.Untar(mutate.Extract(stored))
	if err != nil || len(files) != 1 || files[0].Name != "etc/hello" || files[0].Content != "world" {
		t.Errorf("the store has %v, %v", files, err)
	}
}

func TestWrongInput(t *testing.T) {
	k, _ := kind(t)
	env, _, _ := baketest.PostEnv(t)
	post := baketest.NewPost(t, k, map[string]any{"repository": "local/base"})
	tarFile := rootfs(t, env.OutDir)
	for name, in := range map[string][]bake.Artifact{
		"nothing": nil, "an image": {baketest.Image(t, "layer")}, "two files": {{Files: []string{"/a", "/b"}}}, "two artifacts": {tarFile, tarFile},
	} {
		if _, _, err := post.Process(t.Context(), env, in); err == nil || !strings.Contains(err.Error(), "export_path") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{{Files: []string{"/no/such.tar"}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := post.Process(cancelled, env, []bake.Artifact{tarFile}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
