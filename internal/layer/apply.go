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
	"slices"
	"strings"
	"time"
)

// ApplyOptions says how a tar is unpacked.
type ApplyOptions struct {
	SameOwner bool // give entries their owners, and keep setuid and setgid; needs root
	Layer     bool // the tar is an image layer: whiteouts delete, entries replace, absolute symlinks are followed inside root
	Devices   bool // make device nodes; else they are an error, or with Layer left out below dev
	Xattrs    bool // set extended attributes; with Layer, remove those that an entry does not have
	Limits    Limits
}

// Apply unpacks a plain tar below root and nowhere else, whatever the tar
// says: symbolic links are stored as they are and never lead out, hard links
// go to what is inside. Blocks of zeros become holes. The tree that layers
// make, in their order, is the one that IndexOf tells; directories that a layer
// does not have keep their times. On an error what was unpacked so far remains.
func Apply(ctx context.Context, r io.Reader, root *os.Root, opts ApplyOptions) error {
	a := applier{
		in: newTarReader(ctx, r, opts.Limits), root: root, opts: opts,
		uid: os.Geteuid(), gid: os.Getegid(), made: map[string]bool{}, dirs: map[string]Entry{}, times: map[string]time.Time{}, buf: make([]byte, 256<<10),
	}
	defer a.forget()
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
	in    *tarReader
	root  *os.Root
	opts  ApplyOptions
	made  map[string]bool      // paths of this tar, and the directories above them
	dirs  map[string]Entry     // finished last, so that their modes do not hinder and their times stay
	times map[string]time.Time // of directories that were there, before anything in them changed
	at    *directory           // of the entry before, most often also of the next
	// replaced says that directories went, whose names may now be reached by a
	// symbolic link in their place.
	replaced bool
	uid, gid int // of what is made
	buf      []byte
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
	e, err := entryOf(h, p)
	if err != nil {
		return err
	}
	if a.opts.Layer && e.isWhiteout() && validPath(p) {
		return a.delete(p, false)
	}
	if p == "" {
		if e.Type == Dir && a.opts.Layer {
			a.dirs[""] = e
		}
		return nil
	}
	if err := a.enter(parent(p), true); err != nil {
		return err
	}
	e.Path = below(a.at.path, path.Base(p))
	if err := a.put(h, e); err != nil {
		return err
	}
	for q := e.Path; q != "" && !a.made[q]; q = parent(q) {
		a.made[q] = true
	}
	return nil
}

// put makes an entry, in the place of what is there.
func (a *applier) put(h *tar.Header, e Entry) error {
	makes := func() error { return a.make(e) }
	if h.Typeflag == tar.TypeLink {
		makes = func() error { return a.link(h.Linkname, e.Path) }
	}
	err := makes()
	if errors.Is(err, fs.ErrExist) {
		kept := false
		if kept, err = a.clear(e, h.Typeflag == tar.TypeLink); err == nil && !kept {
			err = makes()
		}
	}
	if err == nil && e.Type == Dir {
		a.dirs[e.Path] = e
	}
	return err
}

// clear removes what is in the way of an entry. kept reports that a directory
// is there and stays.
func (a *applier) clear(e Entry, link bool) (kept bool, err error) {
	name := path.Base(e.Path)
	info, err := a.at.Lstat(name)
	if err != nil {
		return false, err
	}
	isDir := e.Type == Dir && !link
	switch {
	case info.IsDir() && isDir:
		return true, nil
	case info.IsDir() && !a.opts.Layer:
		return false, fmt.Errorf("a directory is in the way of a %s", e.Type)
	case isDir && !a.opts.Layer:
		if at, err := a.root.Stat(e.Path); err == nil && at.IsDir() {
			return true, nil // a symbolic link of the user's to a directory
		}
	}
	return false, a.remove(name, info)
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
		to = below(dir, path.Base(to))
	}
	info, err := a.root.Lstat(orDot(to))
	if err != nil {
		return err
	}
	if info.IsDir() || !a.opts.Layer && (!a.made[to] || !info.Mode().IsRegular()) {
		return fmt.Errorf("hard link to %q, which is no file of this tar", clip(linkname))
	}
	if to == p {
		return nil
	}
	return a.root.Link(to, p)
}

// make makes what is not there.
func (a *applier) make(e Entry) error {
	name := path.Base(e.Path)
	switch e.Type {
	case File:
		return a.file(e, name)
	case Dir:
		return a.at.Mkdir(name, 0o700)
	case Symlink:
		if err := a.at.Symlink(e.Linkname, name); err != nil {
			return err
		}
	case Char, Block:
		if !a.opts.Devices && a.opts.Layer && strings.HasPrefix(e.Path, "dev/") {
			return nil // machines have a /dev of their own
		}
		if !a.opts.Devices {
			return fmt.Errorf("a %s is not allowed here", e.Type)
		}
		fallthrough
	default:
		if err := a.at.node(e, name); err != nil {
			return err
		}
	}
	if a.opts.SameOwner {
		if err := a.at.Lchown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if e.Type == Symlink {
		return a.at.setTime(e, name)
	}
	if err := a.at.Chmod(name, a.mode(e)); err != nil {
		return err
	}
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.at.inherits) {
		if err := a.at.nodeXattrs(e, name); err != nil {
			return err
		}
	}
	return a.at.setTime(e, name)
}

// file makes a file, whose content follows in the tar. A change of owner drops
// capabilities and setuid, and one of mode changes ACLs: hence the order.
func (a *applier) file(e Entry, name string) error {
	f, err := a.at.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = a.content(e, f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return a.at.setTime(e, name)
}

func (a *applier) content(e Entry, f *os.File) error {
	if err := copySparse(f, a.in, e.Size, a.buf); err != nil {
		return err
	}
	if a.opts.SameOwner && (e.UID != a.uid || e.GID != a.gid || a.at.setgid) {
		if err := f.Chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(a.mode(e)); err != nil {
		return err
	}
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.at.inherits) {
		return setXattrs(f, e, a.at.inherits)
	}
	return nil
}

func (a *applier) mode(e Entry) fs.FileMode {
	if a.opts.SameOwner {
		return fileMode(e.Mode)
	}
	return fs.FileMode(e.Mode & 0o777)
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
	paths := make([]string, 0, len(a.dirs)+len(a.times))
	for p := range a.dirs {
		paths = append(paths, p)
	}
	for p := range a.times {
		if _, ok := a.dirs[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range slices.Backward(paths) {
		info, err := a.root.Lstat(orDot(p))
		if err != nil || !info.IsDir() {
			continue // a later entry replaced it
		}
		if a.replaced && !a.isReal(p) {
			continue
		}
		if e, ok := a.dirs[p]; ok {
			err = a.directory(e)
		} else {
			err = a.root.Chtimes(orDot(p), a.times[p], a.times[p])
		}
		if err != nil {
			return fmt.Errorf("unpack %q: %w", clip(p), err)
		}
	}
	return nil
}

// directory gives a directory its attributes.
func (a *applier) directory(e Entry) error {
	name := orDot(e.Path)
	var f *os.File
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.opts.Layer) {
		var err error
		if f, err = openDir(a.root, name); err != nil { // before its mode may forbid it
			return err
		}
		defer f.Close()
	}
	if a.opts.SameOwner {
		if err := a.root.Lchown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := a.root.Chmod(name, a.mode(e)); err != nil {
		return err
	}
	if f != nil {
		if err := setXattrs(f, e, a.opts.Layer); err != nil {
			return err
		}
	}
	t := time.Unix(e.ModTime, 0)
	return a.root.Chtimes(name, t, t)
}
