package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Places below private that only we look into.
const (
	sharedRoot = private + "/shared" // Options.Shared
	filesRoot  = private + "/files"  // tmpfs of files
)

func (s *setup) share() error {
	if err := os.Mkdir(sharedRoot, 0o700); err != nil {
		return err
	}
	inner := path.Join(sharedRoot, "root")
	if err := os.Mkdir(inner, 0o700); err != nil {
		return err
	}
	return unix.Mount(oldRoot+s.Shared, inner, "", unix.MS_BIND, "")
}

// mounted is a mount and what was made for it, to be undone.
type mounted struct {
	target string
	made   []string // deepest last
}

// mount shows something in the tree until unmount. content is that of a file.
func (s *server) mount(m Mount, content io.Reader) error {
	if s.setup.Isolation == Chroot {
		return fmt.Errorf("mount at %s: %w with isolation chroot", m.Target, ErrUnavailable)
	}
	target := path.Clean(m.Target)
	if !path.IsAbs(target) || target == "/" {
		return fmt.Errorf("mount at %q: not an absolute path below the root", m.Target)
	}
	made, err := place(target, m.File)
	record := mounted{target, made}
	if err == nil {
		err = s.attach(m, target, content)
	}
	if err != nil {
		record.undo()
		return fmt.Errorf("mount at %s: %w", m.Target, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts = append(s.mounts, record)
	return nil
}

func (s *server) attach(m Mount, target string, content io.Reader) error {
	switch {
	case m.File:
		return showFile(m, target, content)
	case m.Shared != "":
		if !filepath.IsLocal(m.Shared) {
			return fmt.Errorf("%q is no path below the shared folder", m.Shared)
		}
		return bind(path.Join(sharedRoot, "root", m.Shared), target, m.ReadOnly)
	}
	return unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, m.Options)
}

// showFile keeps the content in memory only.
func showFile(m Mount, target string, content io.Reader) error {
	if err := os.MkdirAll(filesRoot, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filesRoot, "") // private is a tmpfs
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // the mount keeps it
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := errors.Join(f.Chown(m.UID, m.GID), f.Chmod(fs.FileMode(m.Mode))); err != nil {
		return err
	}
	return bind(f.Name(), target, true)
}

// place makes a mount's target, and tells what it made.
func place(target string, file bool) (made []string, err error) {
	for dir := target; ; dir = path.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	slices.Reverse(made)
	for _, p := range made {
		if p == target && file {
			err = os.WriteFile(p, nil, 0o600)
		} else {
			err = os.Mkdir(p, 0o755)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// undo removes what was made for a mount, unless a step has put something there.
func (m mounted) undo() {
	for _, p := range slices.Backward(m.made) {
		_ = os.Remove(p)
	}
}

// unmount undoes every mount.
func (s *server) unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var problems []error
	for _, m := range slices.Backward(s.mounts) {
		if err := unix.Unmount(m.target, unix.MNT_DETACH); err != nil {
			problems = append(problems, &fs.PathError{Op: "unmount", Path: m.target, Err: err})
			continue
		}
		m.undo()
	}
	s.mounts = nil
	return errors.Join(problems...)
}
