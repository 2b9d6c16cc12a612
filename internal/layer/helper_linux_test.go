package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var epoch = time.Unix(1_600_000_000, 0)

// need skips a test whose real part is missing, or fails it where all parts
// must be there.
func need(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("IMGBAKE_REQUIRE") == "all" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// liveTree is a folder to edit.
type liveTree struct {
	t    *testing.T
	root string
}

func newTree(t *testing.T) *liveTree { return &liveTree{t, t.TempDir()} }

func (l *liveTree) path(p string) string { return filepath.Join(l.root, p) }

func (l *liveTree) write(p, content string) {
	l.t.Helper()
	must(l.t, os.MkdirAll(filepath.Dir(l.path(p)), 0o755))
	must(l.t, os.WriteFile(l.path(p), []byte(content), 0o644))
}

func (l *liveTree) dir(p string) {
	l.t.Helper()
	must(l.t, os.MkdirAll(l.path(p), 0o755))
}

func (l *liveTree) remove(p string) {
	l.t.Helper()
	must(l.t, os.RemoveAll(l.path(p)))
}

func (l *liveTree) symlink(target, p string) {
	l.t.Helper()
	must(l.t, os.Symlink(target, l.path(p)))
}

func (l *liveTree) link(old, p string) {
	l.t.Helper()
	must(l.t, os.Link(l.path(old), l.path(p)))
}

func (l *liveTree) rename(old, p string) {
	l.t.Helper()
	err := unix.Rename(l.path(old), l.path(p))
	if errors.Is(err, unix.EXDEV) { // an overlay's way to say no
		var out []byte
		if out, err = exec.Command("mv", "-T", l.path(old), l.path(p)).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	must(l.t, err)
}

func (l *liveTree) chmod(p string, mode uint32) {
	l.t.Helper()
	must(l.t, unix.Chmod(l.path(p), mode))
}

func (l *liveTree) touch(p string, at time.Time) {
	l.t.Helper()
	must(l.t, os.Chtimes(l.path(p), at, at))
}

// xattr skips the test where the file system has no user xattrs.
func (l *liveTree) xattr(p, name, value string) {
	l.t.Helper()
	need(l.t, "set xattr "+name, unix.Lsetxattr(l.path(p), name, []byte(value), 0))
}

func (l *liveTree) scan() *Index {
	l.t.Helper()
	x, err := Scan(l.t.Context(), l.root, ScanOptions{})
	must(l.t, err)
	return x
}

func (l *liveTree) delta(base *Index) []byte {
	l.t.Helper()
	var b bytes.Buffer
	must(l.t, Delta(l.t.Context(), l.root, base, DeltaOptions{}, &b))
	return b.Bytes()
}

// apply applies a layer to the tree.
func (l *liveTree) apply(layer []byte) {
	l.t.Helper()
	must(l.t, l.tryApply(layer))
}

func (l *liveTree) tryApply(layer []byte) error {
	l.t.Helper()
	root, err := os.OpenRoot(l.root)
	must(l.t, err)
	defer root.Close()
	opts := ApplyOptions{Layer: true, Xattrs: true, SameOwner: os.Getuid() == 0, Devices: os.Getuid() == 0}
	return Apply(l.t.Context(), bytes.NewReader(layer), root, opts)
}

// copyOf makes the same tree again, by way of a delta to nothing.
func copyOf(l *liveTree) *liveTree {
	l.t.Helper()
	empty, err := NewIndex(nil)
	must(l.t, err)
	c := newTree(l.t)
	c.apply(l.delta(empty))
	return c
}

func publish(t *testing.T, tree *Tree, delta []byte, policy Policy) ([]byte, Result) {
	t.Helper()
	layer, _, result := checkpoint(t, tree, delta, policy)
	return layer, result
}

// checkpoint publishes a delta, and checks that resuming comes to the same.
func checkpoint(t *testing.T, tree *Tree, delta []byte, policy Policy) (layer, rest []byte, result Result) {
	t.Helper()
	if policy.Epoch.IsZero() {
		policy.Epoch = epoch
	}
	var l, r bytes.Buffer
	policy.Rest = &r
	resumed := *tree
	result, err := tree.Publish(t.Context(), bytes.NewReader(delta), policy, &l)
	must(t, err)
	var openers [2]Opener
	if !result.Empty {
		openers[0] = opener(l.Bytes())
	}
	if !result.RestEmpty {
		openers[1] = opener(r.Bytes())
	}
	must(t, resumed.Resume(t.Context(), openers[0], openers[1]))
	for name, x := range map[string][2]*Index{"raw": {tree.Raw(), resumed.Raw()}, "published": {tree.Published(), resumed.Published()}} {
		if diff := cmp.Diff(x[0].entries, x[1].entries); diff != "" {
			t.Errorf("%s index (-published +resumed):\n%s", name, diff)
		}
	}
	return l.Bytes(), r.Bytes(), result
}

// sameTree compares all but times, and but the root, which belongs to the
// engine.
func sameTree(t *testing.T, got, want *Index) {
	t.Helper()
	strip := func(x *Index) []Entry {
		var out []Entry
		for e := range x.Below("") {
			e.ModTime = 0
			out = append(out, e)
		}
		return out
	}
	if diff := cmp.Diff(strip(want), strip(got)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func opener(layer []byte) Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil }
}

// lookup tells what is at a path, links not followed on the way either.
func (l *liveTree) lookup(p string) (Type, bool) {
	if p != "" && !l.isDir(parent(p)) {
		return 0, false
	}
	var st unix.Stat_t
	if unix.Lstat(l.path(p), &st) != nil {
		return 0, false
	}
	return statTypes[st.Mode&unix.S_IFMT], true
}

func (l *liveTree) isDir(p string) bool {
	for ; p != ""; p = parent(p) {
		var st unix.Stat_t
		if unix.Lstat(l.path(p), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return false
		}
	}
	return true
}
