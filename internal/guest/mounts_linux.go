package guest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// errRefused is what an error wraps when mounting is not allowed, or the kernel
// is too old for it.
var errRefused = errors.New("not allowed here")

// Flags of what is shown from elsewhere. Without inert a device node that a
// command makes there could be used.
const (
	inert    = unix.MS_NOSUID | unix.MS_NODEV
	readOnly = inert | unix.MS_RDONLY
)

// mounts shows something in the container that has process 1. It is run in
// another one, which is privileged: what shall be seen is made there, where
// nobody looks, and only its mount is handed over.
func mounts(stdin io.Reader, stdout io.Writer) error {
	s, err := newStage(NewRelay(stdout, nil))
	if err != nil {
		return err
	}
	defer s.close()
	err = s.showAll(tar.NewReader(stdin))
	if err == nil {
		_, err = stdout.Write([]byte{1})
	}
	if err == nil {
		err = s.relay.Run(stdin)
	}
	if len(s.shown) > 0 {
		err = errors.Join(err, within(s.undo))
	}
	return err
}

// stage is where mounts are made ready: a tmpfs of the helper's own container.
type stage struct {
	dir   string
	made  int
	relay *Relay
	shown []shown
}

func newStage(relay *Relay) (*stage, error) {
	dir, err := os.MkdirTemp(RunDir, "mounts-")
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", inert, "mode=0700"); err != nil {
		os.Remove(dir)
		return nil, fmt.Errorf("%w: mounting a tmpfs: %w", errRefused, err)
	}
	return &stage{dir: dir, relay: relay}, nil
}

func (s *stage) close() {
	_ = unix.Unmount(s.dir, unix.MNT_DETACH)
	_ = os.Remove(s.dir)
}

// showAll shows what a tar says: its files are secrets, folders are tmpfs, links
// name a folder of ours, and a pipe stands for a socket.
func (s *stage) showAll(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading what to mount: %w", err)
		}
		if err := s.show(h, tr); err != nil {
			return fmt.Errorf("mount at %s: %w", h.Name, err)
		}
	}
}

func (s *stage) show(h *tar.Header, content io.Reader) error {
	target := path.Clean(h.Name)
	if !path.IsAbs(target) || target == "/" {
		return errors.New("not an absolute path below the root")
	}
	mount, err := s.prepare(h, content)
	if err != nil {
		return err
	}
	record := shown{target: target, mount: mount}
	err = within(record.attach)
	if record.there || len(record.made) > 0 {
		s.shown = append(s.shown, record)
	}
	return err
}

// prepare makes a mount that is nowhere yet.
func (s *stage) prepare(h *tar.Header, content io.Reader) (*os.File, error) {
	s.made++
	name := path.Join(s.dir, strconv.Itoa(s.made))
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		if err = s.file(h, name, content); err == nil {
			err = bind(name, name, readOnly)
		}
	case tar.TypeFifo:
		if err = s.listen(h.Name, name); err == nil {
			err = bind(name, name, inert)
		}
	case tar.TypeSymlink:
		var folder string
		if folder, err = shared(h); err == nil {
			err = errors.Join(os.Mkdir(name, 0o700), bind(folder, name, inert))
		}
	case tar.TypeDir:
		err = errors.Join(os.Mkdir(name, 0o700), tmpfs(h, name))
	default:
		err = fmt.Errorf("unknown type %q", h.Typeflag)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Unmount(name, unix.MNT_DETACH) }()
	fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%w: taking the mount: %w", errRefused, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (s *stage) file(h *tar.Header, name string, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return errors.Join(f.Chown(h.Uid, h.Gid), f.Chmod(fs.FileMode(h.Mode)))
}

// listen makes a socket and relays who connects to it.
func (s *stage) listen(target, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, unix.SOMAXCONN))
	if err == nil {
		err = os.Chmod(name, 0o666) // who runs the step may use it
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("socket: %w", err)
	}
	go func() {
		for { // to the end of the process
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			switch {
			case err == nil:
				s.relay.Accept(target, os.NewFile(uintptr(conn), name))
			case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED):
				return
			}
		}
	}()
	return nil
}

// shared is the folder that a cache is, made if it is new.
func shared(h *tar.Header) (string, error) {
	if path.Dir(h.Linkname) != SharedDir {
		return "", fmt.Errorf("%q is not in %s", h.Linkname, SharedDir)
	}
	folder := path.Join(h.Linkname, "files") // the root of a volume is the engine's
	err := os.Mkdir(folder, 0o700)
	if err == nil {
		err = errors.Join(os.Chown(folder, h.Uid, h.Gid), os.Chmod(folder, fs.FileMode(h.Mode)))
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return folder, err
}

func tmpfs(h *tar.Header, name string) error {
	options := fmt.Sprintf("uid=%d,gid=%d,mode=%o", h.Uid, h.Gid, h.Mode)
	if size := h.PAXRecords[SizeRecord]; size != "" && size != "0" {
		options += ",size=" + size
	}
	return unix.Mount("tmpfs", name, "tmpfs", inert, options)
}

func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "mount", Path: target, Err: err}
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// within does something where process 1 is.
func within(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: nobody else wants this thread
		err := enter()
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// enter makes the tree of process 1 that of this thread.
func enter() error {
	space, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	defer space.Close()
	root, err := unix.Open("/proc/1/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: the root of process 1: %w", errRefused, err)
	}
	defer unix.Close(root)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("%w: unshare: %w", errRefused, err)
	}
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("%w: entering the container: %w", errRefused, err)
	}
	if err := errors.Join(unix.Fchdir(root), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("%w: entering the container's root: %w", errRefused, err)
	}
	return nil
}

// shown is a mount in the other container, and what was made for it.
type shown struct {
	target string
	made   []string // deepest last
	mount  *os.File // stands for the mount, wherever a step has moved it
	there  bool
}

// attach is done within.
func (m *shown) attach() error {
	var kind unix.Stat_t
	if err := unix.Fstat(int(m.mount.Fd()), &kind); err != nil {
		return err
	}
	file := kind.Mode&unix.S_IFMT != unix.S_IFDIR
	var err error
	if m.made, err = Place(m.target, file); err != nil {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS} // those of /proc lead out
	target, err := unix.Openat2(unix.AT_FDCWD, m.target, &how)
	if err != nil {
		return &fs.PathError{Op: "open", Path: m.target, Err: err}
	}
	defer unix.Close(target)
	err = unix.Fstat(target, &kind)
	switch folder := kind.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case err != nil:
		return err
	case file && folder:
		return errors.New("there is a folder")
	case !file && !folder:
		return errors.New("there is a file")
	}
	err = unix.MoveMount(int(m.mount.Fd()), "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &fs.PathError{Op: "mount", Path: m.target, Err: err}
	}
	m.there = true
	return nil
}

// Place makes a mount's target, a file or a directory, with the directories above
// it, and tells what it made, the deepest last: also what it made before an error.
func Place(target string, file bool) (made []string, err error) {
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

// undo ends the mounts and removes what was made for them, unless a step has put
// something there. It is done within.
func (s *stage) undo() error {
	var problems []error
	for _, m := range slices.Backward(s.shown) {
		problems = append(problems, m.undo())
	}
	return errors.Join(problems...)
}

func (m shown) undo() error {
	if m.there {
		if err := unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", m.mount.Fd()), unix.MNT_DETACH); err != nil {
			return &fs.PathError{Op: "unmount", Path: m.target, Err: err}
		}
	}
	m.mount.Close()
	for _, p := range slices.Backward(m.made) {
		_ = os.Remove(p)
	}
	return nil
}
