package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// ApplyOptions says how a tar is unpacked.
type ApplyOptions struct {
	SameOwner bool // give entries their owners, and keep setuid and setgid; needs root
	Layer     bool // the tar is an image layer: whiteouts delete, entries replace, absolute symlinks are followed inside root
	Devices   bool // make device nodes; else they are an error
	Xattrs    bool // set extended attributes
	Limits    Limits
}

// Apply unpacks a plain tar below root and nowhere else, whatever the tar
// says: symbolic links are stored as they are and never lead out, hard links
// go to what is inside. On an error what was unpacked so far remains.
func Apply(ctx context.Context, r io.Reader, root *os.Root, opts ApplyOptions) error {
	a := applier{in: newTarReader(ctx, r, opts.Limits), root: root, opts: opts, made: map[string]bool{}, buf: make([]byte, 256<<10)}
	for {
		h, err := a.in.next()
		if errors.Is(err, io.EOF) {
			return a.finish()
		}
		if err != nil {
			return err
		}
		if err := a.one(h); err != nil {
			return fmt.Errorf("unpack %q: %w", clip(h.Name), err)
		}
	}
}

// applier is one run of Apply.
type applier struct {
	in   *tarReader
	root *os.Root
	opts ApplyOptions
	made map[string]bool // paths of this tar, and the directories above them
	dirs []Entry         // finished last, so that their modes do not hinder and their times stay
	buf  []byte
}

// one unpacks one entry.
func (a *applier) one(h *tar.Header) error {
	p, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if gone, opaque, ok := whiteoutOf(p); ok && a.opts.Layer {
		if !opaque && !validPath(gone) {
			return errors.New("whiteout of no name")
		}
		return a.delete(gone, opaque)
	}
	if p != "" {
		if p, err = a.place(p); err != nil {
			return err
		}
	}
	e, err := entryOf(h, p)
	if err != nil {
		return err
	}
	if p == "" {
		if e.Type == Dir && a.opts.Layer {
			a.dirs = append(a.dirs, e)
		}
		return nil
	}
	kept, err := a.clear(e)
	if err != nil {
		return err
	}
	for q := p; q != ""; q = parent(q) {
		a.made[q] = true
	}
	if h.Typeflag == tar.TypeLink {
		return a.link(h.Linkname, p)
	}
	if e.Type == Dir {
		a.dirs = append(a.dirs, e)
		if kept {
			return nil
		}
	}
	return a.make(e)
}

// place makes the directory for a path and gives the path without symbolic
// links on the way.
func (a *applier) place(p string) (string, error) {
	dir := parent(p)
	if dir == "" {
		return p, nil
	}
	if a.opts.Layer {
		resolved, err := a.resolve(dir)
		if err != nil {
			return "", err
		}
		dir = resolved
	}
	if dir != "" {
		if err := a.root.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	return strings.TrimPrefix(dir+"/"+path.Base(p), "/"), nil
}

// resolve follows symbolic links as a process whose root directory is root
// would. What is not there ends it. root itself keeps a race from leading out.
func (a *applier) resolve(p string) (string, error) {
	at, todo := "", strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		next := strings.TrimPrefix(at+"/"+name, "/")
		info, err := a.root.Lstat(next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := a.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if links++; links > maxSymlinks {
			return "", errors.New("too many symbolic links")
		}
		if strings.HasPrefix(target, "/") {
			at = ""
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}

// clear removes what is in the way of an entry. kept reports that a directory
// is there and stays.
func (a *applier) clear(e Entry) (kept bool, err error) {
	info, err := a.root.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch {
	case info.IsDir() && e.Type == Dir:
		return true, nil
	case info.IsDir() && !a.opts.Layer:
		return false, fmt.Errorf("a directory is in the way of a %s", e.Type)
	case info.IsDir():
		return false, a.root.RemoveAll(e.Path)
	case e.Type == Dir && !a.opts.Layer:
		if at, err := a.root.Stat(e.Path); err == nil && at.IsDir() {
			return true, nil // a symbolic link of the user's to a directory
		}
	}
	return false, a.root.Remove(e.Path)
}

// delete removes what was there before this layer.
func (a *applier) delete(p string, opaque bool) error {
	if !opaque {
		dir, err := a.resolve(parent(p))
		if err != nil {
			return err
		}
		p = strings.TrimPrefix(dir+"/"+path.Base(p), "/")
		return a.removeLower(p)
	}
	dir, err := a.resolve(p)
	if err != nil {
		return err
	}
	return a.removeChildren(dir)
}

func (a *applier) removeLower(p string) error {
	if !a.made[p] {
		return a.root.RemoveAll(p)
	}
	if info, err := a.root.Lstat(p); err != nil || !info.IsDir() {
		return err
	}
	return a.removeChildren(p)
}

func (a *applier) removeChildren(dir string) error {
	f, err := a.root.Open(orDot(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.removeLower(strings.TrimPrefix(dir+"/"+name, "/")); err != nil {
			return err
		}
	}
	return nil
}

func orDot(p string) string {
	if p == "" {
		return "."
	}
	return p
}

// link makes a hard link to what this tar, or in a layer an earlier one, made.
func (a *applier) link(linkname, p string) error {
	to, err := cleanName(linkname)
	if err != nil {
		return err
	}
	if a.opts.Layer {
		dir, err := a.resolve(parent(to))
		if err != nil {
			return err
		}
		to = strings.TrimPrefix(dir+"/"+path.Base(to), "/")
	}
	info, err := a.root.Lstat(to)
	if err != nil {
		return err
	}
	if info.IsDir() || !a.opts.Layer && (!a.made[to] || !info.Mode().IsRegular()) {
		return fmt.Errorf("hard link to %q, which is no file of this tar", clip(linkname))
	}
	return a.root.Link(to, p)
}

// make makes what is not there.
func (a *applier) make(e Entry) error {
	switch e.Type {
	case File:
		return a.file(e)
	case Dir:
		return a.root.Mkdir(e.Path, 0o700)
	case Symlink:
		if err := a.root.Symlink(e.Linkname, e.Path); err != nil {
			return err
		}
	case Char, Block:
		if !a.opts.Devices {
			return fmt.Errorf("a %s is not allowed here", e.Type)
		}
		fallthrough
	default:
		if err := a.node(e); err != nil {
			return err
		}
	}
	if a.opts.SameOwner {
		if err := a.root.Lchown(e.Path, e.UID, e.GID); err != nil {
			return err
		}
	}
	if e.Type == Symlink {
		return a.linkTime(e)
	}
	return a.attributes(e)
}

func (a *applier) file(e Entry) error {
	f, err := a.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{a.in}, a.buf)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil && a.opts.SameOwner {
		err = a.root.Lchown(e.Path, e.UID, e.GID)
	}
	if err != nil {
		return err
	}
	return a.attributes(e)
}

// attributes sets mode, extended attributes and time, in this order: a change
// of owner drops capabilities and setuid, one of mode changes ACLs.
func (a *applier) attributes(e Entry) error {
	mode := fs.FileMode(e.Mode & 0o777)
	if a.opts.SameOwner {
		mode = fileMode(e.Mode)
	}
	if err := a.root.Chmod(orDot(e.Path), mode); err != nil {
		return err
	}
	if a.opts.Xattrs && len(e.Xattrs) > 0 {
		if err := a.xattrs(e); err != nil {
			return err
		}
	}
	t := time.Unix(e.ModTime, 0)
	return a.root.Chtimes(orDot(e.Path), t, t)
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// finish gives directories their attributes, the deepest first.
func (a *applier) finish() error {
	for i := len(a.dirs) - 1; i >= 0; i-- {
		e := a.dirs[i]
		info, err := a.root.Lstat(orDot(e.Path))
		if err != nil || !info.IsDir() {
			continue // a later entry replaced it
		}
		if a.opts.SameOwner {
			if err := a.root.Lchown(orDot(e.Path), e.UID, e.GID); err != nil {
				return err
			}
		}
		if err := a.attributes(e); err != nil {
			return fmt.Errorf("unpack %q: %w", clip(e.Path), err)
		}
	}
	return nil
}
