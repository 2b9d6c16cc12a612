//go:build engine

package sandbox_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// A layer of another boot may be torn, for nothing waits until it is on the
// disk: it is unpacked anew. Others are not.
func TestPowerLoss(t *testing.T) {
	needs(t)
	dir, base := t.TempDir(), rootfs(t)
	open, unpacked := base.Open, 0
	base.Open = func() (io.ReadCloser, error) { unpacked++; return open() }
	chain := []sandbox.Layer{base}
	issue := func() string {
		roots, err := sandbox.Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		m, err := roots.Start(t.Context(), chain, sandbox.Options{Isolation: sandbox.Namespaces})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if !roots.Has(chain) {
			t.Error("the layers in use are not there")
		}
		return sh(t, m, "cat /etc/issue")
	}
	want := issue()
	if got := issue(); got != want || unpacked != 1 {
		t.Errorf("%q of %q, unpacked %d times", got, want, unpacked)
	}
	locks, _ := filepath.Glob(filepath.Join(dir, "*", "layers", "*.lock"))
	torn, _ := filepath.Glob(filepath.Join(dir, "*", "layers", "*", "etc", "issue"))
	if len(locks) != 1 || len(torn) != 1 {
		t.Fatalf("found %q and %q", locks, torn)
	}
	for i, boot := range []string{"11111111-2222-3333-4444-555555555555", ""} { // the last is what a lost write leaves
		if err := os.WriteFile(locks[0], []byte(boot), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(torn[0], 1); err != nil {
			t.Fatal(err)
		}
		if roots, err := sandbox.Open(dir, false); err != nil || roots.Has(chain) {
			t.Errorf("boot %q: the layer is taken for whole, %v", boot, err)
		}
		if got := issue(); got != want || unpacked != 2+i {
			t.Errorf("boot %q: %q of %q, unpacked %d times", boot, got, want, unpacked)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "work", "*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
