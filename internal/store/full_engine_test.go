//go:build engine && linux

package store

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// A full disk is one clear error, and nothing is left behind.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("IMGBAKE_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s, err := Open(dir)
	must(t, err)
	defer s.Close()
	w, err := s.NewLayer(t.Context(), bake.Gzip)
	must(t, err)
	source := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for range 8 {
		source.Read(block)
		if _, err = w.Write(block); err != nil {
			break
		}
	}
	if err == nil {
		_, err = w.Commit()
	}
	w.Abort()
	if !errors.Is(err, ErrNoSpace) || !strings.HasPrefix(err.Error(), "disk full: write layer at "+dir) {
		t.Errorf("error = %v", err)
	}
	if left := unfinished(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	putLayer(t, s, tarOf(t, "x", "there is room again"))
}
