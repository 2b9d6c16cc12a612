package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// HelperDir is the folder, relative to a machine's root, where a builder puts
// the helper binary and its files. It is never part of a tree.
const HelperDir = ".imgbake"

// ErrChanging is what an error wraps when a file changed while it was read.
var ErrChanging = errors.New("changed while it was read")

// ScanOptions says what of a live tree to leave out.
type ScanOptions struct {
	Skip []string // paths, with all below them; mount points and HelperDir are always skipped
}

// DeltaOptions says how Delta looks at a tree.
type DeltaOptions struct {
	Skip []string // as in ScanOptions; what is skipped counts as unchanged
	// Since is when the tree was as base says, by the clock of the kernel
	// that owns the tree. Two seconds are allowed for coarse clocks.
	Since time.Time
	// TrustCtime spares reading files whose ctime is before Since. See
	// TrustworthyCtime.
	TrustCtime bool
}

// Scan walks and hashes the live tree at root. It works on Linux only, and
// needs the right to read everything there.
func Scan(ctx context.Context, root string, opts ScanOptions) (*Index, error) {
	t, err := openLive(ctx, root, opts.Skip)
	if err != nil {
		return nil, err
	}
	defer t.close()
	all := make([]int, 0, len(t.nodes))
	for i := range t.nodes {
		if t.nodes[i].Type == File {
			all = append(all, i)
		}
	}
	if err := hashNodes(ctx, t, all); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(t.nodes))
	for i, n := range t.nodes {
		if entries[i] = n.Entry; n.gone {
			return nil, fmt.Errorf("%s: %w", n.Path, ErrChanging)
		}
	}
	return checkedIndex(entries)
}

// Delta writes the complete difference of the live tree at root to base as a
// PAX tar: sorted by path, a whiteout for each deleted entry, hard-link groups
// whole. It works on Linux only. A file that grows meanwhile is written as
// long as it was; any other change to it is an error that wraps ErrChanging.
func Delta(ctx context.Context, root string, base *Index, opts DeltaOptions, w io.Writer) error {
	t, err := openLive(ctx, root, opts.Skip)
	if err != nil {
		return err
	}
	defer t.close()
	return writeDelta(ctx, t, base, opts, w)
}

// DeltaUpper is Delta for a mounted overlayfs: with the same bytes, but it
// looks only at the upper directory and at what was linked to files there. The
// overlay must be mounted without redirect_dir, metacopy and index.
func DeltaUpper(ctx context.Context, root, upper string, base *Index, opts DeltaOptions, w io.Writer) error {
	t, err := openUpper(ctx, root, upper, base, opts.Skip)
	if err != nil {
		return err
	}
	defer t.close()
	return writeDelta(ctx, t, base, opts, w)
}

// SettleOptions says what Settle looks at.
type SettleOptions struct {
	Skip  []string // as in ScanOptions
	Upper string   // when root is a mounted overlayfs: its upper directory, so that only what is in it is looked at
	// Since spares files whose ctime is before, as in DeltaOptions, from
	// losing no more than a fraction of a second.
	Since time.Time
}

// Settle gives the entries of a live tree, directories too, the modification
// times of the index, usually a Tree's Raw after Publish or Resume: so a step
// cannot tell whether the steps before it ran just now. What is not in the
// index stays as it is. It works on Linux only. It changes ctimes: the next
// Since comes after it.
func Settle(ctx context.Context, root string, index *Index, opts SettleOptions) error {
	return settle(ctx, root, index, opts)
}

// skipper tells what is left out of a tree.
type skipper []string

func newSkipper(skip []string) skipper {
	s := skipper{HelperDir}
	for _, p := range skip {
		if p = strings.Trim(p, "/"); p != "" {
			s = append(s, p)
		}
	}
	return s
}

func (s skipper) skips(p string) bool {
	for _, dir := range s {
		if under(p, dir) {
			return true
		}
	}
	return false
}
