package checksum_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/checksum"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, checksum.Kind(),
		map[string]map[string]any{
			"defaults": {},
			"all":      {"checksum_types": []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}, "output": "out/{{.BuildName}}.{{.ChecksumType}}"},
		},
		map[string]map[string]any{"type": {"checksum_types": "sha3"}, "field": {"output": "{{.Nothing}}"}, "syntax": {"output": "{{"}})
}

func process(t *testing.T, env bake.PostEnv, body map[string]any, in ...bake.Artifact) []bake.Artifact {
	t.Helper()
	out, keep, err := baketest.NewPost(t, checksum.Kind(), body).Process(t.Context(), env, in)
	if err != nil || !keep {
		t.Fatalf("keep %t, error %v", keep, err)
	}
	if len(out) != len(in)+1 {
		t.Fatalf("%d artifacts of %d", len(out), len(in))
	}
	return out
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The file is what Packer writes: name, digest in hex, a tab, the base name.
func TestPackersFormat(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	file := filepath.Join(env.OutDir, "deep", "hello.txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := process(t, env, nil, bake.Artifact{Files: []string{file}})
	made := filepath.Join(env.OutDir, "packer_main_docker_md5.checksum")
	if diff := cmp.Diff([]string{made}, out[1].Files); diff != "" {
		t.Errorf("files, -want +got:\n%s", diff)
	}
	if got, want := read(t, made), "b1946ac92492d2347c6235b4d2611184\thello.txt\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	process(t, env, nil, bake.Artifact{Files: []string{file}})
	if got, want := read(t, made), "b1946ac92492d2347c6235b4d2611184\thello.txt\n"; got != want {
		t.Errorf("again: got %q, want %q", got, want)
	}
}

func TestSeveralTypesInOneFile(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	file := filepath.Join(env.OutDir, "hello.txt")
	if err := os.WriteFile(file, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	process(t, env, map[string]any{"checksum_types": []string{"md5", "sha1"}, "output": "out/SUMS"}, bake.Artifact{Files: []string{file}})
	want := "b1946ac92492d2347c6235b4d2611184\thello.txt\nf572d396fae9206628714fb2ce00f72e94f2258f\thello.txt\n"
	if got := read(t, env.OutDir, "out", "SUMS"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestImageIsItsManifest(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	image := baketest.Image(t, "layer", "ghcr.io/acme/web:1.2")
	process(t, env, map[string]any{"checksum_types": "sha256", "output": "sums"}, image)
	manifest, err := image.Image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(manifest)
	if got, want := read(t, env.OutDir, "sums"), hex.EncodeToString(sum[:])+"\tghcr.io/acme/web:1.2\n"; got != want || image.Digest.Hex != hex.EncodeToString(sum[:]) {
		t.Errorf("got %q, want %q and the image's digest %s", got, want, image.Digest.Hex)
	}
}

func TestNothingToSum(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	post := baketest.NewPost(t, checksum.Kind(), nil)
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{{}}); err == nil {
		t.Error("an artifact without files: got no error")
	}
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{{Files: []string{"/no/such/file"}}}); err == nil {
		t.Error("a missing file: got no error")
	}
}
