package layer

import (
	"fmt"
	"io"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// fileOpener opens files below a root. It keeps the directory of the file
// before open, which most often is that of the next file too.
type fileOpener struct {
	root *os.Root
	mu   sync.Mutex
	name string
	dir  *os.File
}

func newFileOpener(root string) (*fileOpener, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &fileOpener{root: r}, nil
}

func (o *fileOpener) close() {
	if o.dir != nil {
		o.dir.Close()
	}
	o.root.Close()
}

func (o *fileOpener) openat(p string) (*RawFile, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if dir := parent(p); o.dir == nil || o.name != dir {
		f, err := openDir(o.root, orDot(dir))
		if err != nil {
			return nil, err
		}
		if o.dir != nil {
			o.dir.Close()
		}
		o.name, o.dir = dir, f
	}
	fd, err := unix.Openat(int(o.dir.Fd()), path.Base(p), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return &RawFile{FD: fd, Name: p}, nil
}

// open opens a node's file for reading. A file that was replaced since the walk
// is taken as it is now, as long as it still is one of its own.
func (o *fileOpener) open(n *node) (io.ReadCloser, error) {
	f, err := o.openat(n.Path)
	if err != nil {
		return nil, err
	}
	if err := f.check(n); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// check brings the node up to date with the file that was opened for it.
func (f *RawFile) check(n *node) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.FD, &st); err != nil {
		return &os.PathError{Op: "stat", Path: n.Path, Err: err}
	}
	now, ok := nodeOf(n.Path, &st)
	if !ok || now.Type != File || now.inode != n.inode && (n.LinkGroup != "" || st.Nlink > 1) {
		return fmt.Errorf("%s: %w", n.Path, ErrChanging)
	}
	now.Xattrs, now.LinkGroup = n.Xattrs, n.LinkGroup
	if now.inode != n.inode {
		var err error
		now.Xattrs, err = readXattrs(new([]byte),
			func(b []byte) (int, error) { return unix.Flistxattr(f.FD, b) },
			func(name string, b []byte) (int, error) { return unix.Fgetxattr(f.FD, name, b) })
		if err != nil {
			return fmt.Errorf("read %s: %w", n.Path, err)
		}
	}
	n.Entry, n.inode = now.Entry, now.inode
	return nil
}
