package registry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/goleak"

	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a client, a registry and what the client said and slept.
type fixture struct {
	*registrytest.Server
	c      *Client
	mu     sync.Mutex
	notes  []string
	sleeps []time.Duration
}

func newFixture(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{Server: registrytest.New(t)}
	f.c = f.client(t, change...)
	return f
}

func (f *fixture) client(t *testing.T, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{
		Version: "1.2.3",
		Notify: func(s string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.notes = append(f.notes, s)
		},
		Sleep: func(ctx context.Context, d time.Duration) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.sleeps = append(f.sleeps, d)
			return ctx.Err()
		},
	}
	for _, fn := range change {
		fn(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (f *fixture) repo(t *testing.T, path string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(f.Host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must pushes an image and tags it.
func (f *fixture) must(t *testing.T, m Manifest, tag name.Tag) v1.Hash {
	t.Helper()
	if _, err := f.c.Push(t.Context(), tag.Repository, m, Auth{}); err != nil {
		t.Fatal(err)
	}
	if err := f.c.Tag(t.Context(), m, Target{Tag: tag}); err != nil {
		t.Fatal(err)
	}
	return digestOf(t, m)
}

func digestOf(t *testing.T, m Manifest) v1.Hash {
	t.Helper()
	h, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func randomImage(t *testing.T, size int64, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pull fetches an image and reads every byte of it.
func (f *fixture) pull(t *testing.T, c *Client, ref name.Reference) (v1.Hash, error) {
	t.Helper()
	img, desc, err := c.Image(t.Context(), ref, v1.Platform{}, Auth{})
	if err != nil {
		return v1.Hash{}, err
	}
	if _, err := img.ConfigFile(); err != nil {
		return desc.Digest, err
	}
	layers, err := img.Layers()
	if err != nil {
		return desc.Digest, err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return desc.Digest, err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return desc.Digest, err
		}
	}
	return desc.Digest, nil
}

// wantError checks the type and the words of an error.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
}

func summary(requests []registrytest.Request) []string {
	var got []string
	for _, r := range requests {
		s := r.String()
		if i := strings.Index(s, "sha256:"); i >= 0 {
			s = s[:i] + "DIGEST" + s[min(i+71, len(s)):]
		}
		if i := strings.Index(s, "uploads/"); i >= 0 && !strings.HasSuffix(s, "?mount") {
			s = s[:i+len("uploads/")]
		}
		got = append(got, s)
	}
	return got
}

func TestPushAndPull(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 2<<20, 3)
	repo := f.repo(t, "acme/web")
	stats, err := f.c.Push(t.Context(), repo, img, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := img.Manifest()
	total := manifest.Config.Size
	for _, l := range manifest.Layers {
		total += l.Size
	}
	if want := (Stats{Uploaded: total}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	if _, err := f.c.Head(t.Context(), repo.Tag("v1"), Auth{}); err == nil {
		t.Error("the push moved a tag")
	}
	if err := f.c.Tag(t.Context(), img, Target{Tag: repo.Tag("v1")}); err != nil {
		t.Fatal(err)
	}
	head, err := f.c.Head(t.Context(), repo.Tag("v1"), Auth{})
	if err != nil || head.Digest != digestOf(t, img) {
		t.Errorf("head %v, %v", head.Digest, err)
	}
	got, err := f.pull(t, f.c, repo.Tag("v1"))
	if err != nil || got != digestOf(t, img) {
		t.Errorf("pull %v, %v", got, err)
	}
}

// TestRequests holds the number of requests: they are what an unchanged push
// costs.
func TestRequests(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Jobs = 1 })
	img := randomImage(t, 10<<10, 1)
	f.must(t, img, f.repo(t, "a").Tag("1"))
	blob := []string{"HEAD /v2/a/blobs/DIGEST", "POST /v2/a/blobs/uploads/", "PUT /v2/a/blobs/uploads/"}
	want := append([]string{"HEAD /v2/a/manifests/DIGEST"}, append(blob, blob...)...)
	want = append(want, "PUT /v2/a/manifests/DIGEST", "PUT /v2/a/manifests/1")
	requests := f.Requests()
	if diff := cmp.Diff(want, summary(requests)); diff != "" {
		t.Errorf("cold push (-want +got):\n%s", diff)
	}
	for _, r := range requests {
		if got := r.Header.Get("User-Agent"); got != "imgbake/1.2.3" {
			t.Errorf("user agent %q", got)
		}
	}

	f.must(t, img, f.repo(t, "a").Tag("1"))
	want = []string{"HEAD /v2/a/manifests/DIGEST", "PUT /v2/a/manifests/1"}
	if diff := cmp.Diff(want, summary(f.Requests())); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}

	f.must(t, img, f.repo(t, "b").Tag("1"))
	for _, r := range f.Requests() {
		if registrytest.Upload(&http.Request{Method: r.Method, URL: mustURL(t, r.Path)}) {
			t.Errorf("%s: uploaded instead of mounted", r)
		}
	}
}

func TestMount(t *testing.T) {
	f := newFixture(t)
	base := randomImage(t, 10<<10, 2)
	f.must(t, base, f.repo(t, "base").Tag("1"))
	c := f.client(t) // one that knows nothing of earlier pushes
	pulled, _, err := c.Image(t.Context(), f.repo(t, "base").Tag("1"), v1.Platform{}, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	extra, _ := random.Layer(1000, "application/vnd.oci.image.layer.v1.tar+gzip")
	img, err := mutate.AppendLayers(pulled, extra)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := c.Push(t.Context(), f.repo(t, "derived"), img, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Mounted < 20<<10 || stats.Uploaded > 4<<10 || stats.Existing != 0 {
		t.Errorf("stats %+v: the base's layers were not mounted", stats)
	}

	// A repository given as a hint, for layers that do not tell.
	c = f.client(t)
	stats, err = c.Push(t.Context(), f.repo(t, "other"), base, Auth{}, f.repo(t, "base"))
	if err != nil || stats.Mounted == 0 || stats.Uploaded != 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}

	// A source that may not be read is no reason to fail.
	f.On(registrytest.Is(http.MethodPost, "/third/"), 1, registrytest.Status(http.StatusForbidden))
	c = f.client(t)
	if _, err = c.Push(t.Context(), f.repo(t, "third"), base, Auth{}, f.repo(t, "base")); err != nil {
		t.Error(err)
	}
}

func TestIndex(t *testing.T) {
	f := newFixture(t)
	amd, arm := randomImage(t, 100, 1), randomImage(t, 100, 1)
	idx := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}})
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: idx})
	deep := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: nested})
	repo := f.repo(t, "multi")
	f.must(t, idx, repo.Tag("flat"))
	f.must(t, nested, repo.Tag("nested"))
	if _, err := f.c.Push(t.Context(), repo, deep, Auth{}); err == nil {
		t.Error("an index three deep was pushed")
	}
	for _, tc := range []struct {
		tag      string
		platform v1.Platform
		want     v1.Hash
		err      string
	}{
		{"flat", v1.Platform{OS: "linux", Architecture: "amd64"}, digestOf(t, amd), ""},
		{"flat", v1.Platform{Architecture: "arm64"}, digestOf(t, arm), ""},
		{"flat", v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, digestOf(t, arm), ""},
		{"nested", v1.Platform{OS: "linux", Architecture: "amd64"}, digestOf(t, amd), ""},
		{"flat", v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Hash{}, "no image for linux/s390x; there are: linux/amd64, linux/arm64/v8"},
	} {
		_, desc, err := f.c.Image(t.Context(), repo.Tag(tc.tag), tc.platform, Auth{})
		if tc.err != "" {
			wantError(t, err, tc.err, f.Host+"/multi")
			continue
		}
		if err != nil || desc.Digest != tc.want {
			t.Errorf("%s %s: %v, %v; want %v", tc.tag, tc.platform, desc.Digest, err, tc.want)
		}
	}
}

func TestMirrors(t *testing.T) {
	f := newFixture(t)
	mirror := registrytest.New(t)
	img := randomImage(t, 100, 1)
	f.must(t, img, f.repo(t, "lib/x").Tag("1"))
	c := f.client(t, func(o *Options) { o.Mirrors = map[string][]string{f.Host: {mirror.Host}} })
	mirrorTag, _ := name.NewTag(mirror.Host + "/lib/x:1")
	f.Requests()

	if _, err := f.pull(t, c, f.repo(t, "lib/x").Tag("1")); err != nil {
		t.Fatalf("without the image in the mirror: %v", err)
	}
	if len(f.notes) != 1 || !strings.Contains(f.notes[0], "mirror "+mirror.Host) {
		t.Errorf("notes %q", f.notes)
	}
	f.must(t, img, mirrorTag)
	f.Requests()
	if _, err := f.pull(t, c, f.repo(t, "lib/x").Tag("1")); err != nil {
		t.Fatal(err)
	}
	if got := f.Requests(); len(got) != 0 {
		t.Errorf("the registry was asked although the mirror has it: %v", got)
	}
}

func TestLayer(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 5000, 1)
	f.must(t, img, f.repo(t, "a").Tag("1"))
	layers, _ := img.Layers()
	digest, _ := layers[0].Digest()
	l, err := f.c.Layer(t.Context(), f.repo(t, "a").Digest(digest.String()), Auth{})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if n, err := io.Copy(io.Discard, rc); err != nil || n == 0 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if from, ok := mountedFrom(l); !ok || from.Name() != f.Host+"/a" {
		t.Errorf("layer from %v, %v", from, ok)
	}
}

// TestParallelPushes of the same blob send it once.
func TestParallelPushes(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 100<<10, 2)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var sum Stats
	for i := range 4 {
		wg.Go(func() {
			stats, err := f.c.Push(t.Context(), f.repo(t, fmt.Sprintf("p%d", i%2)), img, Auth{})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum = sum.Add(stats)
		})
	}
	wg.Wait()
	if sum.Uploaded > 250<<10 {
		t.Errorf("uploaded more than once: %+v", sum)
	}
}

// TestSend: layers that were sent before are not sent again, and nothing but that
// becomes of them.
func TestSend(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Jobs = 1 })
	img := randomImage(t, 10<<10, 2)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	blob := []string{"HEAD /v2/a/blobs/DIGEST", "POST /v2/a/blobs/uploads/", "PUT /v2/a/blobs/uploads/"}
	for range 2 {
		if err := f.c.Send(t.Context(), f.repo(t, "a"), layers[:1], Auth{}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(append(blob, blob[0]), summary(f.Requests())); diff != "" {
		t.Errorf("sent twice (-want +got):\n%s", diff)
	}
	size, err := layers[0].Size()
	if err != nil {
		t.Fatal(err)
	}
	if stats, err := f.c.Push(t.Context(), f.repo(t, "a"), img, Auth{}); err != nil || stats.Existing != size {
		t.Errorf("pushed %+v, %v: of %d bytes that were there", stats, err, size)
	}
	puts := 0
	for _, r := range summary(f.Requests()) {
		if r == blob[2] {
			puts++
		}
	}
	if puts != 2 { // the other layer, the configuration
		t.Errorf("%d blobs were sent with the image", puts)
	}
}

// TestSendOnce: what fails on the way ahead is for the push to try again.
func TestSendOnce(t *testing.T) {
	f := newFixture(t)
	layers, err := randomImage(t, 10<<10, 1).Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []func(*http.Request) bool{registrytest.Upload, func(r *http.Request) bool { return r.Method == http.MethodHead }} {
		asked := 0
		f.On(at, -1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			asked++
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		if err := f.c.Send(t.Context(), f.repo(t, "a"), layers, Auth{}); err == nil || asked != 1 || len(f.notes) > 0 || len(f.sleeps) > 0 {
			t.Errorf("asked %d times, told %q, slept %v: %v", asked, f.notes, f.sleeps, err)
		}
	}
}

func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	notPEM := dir + "/ca.pem"
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{CAFiles: []string{dir + "/none"}}, "registry CA"},
		{Options{CAFiles: []string{notPEM}}, "no PEM certificate"},
		{Options{Getenv: env("HTTPS_PROXY", "://x:geheim@")}, "HTTPS_PROXY is not a URL"},
		{Options{Getenv: env("DOCKER_AUTH_CONFIG", "{")}, "docker config DOCKER_AUTH_CONFIG"},
	} {
		_, err := New(tc.o)
		wantError(t, err, tc.want)
		if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v shows a password", err)
		}
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 100<<10, 2)
	ctx, cancel := context.WithCancel(t.Context())
	f.On(registrytest.Upload, -1, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		cancel()
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	_, err := f.c.Push(ctx, f.repo(t, "a"), img, Auth{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context canceled", err)
	}
}

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func password(s string) secret.Value { return secret.New(s) }

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
