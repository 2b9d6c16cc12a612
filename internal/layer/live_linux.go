package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openLive walks a live tree.
func openLive(ctx context.Context, root string, skip []string) (*tree, error) {
	root, err := realPath(root)
	if err != nil {
		return nil, err
	}
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if p, ok := strings.CutPrefix(m.point, strings.TrimSuffix(root, "/")+"/"); ok && p != "" {
			skip = append(skip[:len(skip):len(skip)], p)
		}
	}
	w := walker{ctx: ctx, root: root, skip: newSkipper(skip)}
	if err := w.walk(""); err != nil {
		return nil, err
	}
	slices.SortFunc(w.nodes, func(a, b node) int { return strings.Compare(a.Path, b.Path) })
	w.link()
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	open := func(n *node) (io.ReadCloser, error) { return openNode(dir, n) }
	return &tree{nodes: w.nodes, skip: w.skip, open: open, close: func() { dir.Close() }}, nil
}

func realPath(root string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(root)
}

// walker collects the nodes of a live tree.
type walker struct {
	ctx   context.Context
	root  string
	skip  skipper
	nodes []node
	links map[[2]uint64][]string // paths by device and inode, of files with several names
	xattr []byte
}

func (w *walker) host(p string) string { return filepath.Join(w.root, p) }

func (w *walker) walk(p string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.skip.skips(p) {
		return nil
	}
	isDir, err := w.visit(p)
	if err != nil || !isDir {
		return err
	}
	names, err := readNames(w.host(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return fmt.Errorf("file %s: image layers reserve names that start with %s", w.host(p+"/"+name), whiteoutPrefix)
		}
		if err := w.walk(strings.TrimPrefix(p+"/"+name, "/")); err != nil {
			return err
		}
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// visit records one file and reports whether it is a directory.
func (w *walker) visit(p string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(w.host(p), &st); err != nil {
		if errors.Is(err, unix.ENOENT) && p != "" {
			return false, nil // gone since its directory was read
		}
		return false, &os.PathError{Op: "lstat", Path: w.host(p), Err: err}
	}
	n, ok := nodeOf(p, &st)
	if !ok {
		return false, nil
	}
	var err error
	switch n.Type {
	case Symlink:
		n.Linkname, err = os.Readlink(w.host(p))
	default:
		n.Xattrs, err = w.xattrs(w.host(p))
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", w.host(p), err)
	}
	if n.Type == File && st.Nlink > 1 {
		if w.links == nil {
			w.links = map[[2]uint64][]string{}
		}
		key := [2]uint64{uint64(st.Dev), st.Ino}
		w.links[key] = append(w.links[key], p)
	}
	w.nodes = append(w.nodes, n)
	return n.Type == Dir, nil
}

var statTypes = map[uint32]Type{
	unix.S_IFREG: File, unix.S_IFDIR: Dir, unix.S_IFLNK: Symlink,
	unix.S_IFCHR: Char, unix.S_IFBLK: Block, unix.S_IFIFO: Fifo,
}

// nodeOf is what stat says; false for sockets.
func nodeOf(p string, st *unix.Stat_t) (node, bool) {
	kind, ok := statTypes[st.Mode&unix.S_IFMT]
	n := node{
		Entry: Entry{Path: p, Type: kind, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), ModTime: int64(st.Mtim.Sec)},
		ctime: time.Unix(st.Ctim.Unix()), inode: st.Ino,
	}
	switch kind {
	case File:
		n.Size = st.Size
	case Char, Block:
		n.DevMajor, n.DevMinor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
	return n, ok
}

// link names the link groups. A file whose other names are outside the tree
// has none.
func (w *walker) link() {
	group := map[string]string{}
	for _, paths := range w.links {
		if len(paths) < 2 {
			continue
		}
		first := slices.Min(paths)
		for _, p := range paths {
			group[p] = first
		}
	}
	for i := range w.nodes {
		w.nodes[i].LinkGroup = group[w.nodes[i].Path]
	}
}

func (w *walker) xattrs(path string) (map[string]string, error) {
	return readXattrs(&w.xattr,
		func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// readXattrs collects the extended attributes that belong to a tree.
func readXattrs(buf *[]byte, list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	if *buf == nil {
		*buf = make([]byte, 64<<10) // the kernel's limit of a list and of a value
	}
	n, err := list(*buf)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	var out map[string]string
	for name := range strings.SplitSeq(string((*buf)[:n]), "\x00") {
		if !recordedXattr(name) {
			continue
		}
		n, err := get(name, *buf)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", name, err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string((*buf)[:n])
	}
	return out, nil
}

// openNode opens a file for reading. A file that was replaced since the walk
// is taken as it is now, as long as it still is one of its own.
func openNode(root *os.Root, n *node) (io.ReadCloser, error) {
	f, err := root.OpenFile(n.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: n.Path, Err: err}
	}
	now, ok := nodeOf(n.Path, &st)
	if !ok || now.Type != File || now.inode != n.inode && (n.LinkGroup != "" || st.Nlink > 1) {
		f.Close()
		return nil, fmt.Errorf("%s: %w", n.Path, ErrChanging)
	}
	now.Xattrs, now.LinkGroup = n.Xattrs, n.LinkGroup
	if now.inode != n.inode {
		var buf []byte
		now.Xattrs, err = readXattrs(&buf,
			func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) },
			func(name string, b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("read %s: %w", n.Path, err)
		}
	}
	n.Entry, n.inode = now.Entry, now.inode
	return f, nil
}
