package publish

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/goleak"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/registry"
	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func artifact(t *testing.T) bake.Artifact {
	t.Helper()
	img, err := random.Image(10<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return bake.Artifact{Image: img, Digest: digest}
}

func refs(t *testing.T, names ...string) []bake.Ref {
	t.Helper()
	var out []bake.Ref
	for _, n := range names {
		ref, err := name.ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bake.Ref{Reference: ref})
	}
	return out
}

func namesOf(refs []bake.Ref) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.Name())
	}
	return out
}

func TestRegistry(t *testing.T) {
	one, two := rt.New(t), rt.New(t)
	a := artifact(t)
	var notes []string
	p := Registry{Client: newClient(t), Notify: func(s string) { notes = append(notes, s) }}
	d := "@" + a.Digest.String()
	got, err := p.Publish(t.Context(), a, refs(t, one.Host+"/a:1", one.Host+"/b:1", one.Host+"/a:2", two.Host+"/a:1", two.Host+"/a"+d))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{one.Host + "/a" + d, one.Host + "/b" + d, one.Host + "/a" + d, two.Host + "/a" + d, two.Host + "/a" + d}
	if diff := cmp.Diff(want, namesOf(got)); diff != "" {
		t.Error(diff)
	}
	uploads, mounts := 0, 0
	tagged := false
	for _, r := range one.Requests() {
		switch {
		case r.Method == "PUT" && strings.Contains(r.Path, "/blobs/"):
			uploads++
		case r.Method == "POST" && strings.Contains(r.Query, "mount="):
			mounts++
		case r.Method == "PUT" && strings.Contains(r.Path, "/manifests/sha256:"):
			if tagged {
				t.Errorf("%s after the first tag", r)
			}
		case r.Method == "PUT":
			tagged = true
		}
	}
	if uploads != 3 || mounts != 3 {
		t.Errorf("%d blobs uploaded and %d mounted, want 3 and 3", uploads, mounts)
	}
	if len(notes) != 3 || !strings.Contains(notes[1], "mounted from another repository") {
		t.Errorf("notes %q", notes)
	}
}

// TestNoTagBeforeAllDigests: when the second registry refuses the image, the
// first one's tag has not moved.
func TestNoTagBeforeAllDigests(t *testing.T) {
	one, two := rt.New(t), rt.New(t)
	p := Registry{Client: newClient(t)}
	two.On(rt.Is("PUT", "/manifests/"), -1, rt.Code(403, "DENIED", "read only"))
	_, err := p.Publish(t.Context(), artifact(t), refs(t, one.Host+"/a:1", two.Host+"/a:1"))
	if err == nil || !strings.Contains(err.Error(), "push "+two.Host+"/a: 403") {
		t.Fatalf("error %v", err)
	}
	for _, r := range one.Requests() {
		if r.Method == "PUT" && strings.HasSuffix(r.Path, "/manifests/1") {
			t.Error("the first registry's tag moved")
		}
	}
}

func TestCredentialsOfRefs(t *testing.T) {
	s := rt.New(t)
	s.On(rt.Any, -1, rt.Basic("bot", "geheim"))
	p := Registry{Client: newClient(t)}
	target := refs(t, s.Host+"/a:1")
	if _, err := p.Publish(t.Context(), artifact(t), target); err == nil {
		t.Error("published without credentials")
	}
	target[0].Auth = bake.Credentials{Username: "bot", Password: secret.New("geheim")}
	got, err := p.Publish(t.Context(), artifact(t), target)
	if err != nil || got[0].Auth != target[0].Auth {
		t.Errorf("published %v, %v", got, err)
	}
}

// TestRefusals hold for every publisher.
func TestRefusals(t *testing.T) {
	wrong := artifact(t)
	wrong.Digest = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	other := refs(t, "localhost:1/a@sha256:"+strings.Repeat("0", 64))
	for label, p := range map[string]bake.Publisher{
		"registry": Registry{Client: newClient(t)}, "nowhere": Nowhere{}, "folder": Folder{Path: t.TempDir()},
	} {
		if _, err := p.Publish(t.Context(), bake.Artifact{Files: []string{"/x"}}, nil); !errors.Is(err, errNoImage) {
			t.Errorf("%s: files: %v", label, err)
		}
		if _, err := p.Publish(t.Context(), wrong, nil); err == nil {
			t.Errorf("%s: an artifact with a wrong digest was published", label)
		}
		if _, err := p.Publish(t.Context(), artifact(t), other); err == nil {
			t.Errorf("%s: published under another digest", label)
		}
	}
}

func TestNowhere(t *testing.T) {
	a := artifact(t)
	var notes []string
	got, err := Nowhere{Notify: func(s string) { notes = append(notes, s) }}.Publish(t.Context(), a, refs(t, "ghcr.io/acme/web:1"))
	if err != nil || len(got) != 0 {
		t.Errorf("a dry run publishes nothing: %v, %v", namesOf(got), err)
	}
	if want := []string{"dry run: would push ghcr.io/acme/web:1 (" + a.Digest.String() + ")"}; !cmp.Equal(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
}

func TestFolder(t *testing.T) {
	a := artifact(t)
	for _, format := range []Format{Layout, OCIArchive, DockerArchive} {
		t.Run(string(format), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			p := Folder{Path: path, Format: format}
			for range 2 { // again: the same result
				if _, err := p.Publish(t.Context(), a, refs(t, "ghcr.io/acme/web:1", "ghcr.io/acme/web:2")); err != nil {
					t.Fatal(err)
				}
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
			switch format {
			case Layout:
				checkLayout(t, path, a.Digest)
			case OCIArchive:
				checkLayout(t, untar(t, path), a.Digest)
			case DockerArchive:
				checkArchive(t, path, a.Image)
			}
		})
	}
	if _, err := (Folder{Path: t.TempDir(), Format: "zip"}).Publish(t.Context(), a, nil); err == nil {
		t.Error("unknown format accepted")
	}
	untagged := filepath.Join(t.TempDir(), "x.tar")
	if _, err := (Folder{Path: untagged, Format: DockerArchive}).Publish(t.Context(), a, nil); err != nil {
		t.Errorf("without a tag: %v", err)
	}
}

func checkLayout(t *testing.T, path string, digest v1.Hash) {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil || len(m.Manifests) != 2 || m.Manifests[0].Digest != digest {
		t.Errorf("index %+v, %v", m, err)
	}
}

func checkArchive(t *testing.T, path string, want v1.Image) {
	t.Helper()
	tag, _ := name.NewTag("ghcr.io/acme/web:2")
	got, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := got.ConfigName()
	if wantID, _ := want.ConfigName(); id != wantID {
		t.Errorf("image %v, want %v", id, wantID)
	}
}

func untar(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dir := t.TempDir()
	for tr := tar.NewReader(file); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(to, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(to, data, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
