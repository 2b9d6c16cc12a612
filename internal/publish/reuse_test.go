package publish

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/registry"
	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/store"
)

// process is what a run of the program has: a store that others had before
// it, and a client of its own.
func process(t *testing.T, dir string) (*store.Store, Registry) {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := registry.New(registry.Options{Retries: -1, Places: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, Registry{Client: c}
}

func publish(t *testing.T, p Registry, img v1.Image, names ...string) {
	t.Helper()
	if _, err := p.Publish(t.Context(), bake.Artifact{Image: img}, refs(t, names...)); err != nil {
		t.Fatal(err)
	}
}

// sent sums up what a registry was asked and what it was sent.
func sent(s *rt.Server) (requests []string, uploads int) {
	for _, r := range s.Requests() {
		requests = append(requests, r.String())
		if r.Method == http.MethodPut && strings.Contains(r.Path, "/blobs/") {
			uploads++
		}
	}
	return requests, uploads
}

// TestUnchanged: a bake of which nothing changed asks where the base's tag
// points to, and where its own do.
func TestUnchanged(t *testing.T) {
	s := rt.New(t)
	_, p := process(t, t.TempDir())
	img := artifact(t).Image
	publish(t, p, img, s.Host+"/base:1", s.Host+"/app:1", s.Host+"/app:latest")
	s.Requests()
	_, later := process(t, t.TempDir())
	base := refs(t, s.Host+"/base:1")[0]
	if _, err := later.Client.Head(t.Context(), base, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	publish(t, later, img, s.Host+"/app:1")
	got, _ := sent(s)
	if diff := cmp.Diff([]string{"HEAD /v2/base/manifests/1", "HEAD /v2/app/manifests/1"}, got); diff != "" {
		t.Errorf("one tag (-want +got):\n%s", diff)
	}
	// A tag that moved is put back; the image is there.
	publish(t, later, artifact(t).Image, s.Host+"/app:latest")
	s.Requests()
	publish(t, later, img, s.Host+"/app:1", s.Host+"/app:latest")
	got, uploads := sent(s)
	if want := "PUT /v2/app/manifests/latest"; got[len(got)-1] != want || len(got) != 3 || uploads != 0 {
		t.Errorf("requests %q, want two questions and %q", got, want)
	}
}

// TestRegistryDown says so once, not for every tag and blob.
func TestRegistryDown(t *testing.T) {
	s := rt.New(t)
	s.On(rt.Any, -1, rt.Status(http.StatusServiceUnavailable))
	_, p := process(t, t.TempDir())
	_, err := p.Publish(t.Context(), artifact(t), refs(t, s.Host+"/app:1"))
	if err == nil || !strings.Contains(err.Error(), "push "+s.Host+"/app: 503") {
		t.Errorf("error %v", err)
	}
	if got, _ := sent(s); len(got) != 1 {
		t.Errorf("requests %q", got)
	}
}

// TestMountedByALaterRun: what one run pulled and pushed, another one mounts.
func TestMountedByALaterRun(t *testing.T) {
	s, dir := rt.New(t), t.TempDir()
	_, other := process(t, t.TempDir())
	publish(t, other, artifact(t).Image, s.Host+"/base:1")

	st, p := process(t, dir)
	pulled, _, err := p.Client.Image(t.Context(), refs(t, s.Host+"/base:1")[0], v1.Platform{}, registry.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if layers, err = st.PutLayers(t.Context(), layers, 3); err != nil {
		t.Fatal(err)
	}
	extra, err := random.Layer(1000, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(withoutLayers(t, config), append(layers, extra)...)
	if err != nil {
		t.Fatal(err)
	}
	s.Requests()
	publish(t, p, img, s.Host+"/derived:1")
	if requests, uploads := sent(s); uploads != 2 { // the new layer and the configuration
		t.Errorf("%d uploads: the base's layers were not mounted: %q", uploads, requests)
	}

	st, later := process(t, dir)
	publish(t, later, img, s.Host+"/copy:1")
	if requests, uploads := sent(s); uploads != 0 {
		t.Errorf("%d uploads by a later run: %q", uploads, requests)
	}

	digest, _ := extra.Digest()
	st.AddPlace(s.Host, digest, "gone")
	_, last := process(t, dir)
	publish(t, last, img, s.Host+"/last:1")
	if requests, uploads := sent(s); uploads != 1 {
		t.Errorf("%d uploads after one wrong hint, want 1: %q", uploads, requests)
	}
}

func withoutLayers(t *testing.T, config *v1.ConfigFile) v1.Image {
	t.Helper()
	img, err := random.Image(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs, config.History = nil, nil
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPullLayers: layers of all kinds arrive together, checked, over
// connections that break off.
func TestPullLayers(t *testing.T) {
	s := rt.New(t)
	_, p := process(t, t.TempDir())
	content := bytes.Repeat([]byte("zstd or gzip\n"), 20_000)
	layer := func(c compression.Compression, media types.MediaType, content []byte) v1.Layer {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
			tarball.WithCompression(c), tarball.WithMediaType(media))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	incompressible, err := random.Layer(300<<10, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(withoutLayers(t, &v1.ConfigFile{}), types.OCIManifestSchema1),
		layer(compression.ZStd, types.OCILayerZStd, content), layer(compression.GZip, types.OCILayer, content), incompressible, incompressible)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, p, img, s.Host+"/a:1")
	s.Requests()

	st, _ := process(t, t.TempDir())
	c, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	pulled, _, err := c.Image(t.Context(), refs(t, s.Host+"/a:1")[0], v1.Platform{}, registry.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	s.On(rt.Blob, 1, rt.Truncate(100))
	stored, err := st.PutLayers(t.Context(), layers, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range stored {
		plain, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := v1.SHA256(plain)
		plain.Close()
		if want, _ := layers[i].DiffID(); err != nil || got != want {
			t.Errorf("layer %d has diff ID %v, want %v, error %v", i, got, want, err)
		}
	}
	if media, _ := stored[0].MediaType(); media != types.OCILayerZStd {
		t.Errorf("the zstd layer is a %s", media)
	}
	digest, _ := incompressible.Digest()
	gets := 0
	for _, r := range s.Requests() {
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, digest.String()) && r.Header.Get("Range") == "" {
			gets++
		}
	}
	if gets != 1 {
		t.Errorf("a layer that is there twice was fetched %d times", gets)
	}

	// A wrong byte ends it, and nothing of the layer stays.
	st, _ = process(t, t.TempDir())
	s.On(rt.Is(http.MethodGet, digest.String()), -1, rt.Flip)
	if _, err := st.PutLayers(t.Context(), layers, 4); err == nil {
		t.Error("a layer with another content was taken")
	}
	if _, err := st.Layer(digest); err == nil {
		t.Error("the damaged layer is in the store")
	}
}

var _ registry.Places = (*store.Store)(nil)
