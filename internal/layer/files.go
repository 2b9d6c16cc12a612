package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Merged reads path, a file or directory, out of the tree that the layers,
// lowest first, make. The tar's entry names start with the base name of path.
// Symbolic links on the way are followed; one at the end only when a slash
// follows it. A path that is not there is an error that wraps fs.ErrNotExist.
func Merged(ctx context.Context, layers []Opener, name string) (io.ReadCloser, error) {
	s := &stack{root: impliedDir(baseLayer), limits: BakeLimits()}
	if err := s.read(ctx, layers); err != nil {
		return nil, err
	}
	v, err := s.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "read image", Path: name, Err: err}
	}
	top := path.Base(path.Clean("/" + name))
	if top == "/" {
		top = ""
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(v.writeTar(ctx, layers, top, w))
	}()
	return &mergedReader{r, func() { cancel(); r.Close(); <-done }}, nil
}

// mergedReader ends its writer when it is closed.
type mergedReader struct {
	*io.PipeReader
	stop func()
}

func (m *mergedReader) Close() error {
	m.stop()
	return nil
}

func (s *stack) lookup(name string) (*vnode, error) {
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	v, ok := s.find(p)
	if ok && v.Type == Symlink && strings.HasSuffix(name, "/") {
		return s.dir(p, false)
	}
	if !ok {
		return nil, fs.ErrNotExist
	}
	return v, nil
}

// place says where the content of an inode is to be found.
type place struct{ layer, seq int }

// writeTar writes v and all below it: first what has no content, then the
// files in the order in which the layers have them.
func (v *vnode) writeTar(ctx context.Context, layers []Opener, top string, w io.Writer) error {
	out := newTarWriter(w)
	names := map[place][]Entry{}
	wanted := make([]int, len(layers))
	var err error
	v.walk(top, func(p string, v *vnode) {
		e := v.Entry
		e.Path = p
		if e.Type != File {
			if err == nil {
				err = out.entry(e, "")
			}
			return
		}
		at := place{v.inode.layer, v.inode.seq}
		if len(names[at]) == 0 {
			wanted[at.layer]++
		}
		names[at] = append(names[at], e)
	})
	for i, open := range layers {
		if err != nil {
			return err
		}
		if wanted[i] > 0 {
			err = copyContents(ctx, open, i, names, wanted[i], out)
		}
	}
	if err != nil {
		return err
	}
	return out.Close()
}

// copyContents copies the wanted files of one layer.
func copyContents(ctx context.Context, open Opener, layer int, names map[place][]Entry, wanted int, out *tarWriter) error {
	seq := 0
	err := eachEntry(ctx, BakeLimits(), open, func(h *tar.Header, content io.Reader) error {
		seq++
		for i, e := range names[place{layer, seq}] {
			if i > 0 {
				if err := out.entry(e, names[place{layer, seq}][0].Path); err != nil {
					return err
				}
				continue
			}
			wanted--
			if err := out.entry(e, ""); err != nil {
				return err
			}
			if _, err := io.Copy(out, content); err != nil {
				return fmt.Errorf("%q: %w", clip(e.Path), err)
			}
		}
		if wanted == 0 {
			return io.EOF
		}
		return nil
	})
	if err == nil && wanted > 0 {
		err = fmt.Errorf("layer %d changed while it was read", layer)
	}
	return err
}
