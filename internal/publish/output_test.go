package publish_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/publish"
	"github.com/imgbake/imgbake-action/internal/store"
)

// two are two images, alone and as an index.
func two(t *testing.T) (a, b v1.Image, index v1.ImageIndex) {
	t.Helper()
	a, b = baketest.Image(t, "a").Image, baketest.Image(t, "b").Image
	made, err := bake.IndexArtifact("test", []mutate.IndexAddendum{{Add: a}, {Add: b}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, b, made.Index
}

func TestOutputDocker(t *testing.T) {
	a, b, index := two(t)
	path := filepath.Join(t.TempDir(), "images.tar")
	err := publish.Output{Path: path, Format: publish.DockerArchive}.Write(t.Context(), []store.Named{
		{Name: "ghcr.io/acme/web:1", Image: a}, {Name: "web.oci@linux/arm64", Image: b}, {Name: "web.oci", Index: index},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range manifest {
		got = append(got, one.RepoTags...)
	}
	if diff := cmp.Diff([]string{"ghcr.io/acme/web:1", "web.oci:linux-arm64"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A stream has the same layout as a folder.
func TestOutputStream(t *testing.T) {
	_, _, index := two(t)
	images := []store.Named{{Name: "ghcr.io/acme/web:1", Index: index}}
	var stream bytes.Buffer
	if err := (publish.Output{Path: "-", Format: publish.OCIArchive, Stream: &stream}).Write(t.Context(), images); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (publish.Output{Path: dir, Format: publish.Layout}).Write(t.Context(), images); err != nil {
		t.Fatal(err)
	}
	files := 0
	for tr := tar.NewReader(&stream); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		files++
		got, _ := io.ReadAll(tr)
		if want, err := os.ReadFile(filepath.Join(dir, h.Name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", h.Name, err)
		}
	}
	if files < 7 { // index.json, oci-layout, the index, and two images of manifest, config and layer
		t.Errorf("%d files", files)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	read, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := read.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || !manifest.Manifests[0].MediaType.IsIndex() {
		t.Errorf("index.json: %+v, %v", manifest, err)
	}
}

func TestOutputOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.tar")
	if err := (publish.Output{Path: path, Format: publish.DockerArchive}).Write(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file")
	}
}
