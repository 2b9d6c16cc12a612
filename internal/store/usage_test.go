package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/imgbake/imgbake-action/internal/store"
)

func TestUsage(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutLayers(t.Context(), layers, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutImage(img); err != nil {
		t.Fatal(err)
	}
	if err := s.PutCached("step", "k", []byte("entry")); err != nil {
		t.Fatal(err)
	}
	uses, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, u := range uses {
		got[u.Kind] = u.Files
		if u.Files > 0 && u.Bytes == 0 {
			t.Errorf("%s take no space", u.Kind)
		}
	}
	if diff := cmp.Diff(map[string]int{"layers": 2, "images": 2, "steps": 1, "other": 0}, got); diff != "" {
		t.Error(diff)
	}
}

// Verify drops what is damaged, and only that.
func TestVerify(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := random.Layer(1000, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutLayer(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), digest); err != nil {
		t.Errorf("a whole layer: %v", err)
	}
	path := filepath.Join(s.Dir(), "blobs", "sha256", digest.Hex)
	if err := os.WriteFile(path, []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), digest); err == nil {
		t.Error("a damaged layer: no error")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the damaged layer is still there")
	}
	if err := s.Verify(t.Context(), digest); err == nil {
		t.Error("no layer: no error")
	}
	if err := s.Drop(v1.Hash{Algorithm: "sha256", Hex: "../x"}); err == nil {
		t.Error("a digest that leads elsewhere: no error")
	}
}
