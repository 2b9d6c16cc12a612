package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
		in: newTarReader(ctx, r, opts.Limits), root: root, opts: opts, uid: os.Geteuid(), gid: os.Getegid(),
		made: map[string]bool{}, dirs: map[string]Entry{}, times: map[string]unix.Timespec{}, open: map[string]*directory{}, buf: make([]byte, 256<<10),
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
	made  map[string]bool          // paths of this tar, and the directories above them
	dirs  map[string]Entry         // finished last, so that their modes do not hinder and their times stay
	times map[string]unix.Timespec // of directories that were there, before anything in them changed
	open  map[string]*directory    // by path
	stale bool                     // what is open may be elsewhere by now
	at    *directory               // where the entry goes

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
	st, err := a.at.lstat(path.Base(e.Path))
	if err != nil {
		return false, err
	}
	isDir, wasDir := e.Type == Dir && !link, isType(st, unix.S_IFDIR)
	switch {
	case wasDir && isDir:
		return true, nil
	case wasDir && !a.opts.Layer:
		return false, fmt.Errorf("a directory is in the way of a %s", e.Type)
	case isDir && !a.opts.Layer:
		if at, err := a.root.Stat(e.Path); err == nil && at.IsDir() {
			return true, nil // a symbolic link of the user's to a directory
		}
	}
	a.stale = a.stale || isType(st, unix.S_IFLNK)
	return false, a.removeAll(a.at, path.Base(e.Path))
}

// link makes a hard link to what this tar, or in a layer an earlier one, made.
func (a *applier) link(linkname, p string) error {
	to, err := cleanName(linkname)
	if err != nil {
		return err
	}
	dir := parent(to)
	if a.opts.Layer {
		if dir, err = a.resolve(dir); err != nil {
			return err
		}
		to = below(dir, path.Base(orDot(to)))
	}
	from, err := a.dir(dir)
	if err != nil {
		return err
	}
	name := path.Base(orDot(to))
	st, err := from.lstat(name)
	if err != nil {
		return err
	}
	if isType(st, unix.S_IFDIR) || !a.opts.Layer && (!a.made[to] || !isType(st, unix.S_IFREG)) {
		return fmt.Errorf("hard link to %q, which is no file of this tar", clip(linkname))
	}
	if to == p {
		return nil
	}
	return a.at.link(from, name, path.Base(p))
}

// make makes what is not there.
func (a *applier) make(e Entry) error {
	name := path.Base(e.Path)
	switch e.Type {
	case File:
		return a.file(e, name)
	case Dir:
		return a.at.mkdir(name)
	case Symlink:
		if err := a.at.symlink(e.Linkname, name); err != nil {
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
		if err := a.at.lchown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if e.Type == Symlink {
		return a.at.setTime(name, unix.Timespec{Sec: e.ModTime})
	}
	if err := a.root.Chmod(e.Path, fileMode(a.mode(e))); err != nil {
		return err
	}
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.at.inherits) {
		if err := a.at.nodeXattrs(e, name); err != nil {
			return err
		}
	}
	return a.at.setTime(name, unix.Timespec{Sec: e.ModTime})
}

// file makes a file, whose content follows in the tar. It is never more open
// than in the end.
func (a *applier) file(e Entry, name string) error {
	mode := uint32(0o600)
	if !a.opts.SameOwner || e.UID == a.uid && e.GID == a.gid {
		mode = e.Mode & 0o777
	}
	f, err := a.at.create(name, mode)
	if err != nil {
		return err
	}
	err = a.fill(f, e)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return a.at.setTime(name, unix.Timespec{Sec: e.ModTime})
}

func (a *applier) fill(f openFile, e Entry) error {
	if err := copySparse(f, a.in, e.Size, a.buf); err != nil {
		return err
	}
	if err := a.setOwnerAndMode(f, e); err != nil {
		return err
	}
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.at.inherits) {
		return setXattrs(f, e, a.at.inherits)
	}
	return nil
}

// setOwnerAndMode sets what is not right yet. A change of owner drops
// capabilities and setuid, and one of mode changes ACLs: hence the order, with
// extended attributes last.
func (a *applier) setOwnerAndMode(f openFile, e Entry) error {
	st, err := f.stat()
	if err != nil {
		return err
	}
	owned := !a.opts.SameOwner || int(st.Uid) == e.UID && int(st.Gid) == e.GID
	if !owned {
		if err := f.chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	if !owned || modeOf(st)&0o7777 != a.mode(e) {
		return f.chmod(a.mode(e))
	}
	return nil
}

func (a *applier) mode(e Entry) uint32 {
	if a.opts.SameOwner {
		return e.Mode
	}
	return e.Mode & 0o777
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
	paths := slices.Collect(maps.Keys(a.dirs))
	for p := range a.times {
		if _, ok := a.dirs[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range slices.Backward(paths) {
		err := a.directory(p)
		if err != nil && !notThere(err) { // a later entry may have replaced it
			return fmt.Errorf("unpack %q: %w", clip(p), err)
		}
	}
	return nil
}

// directory gives a directory its attributes. Its time comes first, by way of
// the directory above: its mode may forbid it.
func (a *applier) directory(p string) error {
	a.tidy()
	up, err := a.dir(parent(p))
	if err != nil {
		return err
	}
	name := path.Base(orDot(p))
	f, err := up.openDir(name)
	if err != nil {
		return err
	}
	defer f.Close()
	e, ok := a.dirs[p]
	if !ok {
		return up.setTime(name, a.times[p])
	}
	if err := up.setTime(name, unix.Timespec{Sec: e.ModTime}); err != nil {
		return err
	}
	if err := a.setOwnerAndMode(f, e); err != nil {
		return err
	}
	if a.opts.Xattrs && (len(e.Xattrs) > 0 || a.opts.Layer) {
		return setXattrs(f, e, a.opts.Layer)
	}
	return nil
}
