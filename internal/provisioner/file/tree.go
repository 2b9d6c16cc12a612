package file

import (
	"archive/tar"

	"context"
	"fmt"

	"io/fs"
	"path"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// write packs one source of the host.
func (u uploader) write(ctx context.Context, p *packer, t tree) error {
	if !t.dir {
		return u.file(p, u.env.Files, t.source, t.place.name)
	}
	below, err := fs.Sub(u.env.Files, t.source) // a source that is a link is followed, as far as Files lets it
	if err != nil {
		return fmt.Errorf("source %s: %w", t.source, err)
	}
	w := treeWriter{uploader: u, packer: p, walk: u.filter.walk(), tree: t, files: below, made: map[string]bool{".": t.place.name == ""}}
	return fs.WalkDir(below, ".", func(rel string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("source %s: %w", t.source, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.visit(rel, d)
	})
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
		return w.file(w.packer, w.files, rel, name)
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

// file packs a regular file of the host.
func (u uploader) file(p *packer, files fs.FS, source, name string) error {
	f, err := files.Open(source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("source: %w", err)
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
