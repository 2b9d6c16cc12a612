package layer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// openUpper finds what of a mounted overlay is not as in base, by looking at
// the overlay's upper directory only. What was deleted is seen where the two
// are merged: of a file that was never in a lower layer no whiteout remains.
func openUpper(ctx context.Context, root, upper string, base *Index, skip []string) (*tree, error) {
	root, skips, err := liveRoot(root, skip)
	if err != nil {
		return nil, err
	}
	if upper, err = realPath(upper); err != nil {
		return nil, err
	}
	u := upperWalker{
		walker: walker{ctx: ctx, root: upper, skip: skips, upper: true},
		merged: walker{ctx: ctx, root: root, skip: skips},
		base:   base, seen: map[string]Type{}, gone: map[string]bool{},
	}
	if err := u.walk("", time.Time{}); err != nil {
		return nil, err
	}
	if err := u.mates(); err != nil {
		return nil, err
	}
	return u.tree()
}

// upperWalker collects the nodes of an upper directory.
type upperWalker struct {
	walker
	merged walker
	base   *Index
	seen   map[string]Type // what is in the upper directory
	gone   map[string]bool // what of base is not there, where its directory is
}

// walk records what is in a directory. A file in a directory that is younger
// than the file may have come with it from another path, so it counts as young.
func (u *upperWalker) walk(p string, young time.Time) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if u.skip.skips(p) {
		return nil
	}
	n, err := u.visit(p)
	if err != nil {
		return err
	}
	if n == nil {
		if _, ok := u.base.Lookup(p); ok {
			u.gone[p] = true
		}
		return nil
	}
	u.seen[p] = n.Type
	if young.After(n.ctime) {
		n.ctime = young
	}
	if n.Type != Dir {
		return nil
	}
	young = n.ctime
	names, err := u.names(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.walk(below(p, name), young); err != nil {
			return err
		}
	}
	return u.missing(p, names)
}

// missing finds what of base is in neither part of a directory.
func (u *upperWalker) missing(p string, upper []string) error {
	there := make(map[string]bool, len(upper))
	for _, name := range upper {
		there[below(p, name)] = true
	}
	merged := false
	for e := range u.base.Children(p) {
		if there[e.Path] || u.skip.skips(e.Path) {
			continue
		}
		if !merged {
			names, err := readNames(u.merged.host(p))
			if err != nil {
				return err
			}
			for _, name := range names {
				there[below(p, name)] = true
			}
			merged = true
		}
		if !there[e.Path] {
			u.gone[e.Path] = true
		}
	}
	return nil
}

// mates visits, in the merged tree, the files of lower layers that were one
// with a file that is in the upper directory or gone: a copy up breaks links.
func (u *upperWalker) mates() error {
	groups := map[string]bool{}
	for _, paths := range []func(func(string) bool){maps.Keys(u.seen), maps.Keys(u.gone)} {
		for p := range paths {
			if e, ok := u.base.Lookup(p); ok && e.LinkGroup != "" {
				groups[e.LinkGroup] = true
			}
		}
	}
	if len(groups) == 0 {
		return nil
	}
	for e := range u.base.All() {
		if !groups[e.LinkGroup] || u.skip.skips(e.Path) || !u.inLower(e.Path) {
			continue
		}
		n, err := u.merged.visit(e.Path)
		if err != nil {
			return err
		}
		if n != nil {
			n.lower = true
			n.ctime = time.Time{} // not read to be compared: it is as it was
			n.Digest, n.hashed = e.Digest, true
		}
	}
	return nil
}

// inLower reports whether a path of base is where it was, in a lower layer.
func (u *upperWalker) inLower(p string) bool {
	if _, ok := u.seen[p]; ok || u.gone[p] {
		return false
	}
	for dir := parent(p); dir != ""; dir = parent(dir) {
		if kind, ok := u.seen[dir]; u.gone[dir] || ok && kind != Dir {
			return false
		}
	}
	return true
}

// tree is what was found.
func (u *upperWalker) tree() (*tree, error) {
	u.link()
	u.merged.link()
	upper, err := newFileOpener(u.root)
	if err != nil {
		return nil, err
	}
	merged, err := newFileOpener(u.merged.root)
	if err != nil {
		upper.close()
		return nil, err
	}
	t := &tree{nodes: append(u.nodes, u.merged.nodes...), skip: u.skip, partial: true, gone: slices.Sorted(maps.Keys(u.gone))}
	sortNodes(t.nodes)
	t.open = func(n *node) (io.ReadCloser, error) {
		if n.lower {
			return merged.open(n)
		}
		return upper.open(n)
	}
	t.close = func() { upper.close(); merged.close() }
	return t, nil
}

// checkUpper refuses what overlayfs keeps elsewhere than in the upper
// directory.
func checkUpper(xattrs string) error {
	for name := range strings.SplitSeq(xattrs, "\x00") {
		switch name {
		case "trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.redirect", "user.overlay.metacopy":
			return fmt.Errorf("overlay with redirect_dir or metacopy: it has xattr %s", name)
		}
	}
	return nil
}
