//go:build engine

package sandbox_test

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// What a machine has besides the tree, such as /etc/mtab, is no part of a layer.
func TestFurnitureIsNoChange(t *testing.T) {
	top := tarLayer(t, "names", tar.Header{Name: "etc/hosts", Typeflag: tar.TypeReg, Mode: 0o644})
	base := rootfs(t)
	index, err := layer.IndexOf(t.Context(), base.Open, top.Open)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, sandbox.Options{Isolation: sandbox.Namespaces}, top)
	if got, want := sh(t, m, "readlink /etc/mtab; grep -c ' / overlay ' /etc/mtab"), "/proc/mounts\n1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	publish := func() (string, bool) {
		var delta, published bytes.Buffer
		if err := m.Delta(t.Context(), index, &delta); err != nil {
			t.Fatal(err)
		}
		result, err := layer.NewTree(index).Publish(t.Context(), &delta, layer.Policy{}, &published)
		if err != nil {
			t.Fatal(err)
		}
		return list(published.Bytes()), !result.RestEmpty
	}
	if got, kept := publish(); got != "" || kept {
		t.Errorf("nothing was done, and this was published:\n%s\nkept for later steps: %t", got, kept)
	}
	sh(t, m, "rm /etc/mtab; ln -s /elsewhere /etc/mtab")
	if got, kept := publish(); got != "" || !kept {
		t.Errorf("a change of /etc/mtab was published:\n%s\nkept for later steps: %t", got, kept)
	}
}
