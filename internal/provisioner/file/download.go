package file

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
)

// downloadAll copies from the machine to the host.
func (p provisioner) downloadAll(ctx context.Context, env bake.Env, f filter) error {
	for _, source := range p.sources() {
		stream, err := env.Communicator.Get(ctx, path.Clean(source))
		if err != nil {
			return fmt.Errorf("download %s: %w", source, err)
		}
		err = p.extract(ctx, env, f, source, stream)
		if err := errors.Join(err, stream.Close()); err != nil {
			return fmt.Errorf("download %s: %w", source, err)
		}
	}
	return nil
}

func (p provisioner) extract(ctx context.Context, env bake.Env, f filter, source string, stream io.Reader) error {
	r := &entries{source: source, r: tar.NewReader(bufio.NewReader(stream))}
	h, rel, err := r.next()
	if err != nil {
		return err
	}
	place := placeOf(source, h.Typeflag == tar.TypeDir, p.Destination)
	root, err := openDestination(env, place.into)
	if err != nil {
		return err
	}
	defer root.Close()
	walk := f.walk()
	for ; err == nil; h, rel, err = r.next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v, err := walk.judge(rel, h.Typeflag == tar.TypeDir)
		if err != nil {
			return err
		}
		if v.out && !v.guarded || rel == "." && place.name == "" {
			continue
		}
		if err := p.extractEntry(env, root, place, h, rel, r.r); err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// openDestination opens the directory to write to, made if needed. One outside
// of the template's folder takes the right to run commands on the host.
func openDestination(env bake.Env, dir string) (*os.Root, error) {
	if env.HostDir == "" {
		return nil, errors.New("there is no folder to download to")
	}
	full := dir
	if !filepath.IsAbs(dir) {
		full = filepath.Join(env.HostDir, dir)
	}
	rel, err := filepath.Rel(env.HostDir, full)
	if err != nil || !filepath.IsLocal(rel) {
		if env.Host == nil {
			return nil, diag.Problem{Text: fmt.Sprintf("destination %s is outside the template's folder", dir), Hint: "write below it, or permit commands on the host"}
		}
		if err := os.MkdirAll(full, 0o755); err != nil {
			return nil, err
		}
		return os.OpenRoot(full)
	}
	base, err := os.OpenRoot(env.HostDir)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	if err := base.MkdirAll(rel, 0o755); err != nil {
		return nil, fmt.Errorf("destination %s: %w", dir, err)
	}
	return base.OpenRoot(rel)
}

// extractEntry writes one entry. The root keeps every path, and every link on
// the way, below the destination; a link's own target is not followed.
func (p provisioner) extractEntry(env bake.Env, root *os.Root, place place, h *tar.Header, rel string, content io.Reader) error {
	name := place.entry(rel)
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return directory(root, name, fs.FileMode(h.Mode)&0o777|0o700)
	case tar.TypeReg:
		return regular(root, name, fs.FileMode(h.Mode)&0o777, content)
	case tar.TypeSymlink:
		return errors.Join(clear(root, name), root.Symlink(h.Linkname, name))
	case tar.TypeLink:
		return errors.Join(clear(root, name), root.Link(place.entry(h.Linkname), name))
	}
	env.Warn("left out %s: neither file, directory nor link", strings.TrimSuffix(h.Name, "/"))
	return nil
}

func directory(root *os.Root, name string, mode fs.FileMode) error {
	info, err := root.Lstat(name)
	if err == nil && info.IsDir() {
		return root.Chmod(name, mode)
	}
	return errors.Join(clear(root, name), root.Mkdir(name, mode))
}

func regular(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	if err := clear(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// clear removes what is in the way, so that nothing is written through a link.
func clear(root *os.Root, name string) error {
	err := root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
