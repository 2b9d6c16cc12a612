//go:build engine && linux

package layer

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What setcap cap_net_raw+ep and setfacl -m u:1000:r write.
const (
	netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	acl    = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
)

func TestPrivilegedChanges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	l := baseTree(t)
	base := l.scan()
	before := copyOf(l)
	l.xattr("a/one", "security.capability", netRaw)
	l.xattr("a/two", "system.posix_acl_access", acl)
	must(t, os.Chown(l.path("a/sub"), 33, 44))
	must(t, os.Lchown(l.path("link"), 1, 2))
	must(t, os.Chown(l.path("a/sub/three"), 5, 6))
	l.chmod("a/sub/three", 0o6755) // after chown, which clears it
	must(t, unix.Mknod(l.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(l.path("disk"), unix.S_IFBLK|0o640, int(unix.Mkdev(259, 300))))
	delta := l.delta(base)
	wantLines(t, listTar(t, delta), "0 a/one = 1", "5 a/sub/", "0 a/sub/three = 3", "0 a/two = 2", "4 disk", "2 link -> a/one", "3 null")
	layer, _ := publish(t, NewTree(base), delta, Policy{})
	before.apply(layer)
	sameTree(t, before.scan(), l.scan())
	x, err := IndexOf(t.Context(), opener(layer))
	must(t, err)
	if e, _ := x.Lookup("a/one"); e.Xattrs["security.capability"] != netRaw {
		t.Errorf("capability = %q", e.Xattrs)
	}
}

// overlayOf mounts a tree over lower and gives the merged tree.
func overlayOf(t *testing.T, lower *liveTree, options string) *liveTree {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "")) // an upper directory may not be on overlayfs itself
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	run(t, exec.Command("cp", "-a", lower.root+"/.", filepath.Join(dir, "lower")))
	merged := filepath.Join(dir, "merged")
	data := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work%[2]s", dir, options)
	need(t, "mount overlay", unix.Mount("overlay", merged, "overlay", 0, data))
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	return &liveTree{t, merged}
}

// On overlayfs the quick way, trusting ctime, finds all that reading
// everything finds.
func TestOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	lower := baseTree(t)
	for i := range 50 {
		lower.write(fmt.Sprintf("many/%d", i), fmt.Sprint(i))
	}
	base := lower.scan()
	l := overlayOf(t, lower, ",redirect_dir=off")
	sameTree(t, l.scan(), base)
	if !TrustworthyCtime(l.root) {
		t.Error("ctime of overlayfs without redirect_dir is not trusted")
	}
	before := copyOf(lower)
	since := time.Now().Add(ctimeSlack - 50*time.Millisecond) // else the fresh base is read as well
	editKeepingTime(l)
	l.write("bin/tool2", "broken off its links by the copy up")
	l.remove("a/sub")
	l.write("a/sub/new", "a directory in place of one")
	l.remove("many")
	l.write("many", "file")
	run(t, exec.Command("mv", l.path("a"), l.path("renamed")))
	must(t, unix.Mkfifo(l.path("fifo"), 0o600))
	l.dir("mnt")
	must(t, unix.Mount("tmpfs", l.path("mnt"), "tmpfs", 0, ""))
	l.write("mnt/not-ours", "x")

	var quick, full bytes.Buffer
	must(t, Delta(t.Context(), l.root, base, DeltaOptions{Since: since, TrustCtime: true}, &quick))
	must(t, Delta(t.Context(), l.root, base, DeltaOptions{}, &full))
	must(t, unix.Unmount(l.path("mnt"), 0))
	must(t, os.Remove(l.path("mnt")))
	if !bytes.Equal(quick.Bytes(), full.Bytes()) {
		wantLines(t, listTar(t, quick.Bytes()), listTar(t, full.Bytes())...)
		t.Error("trusting ctime changed the delta")
	}
	before.apply(full.Bytes())
	sameTree(t, before.scan(), l.scan())
}

// With redirect_dir a directory comes to another path with all its old times.
func TestOverlayRedirect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	l := overlayOf(t, baseTree(t), ",redirect_dir=on")
	if TrustworthyCtime(l.root) {
		t.Error("ctime of overlayfs with redirect_dir is trusted")
	}
	if TrustworthyCtime(t.TempDir()) {
		t.Error("ctime of a plain file system is trusted")
	}
}
