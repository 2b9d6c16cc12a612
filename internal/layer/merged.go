package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Opener opens a layer tar, plain or compressed with gzip or zstd: v1.Layer's
// Uncompressed and Compressed are such.
type Opener func() (io.ReadCloser, error)

// IndexOf is the index of the tree that the layers, lowest first, make. They may
// be a stranger's.
func IndexOf(ctx context.Context, layers ...Opener) (*Index, error) {
	return (&Index{}).Extend(ctx, Limits{}, layers...)
}

// Extend is the index of the tree with further layers, lowest first, on it, each
// within limits.
func (x *Index) Extend(ctx context.Context, limits Limits, layers ...Opener) (*Index, error) {
	s := &stack{root: impliedDir(baseLayer), hash: true, limits: limits}
	if err := s.start(x); err != nil {
		return nil, err
	}
	if err := s.read(ctx, layers); err != nil {
		return nil, err
	}
	return checkedIndex(s.entries())
}

// baseLayer is that of what an index tells of, and of the root that is always
// there.
const baseLayer = -1

// inode is a file of the stack; several names may share it.
type inode struct {
	Entry
	layer, seq int // where its content is
}

// vnode is a name in the stack.
type vnode struct {
	*inode
	layer    int // that set the name last
	children map[string]*vnode
}

// stack is the tree that layers make, put together in memory without content.
type stack struct {
	root  *vnode
	layer int
	seq   int
	hash  bool

	limits Limits // of each layer
}

func newVnode(ino *inode, layer int) *vnode {
	v := &vnode{inode: ino, layer: layer}
	if ino.Type == Dir {
		v.children = map[string]*vnode{}
	}
	return v
}

func impliedDir(layer int) *vnode {
	return newVnode(&inode{Entry: Entry{Type: Dir, Mode: 0o755}}, layer)
}

// start puts what an index tells of into the empty stack.
func (s *stack) start(x *Index) error {
	s.layer = baseLayer
	groups := map[string]*inode{}
	for e := range x.All() {
		group := e.LinkGroup
		e.LinkGroup = ""
		ino := &inode{Entry: e, layer: baseLayer}
		if first, ok := groups[group]; ok && group != "" {
			ino = first
		}
		groups[group] = ino
		if err := s.put(e.Path, ino); err != nil {
			return err
		}
	}
	return nil
}

// read takes layers, lowest first.
func (s *stack) read(ctx context.Context, layers []Opener) error {
	for i, open := range layers {
		s.layer, s.seq = i, 0
		if err := eachEntry(ctx, s.limits, open, s.add); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

// eachEntry reads a layer until its end or until visit gives io.EOF.
func eachEntry(ctx context.Context, limits Limits, open Opener, visit func(*tar.Header, io.Reader) error) (err error) {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	plain, err := Decompress(rc, limits)
	if err != nil {
		return err
	}
	defer plain.Close()
	in := newTarReader(ctx, plain, limits)
	for {
		h, err := in.next()
		if err == nil {
			err = visit(h, in)
		}
		if errors.Is(err, io.EOF) {
			// What follows the end matters to readers that verify a digest.
			if _, err := io.Copy(io.Discard, io.LimitReader(plain, 1<<20)); err != nil {
				return err
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// add takes one entry of the current layer.
func (s *stack) add(h *tar.Header, content io.Reader) error {
	s.seq++
	p, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if gone, opaque, ok := whiteoutOf(p); ok {
		if !opaque && !validPath(gone) {
			return fmt.Errorf("tar entry %q: whiteout of no name", clip(h.Name))
		}
		s.delete(gone, opaque)
		return nil
	}
	e, err := entryOf(h, p)
	if err != nil {
		return err
	}
	if e.isWhiteout() && validPath(p) {
		s.delete(p, false)
		return nil
	}
	ino := &inode{Entry: e, layer: s.layer, seq: s.seq}
	if h.Typeflag == tar.TypeLink {
		to, err := cleanName(h.Linkname)
		if err != nil {
			return err
		}
		v, ok := s.find(to)
		if !ok || v.Type == Dir {
			return fmt.Errorf("tar entry %q: hard link to %q, which is not there", clip(h.Name), clip(h.Linkname))
		}
		ino = v.inode
	} else if e.Type == File && s.hash {
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return err
		}
		sum.Sum(ino.Digest[:0])
	}
	if err := s.put(p, ino); err != nil || h.Typeflag != tar.TypeLink {
		return err
	}
	if v, ok := s.find(path.Clean(strings.TrimLeft(h.Linkname, "/"))); !ok || v.inode != ino {
		return fmt.Errorf("tar entry %q: hard link to %q, which it replaces", clip(h.Name), clip(h.Linkname))
	}
	return nil
}

func (s *stack) put(p string, ino *inode) error {
	if p == "" {
		if ino.Type == Dir {
			s.root.inode, s.root.layer = ino, s.layer
		}
		return nil
	}
	dir, err := s.dir(parent(p), true)
	if err != nil {
		return fmt.Errorf("tar entry %q: %w", clip(p), err)
	}
	name := path.Base(p)
	if old, ok := dir.children[name]; ok && old.Type == Dir && ino.Type == Dir {
		old.inode, old.layer = ino, s.layer
		return nil
	}
	dir.children[name] = newVnode(ino, s.layer)
	return nil
}

// delete removes what lower layers put at a path, or, for an opaque directory,
// below it.
func (s *stack) delete(p string, opaque bool) {
	if opaque {
		if dir, err := s.dir(p, false); err == nil {
			s.removeLower(dir)
		}
		return
	}
	dir, err := s.dir(parent(p), false)
	if err != nil {
		return
	}
	name := path.Base(p)
	if v, ok := dir.children[name]; ok && s.removeLower(v) {
		delete(dir.children, name)
	}
}

// removeLower removes what is below v and not of this layer, and reports
// whether v may go too.
func (s *stack) removeLower(v *vnode) bool {
	for name, c := range v.children {
		if s.removeLower(c) {
			delete(v.children, name)
		}
	}
	return v.layer != s.layer && len(v.children) == 0
}

const (
	maxSymlinks = 255
	maxDepth    = 1024 // links can make paths that no one entry has
)

// dir finds a directory, following symbolic links inside the tree as an
// engine does: ".." after what is not there, or is no directory, is what the
// path says.
func (s *stack) dir(p string, create bool) (*vnode, error) {
	trail, err := s.resolve(p)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", clip(p), err)
	}
	at := s.root
	for _, t := range trail {
		next, ok := at.children[t]
		switch {
		case ok && next.Type != Dir:
			return nil, fmt.Errorf("%q: %q is not a directory: %w", clip(p), t, fs.ErrNotExist)
		case !ok && !create:
			return nil, fs.ErrNotExist
		case !ok:
			next = impliedDir(s.layer)
			at.children[t] = next
		}
		at = next
	}
	return at, nil
}

// resolve gives the names of a path without symbolic links.
func (s *stack) resolve(p string) ([]string, error) {
	var names []string
	nodes := []*vnode{s.root} // nil where nothing is
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(names) > 0 {
				names, nodes = names[:len(names)-1], nodes[:len(nodes)-1]
			}
			continue
		}
		var next *vnode
		if at := nodes[len(nodes)-1]; at != nil {
			next = at.children[name]
		}
		switch {
		case next == nil || next.Type != Symlink:
			names, nodes = append(names, name), append(nodes, next)
			if len(names) > maxDepth {
				return nil, fmt.Errorf("more than %d directories deep: %w", maxDepth, ErrLimit)
			}
			continue
		case strings.HasPrefix(next.Linkname, "/"):
			names, nodes = nil, nodes[:1]
		}
		if links++; links > maxSymlinks {
			return nil, errLoop
		}
		todo = append(strings.Split(next.Linkname, "/"), todo...)
	}
	return names, nil
}

// find is what is at a path; a symbolic link at its end is not followed.
func (s *stack) find(p string) (*vnode, bool) {
	if p == "" {
		return s.root, true
	}
	dir, err := s.dir(parent(p), false)
	if err != nil {
		return nil, false
	}
	v, ok := dir.children[path.Base(p)]
	return v, ok
}

// walk visits v and all below it, parents first, names sorted.
func (v *vnode) walk(p string, visit func(p string, v *vnode)) {
	visit(p, v)
	for _, name := range slices.Sorted(maps.Keys(v.children)) {
		v.children[name].walk(strings.TrimPrefix(p+"/"+name, "/"), visit)
	}
}

// entries are the tree's, sorted, with its link groups.
func (s *stack) entries() []Entry {
	var out []Entry
	names := map[*inode][]string{}
	s.root.walk("", func(p string, v *vnode) {
		if v.Type == File {
			names[v.inode] = append(names[v.inode], p)
		}
	})
	s.root.walk("", func(p string, v *vnode) {
		e := v.Entry
		e.Path = p
		if group := names[v.inode]; len(group) > 1 {
			e.LinkGroup = slices.Min(group)
		}
		out = append(out, e)
	})
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return out
}
