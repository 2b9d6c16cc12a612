package source

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/store"
)

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

func newSources(t *testing.T) *Sources {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	client, err := registry.New(registry.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Sources{Store: s, Registry: client}
}

// imageOf is an image for a platform with one file in it.
func imageOf(t *testing.T, p v1.Platform, content string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1000, 0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = p.OS, p.Architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// A name that still points to what it did costs one request, and an image that
// was used before is found without any.
func TestImage(t *testing.T) {
	var mu sync.Mutex
	var requests []string
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, r.Method+" "+r.URL.Path)
		mu.Unlock()
		inner.ServeHTTP(w, r)
	}))
	s := newSources(t)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	want := imageOf(t, amd64, "content")
	if _, err := s.Registry.Push(t.Context(), ref.Context(), want, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Registry.Tag(t.Context(), want, registry.Target{Tag: ref.(name.Tag)}); err != nil {
		t.Fatal(err)
	}
	find := func(pull Pull) (string, int, error) {
		requests = nil
		img, err := s.Image(t.Context(), ref, amd64, registry.Auth{}, pull)
		if err != nil {
			return "", len(requests), err
		}
		return digest(t, img), len(requests), nil
	}
	if _, _, err := find(PullNever); err == nil {
		t.Error("an image that was never used was found")
	}
	if got, _, err := find(PullAlways); got != digest(t, want) || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	for pull, most := range map[Pull]int{PullAlways: 1, PullMissing: 0, PullNever: 0} {
		if got, n, err := find(pull); got != digest(t, want) || n > most || err != nil {
			t.Errorf("pull %s: got %s with %d requests %q, %v", pull, got, n, requests, err)
		}
	}
	server.Close()
	if _, _, err := find(PullMissing); err != nil {
		t.Errorf("without the registry: %v", err)
	}
	if _, _, err := find(PullAlways); err == nil {
		t.Error("the registry is gone, and was not missed")
	}
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})
	}
	one, two := imageOf(t, amd64, "one"), imageOf(t, amd64, "two")
	foreign := imageOf(t, v1.Platform{OS: "linux", Architecture: "arm64"}, "foreign")
	if err := path.AppendImage(one, named("one")); err != nil {
		t.Fatal(err)
	}
	inner := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: two}, mutate.IndexAddendum{Add: foreign})
	if err := path.AppendIndex(inner, named("both")); err != nil {
		t.Fatal(err)
	}
	s := newSources(t)
	for name, want := range map[string]v1.Image{"one": one, "both": two, digest(t, one): one} {
		if img, err := s.Layout(dir, name, amd64); err != nil || digest(t, img) != digest(t, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if img, err := s.Layout(dir, "", v1.Platform{OS: "linux", Architecture: "arm64"}); err != nil || digest(t, img) != digest(t, foreign) {
		t.Errorf("the only one for arm64: %v", err)
	}
	for name, text := range map[string]string{"": "several images", "none": "no image none"} {
		if _, err := s.Layout(dir, name, amd64); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The same tar, or archive, gives the same image, with the time of its newest file.
func TestArchiveAndRootfs(t *testing.T) {
	s := newSources(t)
	dir := t.TempDir()
	img := imageOf(t, amd64, "content")
	archive := filepath.Join(dir, "image.tar")
	if err := tarball.WriteToFile(archive, name.MustParseReference("base:1"), img); err != nil {
		t.Fatal(err)
	}
	first, err := s.Archive(t.Context(), archive)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := img.ConfigName()
	if got, err := first.ConfigName(); err != nil || got != id {
		t.Errorf("config %s, want %s (%v)", got, id, err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(content); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(dir, "rootfs.tar")
	if err := os.WriteFile(rootfs, plain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := s.Rootfs(t.Context(), rootfs, amd64)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := layers[0].DiffID()
	if config.RootFS.DiffIDs[0] != want || config.Created.Unix() != 1000 {
		t.Errorf("got %+v", config)
	}
	if err := os.WriteFile(rootfs, []byte("no tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rootfs(t.Context(), rootfs, amd64); err == nil {
		t.Error("no tar was taken for one")
	}
}

func TestScratch(t *testing.T) {
	img, err := Scratch(amd64)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if config, _ := img.ConfigFile(); err != nil || len(layers) != 0 || config.Architecture != "amd64" {
		t.Errorf("%d layers, %+v, %v", len(layers), config, err)
	}
}

func TestBootstrapNeedsItsProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newSources(t).Bootstrap(t.Context(), Packages{Suite: "bookworm"}, amd64, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "mmdebstrap is not installed") {
		t.Errorf("got %v", err)
	}
}

func TestSameServer(t *testing.T) {
	tests := []struct {
		server, image string
		want          bool
	}{
		{"", "ghcr.io/a/b", true}, {"ghcr.io", "ghcr.io/a/b", true}, {"https://ghcr.io/v2/", "ghcr.io/a/b", true},
		{"ghcr.io", "evil.example/a/b", false}, {"https://index.docker.io/v1/", "debian", true}, {"docker.io", "debian", true},
		{"https://ghcr.io.evil.example", "ghcr.io/a/b", false},
	}
	for _, test := range tests {
		ref, err := name.ParseReference(test.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := SameServer(test.server, ref.Context()); got != test.want {
			t.Errorf("%s for %s: %v", test.server, test.image, got)
		}
	}
}
