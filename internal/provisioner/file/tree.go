package file

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// write packs one source of the host.
func (u uploader) write(ctx context.Context, p *packer, t tree) error {
	if !t.dir {
		return u.file(p, u.env.Files, t.source, t.source, t.place.name)
	}
	below, err := fs.Sub(u.env.Files, t.source) // a source that is a link is followed, as far as Files lets it
	if err != nil {
		return fmt.Errorf("source %s: %w", t.source, err)
	}
	w := treeWriter{uploader: u, packer: p, walk: u.filter.walk(), tree: t, files: below, made: map[string]bool{".": t.place.name == ""}}
	if err := w.directory("."); err != nil {
		return err
	}
	return w.all(ctx, ".")
}

// treeWriter packs a directory of the host.
type treeWriter struct {
	uploader
	packer *packer
	walk   *walk
	tree   tree
	files  fs.FS
	made   map[string]bool // directories packed
}

// step is an entry of a directory, or what is below it.
type step struct {
	fs.DirEntry
	key   string // by which paths are in order
	below bool
}

// all packs what is below a directory in the order that layers have, that of
// whole paths: what is in "lib" comes after "lib-2", and so need not wait there.
func (w treeWriter) all(ctx context.Context, dir string) error {
	entries, err := fs.ReadDir(w.files, dir)
	if err != nil {
		return fmt.Errorf("source %s: %w", w.tree.source, err)
	}
	steps := make([]step, 0, len(entries))
	for _, d := range entries {
		steps = append(steps, step{d, d.Name(), false})
		if d.IsDir() {
			steps = append(steps, step{d, d.Name() + "/", true})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.key, b.key) })
	left := map[string]bool{} // directories that are left out as a whole
	for _, s := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel := path.Join(dir, s.Name())
		switch {
		case !s.below:
			err = w.visit(rel, s.DirEntry)
			if errors.Is(err, fs.SkipDir) {
				left[rel], err = true, nil
			}
		case !left[rel]:
			err = w.all(ctx, rel)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w treeWriter) visit(rel string, d fs.DirEntry) error {
	v, err := w.walk.judge(rel, d.IsDir())
	if err != nil {
		return err
	}
	switch {
	case v.out:
		if v.guarded && d.Name() != ".git" {
			w.env.Warn("left out %s: it may hold credentials; the exclude pattern %q brings it back", path.Join(w.tree.source, rel), "!"+rel)
		}
		if d.IsDir() && w.walk.whole() {
			return fs.SkipDir
		}
		return nil
	case d.IsDir():
		return w.directory(rel)
	}
	if err := w.directory(path.Dir(rel)); err != nil {
		return err
	}
	switch name := w.tree.place.entry(rel); d.Type() {
	case 0:
		return w.file(w.packer, w.files, rel, path.Join(w.tree.source, rel), name)
	case fs.ModeSymlink:
		return w.link(rel, name)
	}
	w.env.Warn("left out %s: neither file, directory nor link", path.Join(w.tree.source, rel))
	return nil
}

// directory packs a directory, and before it the ones it is in, once.
func (w treeWriter) directory(rel string) error {
	if w.made[rel] {
		return nil
	}
	if rel != "." {
		if err := w.directory(path.Dir(rel)); err != nil {
			return err
		}
	}
	w.made[rel] = true
	return w.packer.add(w.header(tar.TypeDir, w.tree.place.entry(rel), w.config.DirMode.or(0o755)), nil)
}

func (w treeWriter) link(rel, name string) error {
	target, err := fs.ReadLink(w.files, rel)
	if err != nil {
		return fmt.Errorf("source %s: %w", w.tree.source, err)
	}
	header := w.header(tar.TypeSymlink, name, 0o777)
	header.Linkname = target
	return w.packer.add(header, nil)
}

// file packs a regular file of the host, which people call source.
func (u uploader) file(p *packer, files fs.FS, file, source, name string) error {
	f, err := files.Open(file)
	if err != nil {
		return fmt.Errorf("source %s: %w", source, pathless(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("source %s: %w", source, pathless(err))
	}
	if !info.Mode().IsRegular() {
		return diag.Problem{Text: fmt.Sprintf("source %s is no regular file", source)}
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	header := u.header(tar.TypeReg, name, u.config.Mode.or(mode))
	header.Size = info.Size()
	return p.add(header, f)
}

// pathless is what is wrong with a file that is named anyway.
func pathless(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
