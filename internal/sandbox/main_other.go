//go:build !linux

package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// Is reports whether a program's arguments ask for Main: never here.
func Is([]string) bool { return false }

// Main is a machine's first process; it exists on Linux only.
func Main() int { return 2 }

// Roots is a folder of unpacked layers and of machines: on Linux only.
type Roots struct{}

// Open is an error that wraps ErrUnavailable.
func Open(string, bool) (*Roots, error) {
	return nil, fmt.Errorf("%w: a bake without an engine needs Linux", ErrUnavailable)
}

// Has reports that nothing is unpacked.
func (*Roots) Has([]Layer) bool { return false }

// Read is an error that wraps ErrUnavailable.
func (*Roots) Read([]Layer, string, int64) ([]byte, error) { return nil, ErrUnavailable }

// Prune removes nothing.
func (*Roots) Prune(time.Duration, time.Time) (int, error) { return 0, nil }

// Start is an error that wraps ErrUnavailable.
func (*Roots) Start(context.Context, []Layer, Options) (*Machine, error) { return nil, ErrUnavailable }

// Machine is never made here: Start says so.
type Machine struct{ bake.Communicator }

// Isolation is none.
func (*Machine) Isolation() string { return "" }

// Close does nothing.
func (*Machine) Close() error { return nil }

// Delta is an error that wraps ErrUnavailable.
func (*Machine) Delta(context.Context, *layer.Index, io.Writer) error { return ErrUnavailable }

// Settle is an error that wraps ErrUnavailable.
func (*Machine) Settle(context.Context, *layer.Index) error { return ErrUnavailable }

// Mount is an error that wraps ErrUnavailable.
func (*Machine) Mount(context.Context, Mount, io.Reader) error { return ErrUnavailable }

// Listen is an error that wraps ErrUnavailable.
func (*Machine) Listen(context.Context, string) (net.Listener, error) { return nil, ErrUnavailable }

// Unmount is an error that wraps ErrUnavailable.
func (*Machine) Unmount(context.Context) error { return ErrUnavailable }
