package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openLive walks a live tree.
func openLive(ctx context.Context, root string, skip []string) (*tree, error) {
	root, skips, err := liveRoot(root, skip)
	if err != nil {
		return nil, err
	}
	w := walker{ctx: ctx, root: root, skip: skips}
	if err := w.walk(""); err != nil {
		return nil, err
	}
	w.link()
	sortNodes(w.nodes)
	files, err := newFileOpener(root)
	if err != nil {
		return nil, err
	}
	return &tree{nodes: w.nodes, skip: w.skip, open: files.open, close: files.close}, nil
}

// liveRoot is the real path of a live tree, and what of it to skip: mount
// points too.
func liveRoot(root string, skip []string) (string, skipper, error) {
	root, err := realPath(root)
	if err != nil {
		return "", nil, err
	}
	mounts, err := readMounts()
	if err != nil {
		return "", nil, err
	}
	for _, m := range mounts {
		if p, ok := strings.CutPrefix(m.point, strings.TrimSuffix(root, "/")+"/"); ok && p != "" {
			skip = append(skip[:len(skip):len(skip)], p)
		}
	}
	return root, newSkipper(skip), nil
}

func sortNodes(nodes []node) {
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.Path, b.Path) })
}

// realPath is the path without symbolic links. One that goes by a descriptor,
// for a directory that no path leads to, stays.
func realPath(root string) (string, error) {
	if strings.HasPrefix(root, "/proc/self/fd/") {
		return root, nil
	}
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
	upper bool // the tree is an upper directory
}

func (w *walker) host(p string) string { return hostPath(w.root, p) }

// hostPath ends in a slash for the root itself, which may be a link to follow.
func hostPath(root, p string) string { return strings.TrimSuffix(root, "/") + "/" + p }

func (w *walker) walk(p string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.skip.skips(p) {
		return nil
	}
	n, err := w.visit(p)
	if err != nil || n == nil || n.Type != Dir {
		return err
	}
	names, err := w.names(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.walk(below(p, name)); err != nil {
			return err
		}
	}
	return nil
}

// names are those in a directory; none when it is gone since it was seen.
func (w *walker) names(p string) ([]string, error) {
	names, err := readNames(w.host(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, name := range names {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return nil, fmt.Errorf("file %s: image layers reserve names that start with %s", w.host(below(p, name)), whiteoutPrefix)
		}
	}
	return names, err
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// visit records one file and gives its node until the next visit; nil when
// there is none to record.
func (w *walker) visit(p string) (*node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(w.host(p), &st); err != nil {
		if errors.Is(err, unix.ENOENT) && p != "" {
			return nil, nil // gone since its directory was read
		}
		return nil, &os.PathError{Op: "lstat", Path: w.host(p), Err: err}
	}
	n, ok := nodeOf(p, &st)
	if !ok {
		return nil, nil
	}
	var err error
	switch n.Type {
	case Symlink:
		n.Linkname, err = os.Readlink(w.host(p))
	default:
		n.Xattrs, err = w.xattrs(w.host(p))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w.host(p), err)
	}
	if n.Type == File && st.Nlink > 1 {
		if w.links == nil {
			w.links = map[[2]uint64][]string{}
		}
		key := [2]uint64{uint64(st.Dev), st.Ino}
		w.links[key] = append(w.links[key], p)
	}
	w.nodes = append(w.nodes, n)
	return &w.nodes[len(w.nodes)-1], nil
}

var statTypes = map[uint32]Type{
	unix.S_IFREG: File, unix.S_IFDIR: Dir, unix.S_IFLNK: Symlink,
	unix.S_IFCHR: Char, unix.S_IFBLK: Block, unix.S_IFIFO: Fifo,
}

// nodeOf is what stat says; false for sockets, and for the device that is a
// whiteout where overlayfs finds it.
func nodeOf(p string, st *unix.Stat_t) (node, bool) {
	kind, ok := statTypes[st.Mode&unix.S_IFMT]
	if kind == Char && st.Rdev == 0 {
		return node{}, false
	}
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
	list := func(b []byte) (int, error) {
		n, err := unix.Llistxattr(path, b)
		if err == nil && w.upper {
			err = checkUpper(string(b[:n]))
		}
		return n, err
	}
	return readXattrs(&w.xattr, list,
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
