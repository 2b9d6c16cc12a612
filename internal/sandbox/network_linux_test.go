//go:build engine

package sandbox_test

import (
	"errors"
	"testing"

	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// A chroot has this machine's network: what asks for another is refused.
func TestChrootNetwork(t *testing.T) {
	roots, err := sandbox.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := roots.Start(t.Context(), nil, sandbox.Options{Isolation: sandbox.Chroot, Network: sandbox.NoNetwork})
	if err == nil {
		m.Close()
	}
	if !errors.Is(err, sandbox.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
