package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/guest"
)

// Places below private that only we look into.
const (
	sharedRoot = private + "/shared" // Options.Shared
	filesRoot  = private + "/files"  // tmpfs of files
)

// share keeps the shared folder where nothing that runs here later can look: it
// is reached by its descriptor only.
func (s *setup) share() error {
	inner := path.Join(sharedRoot, "root")
	for _, dir := range []string{sharedRoot, inner} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := unix.Mount(s.old+s.Shared, inner, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	var err error
	if s.shared, err = openPath(inner); err != nil {
		return err
	}
	return unix.Mount("tmpfs", sharedRoot, "tmpfs", unix.MS_RDONLY, "mode=0")
}

// openPath gives a descriptor that stands for a place in the tree.
func openPath(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// link is the path of what a descriptor stands for.
func link(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// mounted is a mount and what was made for it, to be undone.
type mounted struct {
	target string
	made   []string // deepest last
	hidden string   // where what was at the target is meanwhile: without mounts
	whole  bool     // the target goes with all that is in it: without mounts
	at     *os.File // stands for the mount, wherever a step has moved it
}

// mount shows something in the tree until unmount. content is that of a file,
// or a socket that takes the listener.
func (s *server) mount(m Mount, content *os.File) error {
	target := path.Clean(m.Target)
	if !path.IsAbs(target) || target == "/" {
		return fmt.Errorf("mount at %q: not an absolute path below the root", m.Target)
	}
	record := mounted{target: target}
	var err error
	if s.setup.Isolation == Chroot {
		err = s.stand(m, &record, content)
	} else {
		err = s.attach(m, &record, content)
	}
	if err != nil {
		err = errors.Join(err, record.undo())
		return fmt.Errorf("mount at %s: %w", m.Target, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts = append(s.mounts, record)
	return nil
}

func (s *server) attach(m Mount, record *mounted, content *os.File) (err error) {
	target := record.target
	if record.made, err = guest.Place(target, m.File || m.Socket); err != nil {
		return err
	}
	switch {
	case m.File:
		err = showFile(m, target, content)
	case m.Socket:
		err = showSocket(target, content)
	case m.Shared != "":
		err = s.showShared(m, target)
	default:
		err = unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, m.Options)
	}
	if err == nil {
		record.at, err = openPath(target)
	}
	return err
}

func (s *server) showShared(m Mount, target string) error {
	if !filepath.IsLocal(m.Shared) || s.setup.shared == nil {
		return fmt.Errorf("%q is no path below the shared folder", m.Shared)
	}
	source := path.Join(link(s.setup.shared), m.Shared)
	err := os.Mkdir(source, 0o700)
	if err == nil {
		err = errors.Join(os.Chown(source, m.UID, m.GID), os.Chmod(source, fs.FileMode(m.Mode)))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	flags := uintptr(inert)
	if m.ReadOnly {
		flags = readOnly
	}
	return bind(source, target, flags)
}

// showSocket makes a socket and hands its listener over.
func showSocket(target string, to *os.File) error {
	if err := os.MkdirAll(filesRoot, 0o700); err != nil {
		return err
	}
	name := path.Join(filesRoot, rand.Text())
	if err := listen(name, to); err != nil {
		return err
	}
	defer os.Remove(name) // the mount keeps it
	return bind(name, target, inert)
}

func listen(name string, to *os.File) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(name, 0o666); err != nil { // who runs the step may use it
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := unixConn(to)
	if err != nil {
		return err
	}
	defer conn.Close()
	return pass(conn, f)
}

// showFile keeps the content in memory only.
func showFile(m Mount, target string, content *os.File) error {
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
	return bind(f.Name(), target, readOnly)
}

// undo ends the mount and removes what was made for it, unless a step has put
// something there.
func (m mounted) undo() error {
	if m.at != nil {
		err := unix.Unmount(link(m.at), unix.MNT_DETACH)
		m.at.Close()
		if err != nil {
			return &fs.PathError{Op: "unmount", Path: m.target, Err: err}
		}
	}
	if m.whole {
		if err := os.RemoveAll(m.target); err != nil {
			return err
		}
	}
	for _, p := range slices.Backward(m.made) {
		_ = os.Remove(p)
	}
	if m.hidden == "" {
		return nil
	}
	return os.Rename(m.hidden, m.target)
}

// unmount undoes every mount.
func (s *server) unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var problems []error
	for _, m := range slices.Backward(s.mounts) {
		problems = append(problems, m.undo())
	}
	s.mounts = nil
	return errors.Join(problems...)
}
