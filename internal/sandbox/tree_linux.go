package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// Folders of a machine's root.
const (
	upperDir  = "upper"
	workDir   = "work"
	mergedDir = "merged"
	linksDir  = "l"
)

// maxLayers is OVL_MAX_STACK of the kernel.
const maxLayers = 500

// The list of what is mounted, where old programs look for it.
const (
	mtab       = "/etc/mtab"
	mtabTarget = "/proc/mounts"
)

// private is where a machine keeps what is ours: a tmpfs, no part of the tree.
const private = "/" + layer.HelperDir

// upperView is where a machine sees its upper directory, read-only, and cannot
// climb out of it.
const upperView = private + "/" + upperDir

// mountTree mounts the overlay and what commands expect in it, and makes it the
// root. What is mounted after that cannot leave it: a symbolic link in the way
// is followed inside.
func (s *setup) mountTree() error {
	if s.Plain {
		return nil
	}
	if err := s.overlay(); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if s.Unpack {
		return nil
	}
	merged := filepath.Join(s.Root, mergedDir)
	if err := ownFolder(merged); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", merged+private, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs at %s: %w", private, err)
	}
	// While the old root is there, a symbolic link of the tree must not lead to
	// it: nobody can guess its name.
	s.old = path.Join(private, rand.Text())
	if err := os.Mkdir(merged+s.old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(merged, merged+s.old); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := s.furnish(); err != nil {
		return err
	}
	if err := unix.Unmount(s.old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Remove(s.old)
}

// ownFolder makes the folder for what is ours, in a tree that may be hostile.
func ownFolder(merged string) error {
	root, err := os.OpenRoot(merged)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(layer.HelperDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return root.Mkdir(layer.HelperDir, 0o755)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("the image has a file at %s, which is where imgbake keeps its own", private)
	}
	return nil
}

// overlay mounts the layers. Links with short names stand for them, so that 500
// fit into the page that mount(2) takes, whatever their paths hold.
func (s *setup) overlay() error {
	if n := len(s.Lowers); n > maxLayers {
		return fmt.Errorf("%d layers are more than the %d that overlayfs takes: %w", n, maxLayers, unix.ENOSYS)
	}
	links := filepath.Join(s.Root, linksDir)
	if err := os.Mkdir(links, 0o700); err != nil {
		return err
	}
	if err := os.Chdir(links); err != nil {
		return err
	}
	lowers := make([]string, len(s.Lowers))
	for i, dir := range s.Lowers {
		name := strconv.FormatInt(int64(i), 36)
		if err := os.Symlink(dir, name); err != nil {
			return err
		}
		lowers[len(lowers)-1-i] = name // overlayfs wants the highest first
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=../%s,workdir=../%s,index=off,metacopy=off", strings.Join(lowers, ":"), upperDir, workDir)
	if s.UserNS {
		options += ",userxattr" // which is without redirect_dir
	} else {
		options += ",redirect_dir=off"
	}
	// Device nodes of the tree are for images, not for use.
	mount := func(options string) error {
		return unix.Mount("overlay", "../"+mergedDir, "overlay", unix.MS_NODEV, options)
	}
	// What is thrown away need not be synced, however often a package manager asks.
	err := mount(options + ",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = mount(options) // an older kernel
	}
	return err
}

// furnish mounts what commands expect besides the tree. The old root is still
// there.
func (s *setup) furnish() error {
	for _, dir := range []string{"/proc", "/sys", "/dev", "/etc"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := s.hideProc(); err != nil {
		return fmt.Errorf("hiding parts of /proc: %w", err)
	}
	if err := s.sys(); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	if err := s.devices(); err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	if err := os.Mkdir(guest.RunDir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(guest.RunDir, 0o777|fs.ModeSticky); err != nil {
		return err
	}
	if err := bindFile(s.old+s.Helper, guest.Path, readOnly); err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	if err := os.Mkdir(upperView, 0o700); err != nil {
		return err
	}
	if err := bind(s.old+filepath.Join(s.Root, upperDir), upperView, readOnly); err != nil {
		return err
	}
	if err := s.etcFiles(); err != nil {
		return err
	}
	// As in an engine's container; like the files above it is none of a layer's.
	if err := os.Symlink(mtabTarget, mtab); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.Shared != "" {
		if err := s.share(); err != nil {
			return fmt.Errorf("shared folder: %w", err)
		}
	}
	for _, t := range s.Tmpfs {
		target, options, _ := strings.Cut(t, ":")
		if err := tmpfs(target, options); err != nil {
			return err
		}
	}
	return nil
}

// hideProc makes the parts of /proc that concern the whole machine unreadable
// or unwritable, as engines do. What is not there need not be hidden.
func (s *setup) hideProc() error {
	hidden := []string{"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats"}
	for _, file := range hidden {
		if err := unix.Mount(s.old+"/dev/null", file, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "mount", Path: file, Err: err}
		}
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	for _, file := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		err := unix.Mount(file, file, "", unix.MS_BIND|unix.MS_REC, "")
		if err == nil {
			err = unix.Mount("", file, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "mount", Path: file, Err: err}
		}
	}
	for _, dir := range []string{"/proc/acpi", "/proc/asound", "/proc/scsi"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size=0k"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "mount", Path: dir, Err: err}
		}
	}
	return nil
}

// sys is read-only; in a user namespace without a network of its own it cannot
// be mounted anew, so this machine's is shown.
func (s *setup) sys() error {
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("sysfs", "/sys", "sysfs", flags, ""); err == nil {
		return nil
	}
	if err := unix.Mount(s.old+"/sys", "/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("", "/sys", "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return err
	}
	// Control groups that are delegated to this user could be written to: those of
	// the limits, and of all else the user runs.
	err := unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", flags, "size=0k")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// nodes are the devices that every command may expect.
var nodes = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

var devLinks = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
}

func (s *setup) devices() error {
	// Devices are made in a folder below /dev itself, in which, and anywhere else,
	// those that commands make do not work.
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return err
	}
	hidden, err := openPath("/dev")
	if err != nil {
		return err
	}
	defer hidden.Close()
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_STRICTATIME, "mode=755,size=65536k"); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := s.node(hidden, n.name, unix.Mkdev(n.major, n.minor)); err != nil {
			return err
		}
	}
	for name, target := range devLinks {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	terminals := "newinstance,ptmxmode=0666,mode=0620"
	if !s.UserNS {
		terminals += ",gid=5"
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, terminals); err != nil {
		return fmt.Errorf("devpts: %w", err)
	}
	_ = unix.Mount("mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	size := strconv.FormatInt(max(s.ShmSize, 0), 10)
	if s.ShmSize == 0 {
		size = strconv.Itoa(defaultShm)
	}
	return unix.Mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size="+size)
}

// node shows a device that is made in the folder. Where none can be made this
// machine's is shown.
func (s *setup) node(dir *os.File, name string, dev uint64) error {
	if s.UserNS {
		return bindFile(s.old+"/dev/"+name, "/dev/"+name, asIs)
	}
	source := path.Join(link(dir), name)
	if err := unix.Mknod(source, unix.S_IFCHR|0o666, int(dev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: "/dev/" + name, Err: err}
	}
	if err := os.Chmod(source, 0o666); err != nil { // whatever the umask
		return err
	}
	return bindFile(source, "/dev/"+name, asIs)
}

// bindFile shows a file at another place, which is made if it is not there.
func bindFile(source, target string, flags uintptr) error {
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	return bind(source, target, flags)
}

// Flags of what is shown from elsewhere. Without inert a device node that a
// command makes there could be used.
const (
	asIs     = 0
	inert    = unix.MS_NOSUID | unix.MS_NODEV
	readOnly = inert | unix.MS_RDONLY
)

// bind shows what is at one place at another. In a user namespace the flags that
// the mount has must stay.
func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "mount", Path: target, Err: err}
	}
	if flags == asIs {
		return nil
	}
	var had unix.Statfs_t
	if err := unix.Statfs(target, &had); err != nil {
		return &fs.PathError{Op: "statfs", Path: target, Err: err}
	}
	// statfs(2) and mount(2) have the same numbers for these.
	flags |= uintptr(had.Flags) & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return &fs.PathError{Op: "remount", Path: target, Err: err}
	}
	return nil
}

// etcFiles shows name service files that are not part of the tree.
func (s *setup) etcFiles() error {
	for name, content := range s.nameFiles() {
		ours, shown := path.Join(private, name), path.Join("/etc", name)
		if err := os.WriteFile(ours, content, 0o644); err != nil {
			return err
		}
		if err := bindFile(ours, shown, inert); err != nil {
			return err
		}
	}
	return nil
}

// nameFiles are the files below /etc that tell names and addresses.
func (s *setup) nameFiles() map[string][]byte {
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + s.Hostname + "\n"
	for _, entry := range s.AddHosts {
		name, address, _ := strings.Cut(entry, ":")
		hosts += address + "\t" + name + "\n"
	}
	return map[string][]byte{"hosts": []byte(hosts), "hostname": []byte(s.Hostname + "\n"), "resolv.conf": s.Resolv}
}

func tmpfs(target, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("tmpfs at %s: %w", target, err)
	}
	return nil
}
