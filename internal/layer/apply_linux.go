package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func modeOf(st *unix.Stat_t) uint32 { return st.Mode }

// hasDefaultACL reports whether what is made in a directory gets an ACL.
func hasDefaultACL(dir openFile) bool {
	_, err := unix.Fgetxattr(int(dir), "system.posix_acl_default", nil)
	return err == nil
}

// node makes a device node or fifo.
func (f openFile) node(e Entry, name string) error {
	kind := map[Type]uint32{Char: unix.S_IFCHR, Block: unix.S_IFBLK, Fifo: unix.S_IFIFO}[e.Type]
	dev := unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
	if err := unix.Mknodat(int(f), name, kind|0o600, int(dev)); err != nil {
		return fmt.Errorf("make %s: %w", e.Type, err)
	}
	return nil
}

// nodeXattrs sets the extended attributes of what cannot be opened.
func (d *directory) nodeXattrs(e Entry, name string) error {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.openFile, name)
	return replaceXattrs(e, d.inherits,
		func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(name string) error { return unix.Lremovexattr(path, name) },
		func(name, value string) error { return unix.Lsetxattr(path, name, []byte(value), 0) })
}

// setXattrs sets the extended attributes of an open file; with exact it removes
// the others that belong to a tree.
func setXattrs(f openFile, e Entry, exact bool) error {
	fd := int(f)
	return replaceXattrs(e, exact,
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string) error { return unix.Fremovexattr(fd, name) },
		func(name, value string) error { return unix.Fsetxattr(fd, name, []byte(value), 0) })
}

func replaceXattrs(e Entry, exact bool, list func([]byte) (int, error), remove func(string) error, set func(name, value string) error) error {
	if exact {
		if err := removeXattrs(e, list, remove); err != nil {
			return err
		}
	}
	for name, value := range e.Xattrs {
		if err := set(name, value); err != nil {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}

func removeXattrs(e Entry, list func([]byte) (int, error), remove func(string) error) error {
	n, err := list(nil) // most often there are none
	if n == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list xattrs: %w", err)
	}
	has, err := readXattrs(new([]byte), list, func(string, []byte) (int, error) { return 0, nil })
	if err != nil {
		return err
	}
	for name := range has {
		if _, ok := e.Xattrs[name]; ok {
			continue
		}
		if err := remove(name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove xattr %s: %w", name, err)
		}
	}
	return nil
}
