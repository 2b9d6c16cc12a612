package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/guest"
)

// chroot furnishes a tree of its own with what can be made without a mount, and
// moves into it.
func (s *setup) chroot() error {
	if s.Plain {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a reaper: %w", err)
	}
	helper, err := os.Open(s.Helper)
	if err != nil {
		return err
	}
	defer helper.Close()
	if err := ownFolder(s.Root); err != nil {
		return err
	}
	if err := os.Chdir("/proc"); err != nil { // for this process alone: what is to be ended is found there
		return err
	}
	if err := unix.Chroot(s.Root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return s.furnishChroot(helper)
}

func (s *setup) furnishChroot(helper io.Reader) error {
	if err := os.MkdirAll(guest.RunDir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(guest.RunDir, 0o777|fs.ModeSticky); err != nil {
		return err
	}
	if err := writeFile(guest.Path, helper, 0o755); err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	for _, dir := range []string{"/dev", "/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod("/dev/shm", 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for _, n := range nodes {
		file := "/dev/" + n.name
		if err := unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil && !errors.Is(err, unix.EEXIST) {
			return &fs.PathError{Op: "mknod", Path: file, Err: err}
		}
		if err := os.Chmod(file, 0o666); err != nil {
			return err
		}
	}
	for name, target := range devLinks {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for name, content := range s.nameFiles() {
		file := path.Join("/etc", name)
		_ = os.Remove(file) // a link would lead elsewhere
		if err := writeFile(file, strings.NewReader(string(content)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(file string, content io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// skip are paths that a machine without mounts has of ours: they count as
// unchanged, as mount points do.
func (s *server) skip() []string {
	if s.setup.Isolation != Chroot {
		return nil
	}
	return Shown()
}

// inside are the processes whose root is the folder, as pids.
func inside(root string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == root {
			var pid int
			if _, err := fmt.Sscanf(link, "/proc/%d/root", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
