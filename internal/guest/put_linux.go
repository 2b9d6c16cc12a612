package guest

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const xattrPrefix = "SCHILY.xattr."

// put unpacks a tar below dst as seen from inside, so that mounts and the
// container's own symbolic links to directories count. It runs in the
// container: a path that leads astray leads nowhere else.
func put(dst string, r io.Reader) error {
	unix.Umask(0)
	made := false
	if _, err := os.Stat(dst); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	u := unpacker{dst: dst}
	tr := tar.NewReader(bufio.NewReaderSize(r, 1<<16))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the tar: %w", err)
		}
		name, err := inside(h.Name)
		if err != nil {
			return err
		}
		if name == "." && !made {
			continue // dst is the container's own
		}
		if err := u.entry(h, filepath.Join(dst, name), tr); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return u.finish()
}

// inside cleans an entry's name; one that climbs out is an error.
func inside(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("tar entry %q: leads out of the directory", name)
	}
	return clean, nil
}

type unpacker struct {
	dst  string
	dirs []*tar.Header // whose times are set last; Name is the full path
}

func (u *unpacker) entry(h *tar.Header, target string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
		return u.directory(h, target)
	case tar.TypeReg:
		return u.file(h, target, content)
	case tar.TypeLink:
		return u.link(h, target)
	}
	if err := clear(target); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		if err := os.Symlink(h.Linkname, target); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := mknod(h, target); err != nil {
			return err
		}
	default:
		return fmt.Errorf("tar entry %q: unknown type %q", h.Name, h.Typeflag)
	}
	return metadata(h, target)
}

func mknod(h *tar.Header, target string) error {
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	device := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if err := unix.Mknod(target, kind|0o600, int(device)); err != nil {
		return &os.PathError{Op: "mknod", Path: target, Err: err}
	}
	return nil
}

func (u *unpacker) directory(h *tar.Header, target string) error {
	info, err := os.Stat(target)
	if err != nil || !info.IsDir() {
		if err := clear(target); err != nil {
			return err
		}
		if err := os.Mkdir(target, 0o700); err != nil {
			return err
		}
	}
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	late := *h
	late.Name = target
	u.dirs = append(u.dirs, &late)
	return metadata(h, target)
}

func (u *unpacker) file(h *tar.Header, target string, content io.Reader) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if err := clear(target); errors.Is(err, unix.EBUSY) {
		flags = os.O_WRONLY | os.O_TRUNC // a file that is a mount point
	} else if err != nil {
		return err
	}
	f, err := os.OpenFile(target, flags, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return metadata(h, target)
}

func (u *unpacker) link(h *tar.Header, target string) error {
	name, err := inside(h.Linkname)
	if err != nil {
		return err
	}
	to := filepath.Join(u.dst, name)
	if to == target {
		return nil
	}
	if err := clear(target); err != nil {
		return err
	}
	return os.Link(to, target)
}

// finish sets the times of directories, deepest first.
func (u *unpacker) finish() error {
	for _, h := range slices.Backward(u.dirs) {
		if err := setTime(h, h.Name); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what an entry replaces. A directory is no such thing.
func clear(target string) error {
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return &os.PathError{Op: "replace", Path: target, Err: unix.EISDIR}
	}
	return os.Remove(target)
}

// metadata sets owner, mode, attributes and time, in the order that keeps
// setuid bits and capabilities.
func metadata(h *tar.Header, target string) error {
	if err := os.Lchown(target, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(target, uint32(h.Mode)&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: target, Err: err}
		}
	}
	for key, val := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if err := unix.Lsetxattr(target, attr, []byte(val), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("%s: setting %s: %w", target, attr, err)
		}
	}
	return setTime(h, target)
}

func setTime(h *tar.Header, target string) error {
	mtime := h.ModTime
	if mtime.IsZero() {
		mtime = time.Unix(0, 0)
	}
	t := unix.Timespec{Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimes", Path: target, Err: err}
	}
	return nil
}
