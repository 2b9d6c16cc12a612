package layer

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openDir opens a directory, and nothing else: a fifo would be waited for.
func openDir(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// openFile is the descriptor of a file or directory: an os.File costs as many
// system calls again as a small file needs. Names are those of what is directly
// in the directory, and symbolic links are not followed.
type openFile int

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f openFile) open(name string, flags int, mode uint32) (child openFile, err error) {
	err = again(func() error {
		fd, err := unix.Openat(int(f), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		child = openFile(fd)
		return err
	})
	return child, err
}

func (f openFile) openDir(name string) (openFile, error) {
	return f.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

func (f openFile) create(name string, mode uint32) (openFile, error) {
	return f.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, mode)
}

func (f openFile) mkdir(name string) error {
	return again(func() error { return unix.Mkdirat(int(f), name, 0o700) })
}

func (f openFile) symlink(target, name string) error {
	return again(func() error { return unix.Symlinkat(target, int(f), name) })
}

func (f openFile) readlink(name string) (target string, err error) {
	var buf [unix.PathMax]byte // which no target is as long as
	err = again(func() error {
		n, err := unix.Readlinkat(int(f), name, buf[:])
		target = string(buf[:max(0, n)])
		return err
	})
	return target, err
}

// link gives what is in another directory a further name here.
func (f openFile) link(from *directory, old, name string) error {
	return again(func() error { return unix.Linkat(int(from.openFile), old, int(f), name, 0) })
}

// remove removes anything but a directory.
func (f openFile) remove(name string) error {
	return again(func() error { return unix.Unlinkat(int(f), name, 0) })
}

func (f openFile) lchown(name string, uid, gid int) error {
	return again(func() error { return unix.Fchownat(int(f), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW) })
}

func (f openFile) setTime(name string, t unix.Timespec) error {
	return again(func() error {
		return unix.UtimesNanoAt(int(f), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (f openFile) lstat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(int(f), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return &st, err
}

func (f openFile) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstat(int(f), &st) })
	return &st, err
}

// isType compares with one of S_IFMT.
func isType(st *unix.Stat_t, kind uint32) bool { return modeOf(st)&unix.S_IFMT == kind }

func (f openFile) chown(uid, gid int) error {
	return again(func() error { return unix.Fchown(int(f), uid, gid) })
}

func (f openFile) chmod(mode uint32) error {
	return again(func() error { return unix.Fchmod(int(f), mode) })
}

// names are those in a directory.
func (f openFile) names() ([]string, error) {
	own, err := f.openDir(".") // with a position of its own
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(own), ".")
	defer dir.Close()
	return dir.Readdirnames(-1)
}

func (f openFile) writeAt(p []byte, at int64) error {
	for len(p) > 0 {
		err := again(func() error {
			n, err := unix.Pwrite(int(f), p, at)
			p, at = p[max(0, n):], at+int64(max(0, n))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f openFile) truncate(size int64) error {
	return again(func() error { return unix.Ftruncate(int(f), size) })
}

// Close closes the file.
func (f openFile) Close() error { return unix.Close(int(f)) }

// RawFile is a regular file that is read once: an os.File costs as many system
// calls again as a small file needs.
type RawFile struct {
	FD   int
	Name string
}

// Read reads on.
func (f *RawFile) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(f.FD, p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, &os.PathError{Op: "read", Path: f.Name, Err: err}
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Close closes the file.
func (f *RawFile) Close() error {
	fd := f.FD
	f.FD = -1 // its number may soon be another file's
	return unix.Close(fd)
}
