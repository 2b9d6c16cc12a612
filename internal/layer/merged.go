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

// IndexOf is the index of the tree that the layers, lowest first, make.
func IndexOf(ctx context.Context, layers ...Opener) (*Index, error) {
	s, err := readStack(ctx, layers, true)
	if err != nil {
		return nil, err
	}
	return checkedIndex(s.entries())
}

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

func readStack(ctx context.Context, layers []Opener, hash bool) (*stack, error) {
	s := &stack{root: impliedDir(-1), hash: hash}
	for i, open := range layers {
		s.layer, s.seq = i, 0
		err := eachEntry(ctx, open, s.add)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return s, nil
}

// eachEntry reads a layer until its end or until visit gives io.EOF.
func eachEntry(ctx context.Context, open Opener, visit func(*tar.Header, io.Reader) error) (err error) {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	plain, err := Decompress(rc, Limits{})
	if err != nil {
		return err
	}
	defer plain.Close()
	in := newTarReader(ctx, plain, Limits{})
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
	return s.put(p, ino)
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
// engine does.
func (s *stack) dir(p string, create bool) (*vnode, error) {
	trail := []*vnode{s.root}
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		at := trail[len(trail)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			trail = trail[:max(1, len(trail)-1)]
			continue
		}
		next, ok := at.children[name]
		switch {
		case !ok && !create:
			return nil, fs.ErrNotExist
		case len(trail) > maxDepth:
			return nil, fmt.Errorf("%q: more than %d directories deep: %w", clip(p), maxDepth, ErrLimit)
		case !ok:
			next = impliedDir(s.layer)
			at.children[name] = next
		case next.Type == Symlink:
			if links++; links > maxSymlinks {
				return nil, fmt.Errorf("%q: too many symbolic links", clip(p))
			}
			if strings.HasPrefix(next.Linkname, "/") {
				trail = trail[:1]
			}
			todo = append(strings.Split(next.Linkname, "/"), todo...)
			continue
		case next.Type != Dir:
			return nil, fmt.Errorf("%q: %q is not a directory: %w", clip(p), name, fs.ErrNotExist)
		}
		trail = append(trail, next)
	}
	return trail[len(trail)-1], nil
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
