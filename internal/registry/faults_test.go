package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func short(o *Options) {
	o.Timeouts = Timeouts{Headers: 100 * time.Millisecond, Stall: 100 * time.Millisecond, Commit: 100 * time.Millisecond}
	o.Retries = 1
}

// TestTransientFaults: each of these goes away, and so must the trouble.
func TestTransientFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match rt.Match
		times int
		fault rt.Fault
		pull  bool
	}{
		{"500 to a ping", rt.Is("GET", "/v2/"), 2, rt.Status(500), false},
		{"429 to a ping", rt.Any, 1, rt.Status(429, "Retry-After", "1"), false},
		{"503 to the start of an upload", rt.Is("POST", "/uploads/"), 3, rt.Status(503), false},
		{"500 to an upload", rt.Upload, 2, rt.Status(500), false},
		{"429 to an upload", rt.Upload, 2, rt.Status(429, "Retry-After", "7"), false},
		{"upload broken off", rt.Upload, 2, rt.ResetAfter(1000), false},
		{"answer to an upload lost", rt.Upload, 1, rt.After(rt.Reset), false},
		{"upload session lost", rt.Upload, 1, rt.Code(404, "BLOB_UPLOAD_UNKNOWN", "gone"), false},
		{"manifest put broken off", rt.Is("PUT", "/manifests/"), 2, rt.Reset, false},
		{"manifest put 502", rt.Is("PUT", "/manifests/"), 2, rt.Status(502), false},
		{"blob not known yet", rt.Is("PUT", "/manifests/"), 2, rt.Code(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"), false},
		{"blob broken off", rt.Blob, 2, rt.Truncate(100), true},
		{"blob broken off at the start", rt.Blob, 2, rt.Truncate(0), true},
		{"blob 503", rt.Blob, 3, rt.Status(503), true},
		{"manifest truncated", rt.Manifest, 1, rt.Truncate(100), true},
		{"manifest 504", rt.Manifest, 1, rt.Status(504), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			img := randomImage(t, 50<<10, 2)
			tag := f.repo(t, "acme/web").Tag("v1")
			if tc.pull {
				f.must(t, img, tag)
			}
			f.On(tc.match, tc.times, tc.fault)
			if !tc.pull {
				f.must(t, img, tag)
			}
			got, err := f.pull(t, f.c, tag)
			if err != nil || got != digestOf(t, img) {
				t.Errorf("pull %v, %v", got, err)
			}
			if len(f.sleeps) < tc.times || len(f.notes) < tc.times {
				t.Errorf("%d sleeps and %d notes for %d faults: %q", len(f.sleeps), len(f.notes), tc.times, f.notes)
			}
		})
	}
}

// TestLastingFaults: each ends in one clear error, and no tag moves.
func TestLastingFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match rt.Match
		fault rt.Fault
		want  []string
	}{
		{"401 without credentials", rt.Any, rt.Basic("u", "p"), []string{"push ", "401 unauthorized", "no credentials for", "--registry-auth"}},
		{"403", rt.Is("PUT", "/manifests/"), rt.Code(403, "DENIED", "not yours"), []string{"403 forbidden: denied not yours", "permissions"}},
		{"404", rt.Is("POST", ""), rt.Code(404, "NAME_UNKNOWN", "no such repository"), []string{"404 not found", "name_unknown"}},
		{"413", rt.Upload, rt.Status(413), []string{"413", "too large for the proxy"}},
		{"429 for long", rt.Upload, rt.Status(429, "Retry-After", "86400"), []string{"429 too many requests", "limits the rate"}},
		{"429 again and again", rt.Any, rt.Status(429), []string{"429"}},
		{"500 again and again", rt.Upload, rt.Status(500), []string{"500 internal server error"}},
		{"connection lost again and again", rt.Upload, rt.ResetAfter(10), []string{"blob sha256:"}},
		{"wrong digest after the push", rt.Is("PUT", "/manifests/"), rt.Header("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64)), []string{"stored the manifest as sha256:0000"}},
		{"no location", rt.Is("POST", "/uploads/"), rt.Status(202), []string{"no usable Location"}},
		{"upload on plain http", rt.Is("POST", "/uploads/"), rt.Status(202, "Location", "http://storage.example/x"), []string{"refused: plain http to storage.example"}},
		{"terminal escape in a message", rt.Is("POST", ""), rt.Code(400, "X", "\x1b]0;pwned\x07\n::add-path::/evil"), []string{"400 bad request: x ]0;pwned ::add-path::/evil"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			tag := f.repo(t, "acme/web").Tag("v1")
			old := f.must(t, randomImage(t, 100, 1), tag)
			f.Requests()
			f.On(tc.match, -1, tc.fault)
			c := f.client(t)
			img := randomImage(t, 50<<10, 2)
			_, err := c.Push(t.Context(), tag.Repository, img, Auth{})
			if err == nil {
				err = c.Tag(t.Context(), img, Target{Tag: tag})
			}
			wantError(t, err, append(tc.want, f.Host+"/acme/web")...)
			f.Heal()
			if head, err := f.c.Head(t.Context(), tag, Auth{}); err != nil || head.Digest != old {
				t.Errorf("the tag is on %v (%v), was on %v", head.Digest, err, old)
			}
		})
	}
}

func TestBoundedRetries(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Upload, -1, rt.Status(500))
	if _, err := f.c.Push(t.Context(), f.repo(t, "a"), randomImage(t, 10, 0), Auth{}); err == nil {
		t.Fatal("no error")
	}
	uploads := 0
	for _, r := range f.Requests() {
		if r.Method == http.MethodPut {
			uploads++
		}
	}
	if uploads != 5 || len(f.sleeps) != 4 {
		t.Errorf("%d uploads and %d sleeps, want 5 and 4", uploads, len(f.sleeps))
	}
	for i, d := range f.sleeps {
		if base := firstWait << i; d < base/2 || d > base*3/2 {
			t.Errorf("sleep %d is %v, want about %v", i, d, base)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0}, {"7", 7 * time.Second}, {"-5", 0}, {"soon", 0}, {"99999999999999999999", 0},
		{date.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		{date.Add(-time.Minute).Format(http.TimeFormat), 0},
	} {
		h := http.Header{"Retry-After": {tc.value}, "Date": {date.Format(http.TimeFormat)}}
		if got := retryAfter(h); got != tc.want {
			t.Errorf("retryAfter(%q) = %v, want %v", tc.value, got, tc.want)
		}
	}
}

func TestWaitsAsToldBy429(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Upload, 1, rt.Status(429, "Retry-After", "7"))
	f.must(t, randomImage(t, 10, 0), f.repo(t, "a").Tag("1"))
	if len(f.sleeps) != 1 || f.sleeps[0] != 7*time.Second {
		t.Errorf("slept %v, want 7s", f.sleeps)
	}
}

// TestHostileAnswers: what is read is checked, whatever the headers say.
func TestHostileAnswers(t *testing.T) {
	big := rt.Body(func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxManifest)...) })
	for _, tc := range []struct {
		name  string
		match rt.Match
		fault rt.Fault
		want  string
	}{
		{"blob flipped", rt.Blob, rt.Flip, "sha256"},
		{"blob longer", rt.Blob, rt.Body(func(b []byte) []byte { return append(b, 'x') }), "expected size"},
		{"blob shorter", rt.Blob, rt.Body(func(b []byte) []byte { return b[1:] }), "expected size"},
		{"manifest flipped, by digest", rt.Manifest, rt.Body(func(b []byte) []byte { return append(b, '\n') }), "does not match requested digest"},
		{"not JSON", rt.Manifest, rt.Body(func([]byte) []byte { return []byte("<html>") }), "manifest"},
		{"text/html", rt.Manifest, rt.Header("Content-Type", "text/html"), "neither an image nor an index"},
		{"says index, is image", rt.Manifest, rt.Header("Content-Type", string(types.OCIImageIndex)), "its header says"},
		{"huge manifest", rt.Manifest, big, "larger than 4 MiB"},
		{"redirect loop", rt.Blob, rt.Redirect(""), "more than 5 redirects"},
		{"redirect to metadata", rt.Blob, rt.Redirect("http://169.254.169.254"), "169.254.169.254"},
		{"redirect to plain http", rt.Blob, rt.Redirect("http://storage.example"), "plain http to storage.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			img := randomImage(t, 5000, 1)
			tag := f.repo(t, "a").Tag("1")
			digest := f.must(t, img, tag)
			f.On(tc.match, -1, tc.fault)
			var ref name.Reference = tag
			if strings.Contains(tc.name, "by digest") {
				ref = tag.Repository.Digest(digest.String())
			}
			_, err := f.pull(t, f.c, ref)
			wantError(t, err, tc.want)
			if len(f.sleeps) > 0 {
				t.Errorf("tried again: %q", f.notes)
			}
		})
	}
}

// TestHugeManifestWithoutLength is not believed to be small because it does
// not say how large it is.
func TestHugeManifestWithoutLength(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Manifest, -1, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for range 2 * maxManifest / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	_, err := f.pull(t, f.c, f.repo(t, "a").Tag("1"))
	wantError(t, err, "larger than 4 MiB")
}

func TestHostileManifests(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	manifest := func(config, layer string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"mediaType":"x",%s},"layers":[{"digest":%q,"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}`,
			types.OCIManifestSchema1, digest, config, digest, layer)
	}
	for _, tc := range []struct{ name, manifest, want string }{
		{"huge config", manifest(`"size":9000000`, `"size":1`), "configuration of 9000000 bytes"},
		{"config without size", manifest(`"size":-1`, `"size":1`), "configuration of -1 bytes"},
		{"layer without size", manifest(`"size":1`, `"size":-1`), "of size -1"},
		{"foreign layer", manifest(`"size":1`, `"size":1,"urls":["http://localhost:1/x"]`), "foreign layer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.On(rt.Manifest, -1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				fmt.Fprint(w, tc.manifest)
			})
			_, err := f.pull(t, f.c, f.repo(t, "a").Tag("1"))
			wantError(t, err, tc.want)
		})
	}
}

func FuzzManifest(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"mediaType":1}`, `{"manifests":[{"platform":{"os":"linux"}}]}`, `{"schemaVersion":2,"config":{},"layers":[{}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		mediaTypeInside(raw)
		var idx v1.IndexManifest
		if json.Unmarshal(raw, &idx) == nil {
			pick(idx.Manifests, v1.Platform{})
		}
	})
}

// TestStalls: whoever sends nothing, or next to nothing, is left.
func TestStalls(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match rt.Match
		fault rt.Fault
		want  string
		pull  bool
	}{
		{"no headers", rt.Manifest, rt.Stall(-1), "no answer for 100ms", true},
		{"blob stalls", rt.Blob, rt.Stall(2000), "no data for 100ms", true},
		{"blob drips", rt.Blob, drip, "no data for 100ms", true},
		{"no answer to an upload", rt.Upload, rt.Stall(-1), "no answer to what was sent for 100ms", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			img := randomImage(t, 50<<10, 1)
			tag := f.repo(t, "a").Tag("1")
			if tc.pull {
				f.must(t, img, tag)
			}
			f.On(tc.match, -1, tc.fault)
			c := f.client(t, short)
			var err error
			if tc.pull {
				_, err = f.pull(t, c, tag)
			} else {
				_, err = c.Push(t.Context(), tag.Repository, img, Auth{})
			}
			wantError(t, err, tc.want)
			if len(f.notes) == 0 && tc.name != "blob drips" { // of unknown length: not resumed
				t.Error("no second try")
			}
		})
	}
}

// drip sends a byte whenever it can, as slow attacks do: too little to count
// as progress.
func drip(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		w.Write([]byte{0})
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// TestResumes asks only for what is missing.
func TestResumes(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 200<<10, 1)
	tag := f.repo(t, "a").Tag("1")
	f.must(t, img, tag)
	layers, _ := img.Layers()
	layer, _ := layers[0].Digest()
	match := rt.Is(http.MethodGet, layer.String())
	f.On(match, 1, rt.Truncate(100<<10))
	f.On(match, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if got := r.Header.Get("Range"); !strings.HasPrefix(got, "bytes=102400-") {
			t.Errorf("range %q", got)
		}
		rt.Body(func(b []byte) []byte { return b })(&partialWriter{w}, withoutRange(r), next)
	})
	if _, err := f.pull(t, f.c, tag); err != nil {
		t.Fatal(err)
	}
}

func withoutRange(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	return r
}

// partialWriter turns a whole answer into the part from 100 KiB on.
type partialWriter struct{ http.ResponseWriter }

func (p *partialWriter) WriteHeader(int) {
	p.Header().Del("Content-Length")
	p.Header().Set("Content-Range", "bytes 102400-/*")
	p.ResponseWriter.WriteHeader(http.StatusPartialContent)
}

func (p *partialWriter) Write(b []byte) (int, error) {
	if _, err := p.ResponseWriter.Write(b[100<<10:]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TestOwnError: a layer that cannot be read is our trouble, and not tried
// again.
func TestOwnError(t *testing.T) {
	f := newFixture(t)
	layer := brokenLayer{}
	img, err := mutate.AppendLayers(randomImage(t, 10, 0), layer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.c.Push(t.Context(), f.repo(t, "a"), img, Auth{})
	if !errors.Is(err, errDisk) || len(f.sleeps) > 0 {
		t.Errorf("error %v after %d sleeps", err, len(f.sleeps))
	}
	wantError(t, err, "blob sha256:", "disk on fire")
}

var errDisk = errors.New("disk on fire")

type brokenLayer struct{}

func (brokenLayer) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, nil
}
func (brokenLayer) DiffID() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}, nil
}
func (brokenLayer) Size() (int64, error)                 { return 1000, nil }
func (brokenLayer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (brokenLayer) Uncompressed() (io.ReadCloser, error) { return nil, errDisk }
func (brokenLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(iotest.ErrReader(errDisk)), nil
}
