package store_test

import (
	"archive/tar"
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/store"
)

// TestLoadable: in the archive of an image, which old engines load, no layer is
// compressed with zstd, and the image is the same.
func TestLoadable(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img := empty.Image
	for _, c := range []bake.Compression{bake.Gzip, bake.Zstd} {
		if img, err = mutate.AppendLayers(img, oneFile(t, s, c)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "web.tar")
	tag, _ := name.NewTag("web:1")
	if err := tarball.WriteToFile(path, tag, store.Loadable(img)); err != nil {
		t.Fatal(err)
	}
	loaded, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got, err := loaded.ConfigFile()
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("config %+v, %v, want %+v", got, err, want)
	}
	layers, err := loaded.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		packed, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		magic := make([]byte, 4)
		if _, err := io.ReadFull(packed, magic); err != nil || bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			t.Errorf("layer %d begins with % x, %v", i, magic, err)
		}
		packed.Close()
		diffID, err := l.DiffID()
		if err != nil || diffID != want.RootFS.DiffIDs[i] {
			t.Errorf("layer %d is %s, %v, want %s", i, diffID, err, want.RootFS.DiffIDs[i])
		}
	}
}

func oneFile(t *testing.T, s *store.Store, c bake.Compression) v1.Layer {
	t.Helper()
	w, err := s.NewLayer(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: string(c) + "/", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return l
}
