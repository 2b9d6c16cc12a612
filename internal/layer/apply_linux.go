package layer

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// dirOf opens the directory that holds a path.
func (a *applier) dirOf(p string) (*os.File, string, error) {
	dir, err := a.root.Open(orDot(parent(p)))
	return dir, path.Base(p), err
}

// node makes a device node or fifo.
func (a *applier) node(e Entry) error {
	dir, name, err := a.dirOf(e.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	kind := map[Type]uint32{Char: unix.S_IFCHR, Block: unix.S_IFBLK, Fifo: unix.S_IFIFO}[e.Type]
	dev := unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
	if err := unix.Mknodat(int(dir.Fd()), name, kind|0o600, int(dev)); err != nil {
		return fmt.Errorf("make %s: %w", e.Type, err)
	}
	return nil
}

// linkTime sets the time of a symbolic link itself.
func (a *applier) linkTime(e Entry) error {
	dir, name, err := a.dirOf(e.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	t := unix.NsecToTimespec(e.ModTime * 1e9)
	return unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (a *applier) xattrs(e Entry) error {
	if e.Type != File && e.Type != Dir {
		return nil
	}
	f, err := a.root.OpenFile(orDot(e.Path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for name, value := range e.Xattrs {
		if err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0); err != nil {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}
