//go:build engine && linux

package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// netRaw3 is netRaw for the root of a user namespace, user 1000.
const netRaw3 = "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00"

// odd makes a tree of all that is hard to carry in a tar.
func odd(l *liveTree) {
	l.write("plain", "plain")
	l.write("usr/bin/su", "su")
	must(l.t, os.Chown(l.path("usr/bin/su"), 0, 42))
	l.chmod("usr/bin/su", 0o6755)
	l.write("usr/bin/ping", "ping")
	l.xattr("usr/bin/ping", "security.capability", netRaw)
	l.write("usr/bin/ping3", "ping")
	l.xattr("usr/bin/ping3", "security.capability", netRaw3)
	l.dir("srv/shared")
	must(l.t, os.Chown(l.path("srv/shared"), 4_000_000_000, 44))
	l.chmod("srv/shared", 0o3775)
	l.write("srv/acl", "acl")
	l.xattr("srv/acl", "system.posix_acl_access", acl)
	l.dir("srv/default")
	l.write("srv/default/without", "made before the ACL")
	l.xattr("srv/default", "system.posix_acl_default", acl)
	l.write("srv/locked/file", "x")
	l.chmod("srv/locked/file", 0)
	l.chmod("srv/locked", 0)
	l.write("x", "xattrs")
	l.xattr("x", "user.bytes", "\x00=\n\xff")
	l.xattr("x", "user.long", strings.Repeat("long=\n", 500))
	l.xattr("srv", "user.dir", "1")
	l.write("links/a/one", "shared")
	l.dir("links/b")
	l.link("links/a/one", "links/b/two")
	l.link("links/a/one", "zero")
	l.link("usr/bin/ping", "links/ping")
	must(l.t, unix.Mkfifo(l.path("fifo"), 0o640))
	l.chmod("fifo", 0o640)
	must(l.t, unix.Mknod(l.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(l.t, unix.Mknod(l.path("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	l.xattr("null", "system.posix_acl_access", acl)
	l.dir("syms")
	l.dir("hard")
	for _, name := range []string{"new\nline", "\xff\xfe", "-dash", "back\\slash", "e\u0301", "\u00e9", " ", "...", "..x", "a=b", "10 a=b\n", strings.Repeat("n", 255), "ü" + strings.Repeat("n", 100)} {
		l.write("names/"+name, name)
		l.dir("dirs/" + name)
		l.symlink(name, "syms/"+name)
		l.link("names/"+name, "hard/"+name)
	}
	l.symlink(strings.Repeat("long/", 800), "long-target")
	l.symlink("../../../../../../../../etc/passwd", "far")
	l.symlink("/", "root")
	l.write(strings.Repeat(strings.Repeat("d", 100)+"/", 35)+"file", "deep") // 3.5 KB
	l.write("old", "old")
	l.write("future", "future")
	l.sparse("hole", 4<<20, 1<<20, 3<<20)
	l.write("zeros", strings.Repeat("\x00", 100_000))
	l.write("zeros-end", "x"+strings.Repeat("\x00", 10_000))
	l.write("empty", "")
}

// sparse makes a file of a size with a little data at some places.
func (l *liveTree) sparse(p string, size int64, at ...int64) {
	l.t.Helper()
	f, err := os.Create(l.path(p))
	must(l.t, err)
	defer f.Close()
	must(l.t, f.Truncate(size))
	for _, offset := range at {
		_, err := f.WriteAt([]byte("data"), offset)
		must(l.t, err)
	}
}

// oddChanges are what steps may do to it.
var oddChanges = map[string]func(l *liveTree){
	"nothing": func(l *liveTree) {},
	"all replaced by another type": func(l *liveTree) {
		l.remove("links")
		l.write("links", "a file now")
		l.remove("plain")
		l.write("plain/a/b", "a directory now")
		l.remove("fifo")
		l.symlink("plain", "fifo")
		l.remove("null")
		must(l.t, unix.Mkfifo(l.path("null"), 0o600))
		l.remove("names")
		must(l.t, unix.Mknod(l.path("names"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
		l.remove("root")
		l.dir("root")
	},
	"file to directory and back": func(l *liveTree) {
		l.remove("plain")
		l.write("plain/x", "1")
		l.remove("plain")
		l.write("plain", "plain")
	},
	"directory renamed over another": func(l *liveTree) { l.remove("dirs"); l.rename("links", "dirs") },
	"deleted and made again":         func(l *liveTree) { l.remove("srv"); l.write("srv/acl", "no acl"); l.dir("srv/default") },
	"links across directories": func(l *liveTree) {
		l.link("zero", "srv/three")
		l.remove("links/a/one")
		l.link("hard/ ", "links/a/one")
		l.remove("names/ ")
	},
	"links broken": func(l *liveTree) { l.remove("zero"); l.write("zero", "shared"); l.link("zero", "usr/zero") },
	"all deleted":  func(l *liveTree) { l.removeAll() },
	"modes": func(l *liveTree) {
		l.chmod("usr/bin/su", 0o755)
		l.chmod("srv/shared", 0o755)
		l.chmod("srv/locked", 0o111)
	},
	"capability and ACLs and xattrs away": func(l *liveTree) {
		l.noXattrs("usr/bin/ping")
		l.noXattrs("srv")
		l.noXattrs("srv/default")
		l.noXattrs("x")
		l.noXattrs("null")
	},
	"in a directory with an ACL": func(l *liveTree) {
		l.write("srv/default/new", "x")
		l.dir("srv/default/dir")
		must(l.t, unix.Mkfifo(l.path("srv/default/fifo"), 0o600))
	},
	"without the directory's ACL": func(l *liveTree) {
		l.write("srv/new", "x")
		l.dir("srv/dir/x")
		l.chmod("srv/dir/x", 0o750)
		l.rename("srv/new", "srv/default/new")
		l.rename("srv/dir", "srv/default/dir")
	},
	"same size and time": func(l *liveTree) { l.write("a-one", "1"); editTo(l, "plain", "PLAIN") },
	"whiteouts of names": func(l *liveTree) {
		l.remove("names")
		l.dir("names")
		l.remove("dirs/\xff\xfe")
		l.remove("syms/new\nline")
		l.remove("hard/10 a=b\n")
	},
	"hole filled and hole made": func(l *liveTree) { l.sparse("hole", 4<<20, 2<<20); l.sparse("zeros", 100_000) },
	"through and through a symlink": func(l *liveTree) {
		l.remove("far")
		l.write("far/etc/passwd", "x")
		l.remove("usr")
		l.symlink("links", "usr")
	},
}

func (l *liveTree) removeAll() {
	entries, err := os.ReadDir(l.root)
	must(l.t, err)
	for _, e := range entries {
		l.remove(e.Name())
	}
}

func (l *liveTree) noXattrs(p string) {
	l.t.Helper()
	for _, name := range []string{"security.capability", "system.posix_acl_access", "system.posix_acl_default", "user.dir", "user.bytes", "user.long"} {
		if err := unix.Lremovexattr(l.path(p), name); err != nil && err != unix.ENODATA && err != unix.EPERM {
			l.t.Fatal(err)
		}
	}
}

func editTo(l *liveTree, p, content string) {
	info, err := os.Stat(l.path(p))
	must(l.t, err)
	l.write(p, content)
	l.touch(p, info.ModTime())
}

// list tells all there is to know of a tree without this package's help.
func (l *liveTree) list(butXattrs string) []string {
	l.t.Helper()
	var lines []string
	groups := map[uint64]string{}
	must(l.t, filepath.WalkDir(l.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == l.root {
			return err
		}
		var st unix.Stat_t
		must(l.t, unix.Lstat(path, &st))
		rel := strings.TrimPrefix(path, l.root+"/")
		line := fmt.Sprintf("%q %o %d:%d dev %x time %d", rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec)
		if !d.IsDir() {
			if _, ok := groups[st.Ino]; !ok {
				groups[st.Ino] = rel
			}
			line += fmt.Sprintf(" size %d links %d with %q", st.Size, st.Nlink, groups[st.Ino])
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			return push(&lines, line+" to "+to)
		case d.Type().IsRegular():
			f, err := os.Open(path)
			must(l.t, err)
			sum := sha256.New()
			_, err = io.Copy(sum, f)
			f.Close()
			must(l.t, err)
			line += fmt.Sprintf(" %x", sum.Sum(nil)[:8])
		}
		buf := make([]byte, 64<<10)
		n, err := unix.Llistxattr(path, buf)
		must(l.t, err)
		for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
			if name != "" && (butXattrs == "" || !strings.HasPrefix(name, butXattrs)) {
				n, err := unix.Lgetxattr(path, name, buf)
				must(l.t, err)
				line += fmt.Sprintf(" %s=%x", name, sha256.Sum256(buf[:n]))[:30]
			}
		}
		return push(&lines, line)
	}))
	return lines
}

func push(lines *[]string, line string) error {
	*lines = append(*lines, line)
	return nil
}

func sameList(t *testing.T, what string, got, want *liveTree) {
	t.Helper()
	if diff := cmp.Diff(want.list(""), got.list("")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// oddTree is the odd tree with whole seconds.
func oddTree(t *testing.T) *liveTree {
	needRoot(t)
	l := newTree(t)
	odd(l)
	l.touch("old", time.Unix(1, 0))
	l.touch("future", time.Unix(1<<33, 0))
	must(t, Settle(t.Context(), l.root, l.scan(), SettleOptions{}))
	return l
}

const tarXattrs = "--xattrs --xattrs-include=*"

func TestFidelityToGNUTar(t *testing.T) {
	l := oddTree(t)
	empty, err := NewIndex(nil)
	must(t, err)
	delta := l.delta(empty)

	theirs := newTree(t)
	cmd := exec.Command("tar", append(strings.Fields(tarXattrs), "-x", "-p", "--same-owner", "-C", theirs.root)...)
	cmd.Stdin = bytes.NewReader(delta)
	run(t, cmd)
	// GNU tar takes ACLs as text only, which no engine writes or reads.
	if diff := cmp.Diff(l.list("system.posix_acl"), theirs.list("system.posix_acl")); diff != "" {
		t.Errorf("GNU tar of our tar (-want +got):\n%s", diff)
	}

	ours := newTree(t)
	ours.apply(delta)
	sameList(t, "ours of our tar", ours, l)
	var st unix.Stat_t
	must(t, unix.Stat(ours.path("hole"), &st))
	if st.Blocks*512 > 64<<10 {
		t.Errorf("a sparse file takes %d bytes", st.Blocks*512)
	}
}

// GNU tar makes sparse files in four ways.
func TestApplyGNUTar(t *testing.T) {
	l := newTree(t)
	needRoot(t)
	l.sparse("hole", 6<<20, 1<<20, 5<<20)
	l.sparse("many", 8<<20, 1<<20, 2<<20, 3<<20, 4<<20, 5<<20, 6<<20, 7<<20)
	l.sparse("all", 1<<20)
	l.sparse("end", 1<<20, 1<<20-4)
	l.write(strings.Repeat("long", 60)+"/x", "x")
	l.link("hole", "linked")
	must(t, Settle(t.Context(), l.root, l.scan(), SettleOptions{}))
	for _, format := range []string{"--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1", "--format=pax --sparse-version=1.0"} {
		out, err := exec.Command("tar", append(strings.Fields(format), "-S", "-c", "-C", l.root, ".")...).Output()
		must(t, err)
		ours := newTree(t)
		ours.apply(out)
		sameList(t, format, ours, l)
		x, err := IndexOf(t.Context(), opener(out))
		must(t, err)
		sameTree(t, x, l.scan())
	}
}

func TestFidelityOfChanges(t *testing.T) {
	for name, change := range oddChanges {
		t.Run(name, func(t *testing.T) {
			l := oddTree(t)
			tree := NewTree(l.scan())
			empty, err := NewIndex(nil)
			must(t, err)
			first := l.delta(empty)
			before := copyOf(l)
			over := overlayOf(t, l, "")
			change(l)
			layer, rest, _ := checkpoint(t, tree, l.delta(tree.Raw()), Policy{Epoch: time.Unix(4_000_000_000, 0)})
			if r := listTar(t, rest); len(r) > 0 {
				t.Errorf("noise in %q", r)
			}
			must(t, Settle(t.Context(), l.root, tree.Raw(), SettleOptions{}))
			before.apply(layer)
			sameList(t, "applied", before, l)
			over.apply(layer)
			must(t, Settle(t.Context(), over.root, tree.Raw(), SettleOptions{Upper: upperOf(over)}))
			sameTree(t, over.scan(), l.scan())
			umoci(t, l, first, layer)
		})
	}
}

// umoci unpacks layers with umoci.
func umoci(t *testing.T, want *liveTree, layers ...[]byte) {
	t.Helper()
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Log("no umoci here")
		return
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/oci/blobs/sha256", 0o755))
	blob := func(mediaType string, data []byte) map[string]any {
		digest := fmt.Sprintf("%x", sha256.Sum256(data))
		must(t, os.WriteFile(dir+"/oci/blobs/sha256/"+digest, data, 0o644))
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(data)}
	}
	document := func(v any) []byte { data, err := json.Marshal(v); must(t, err); return data }
	var descriptors []any
	var diffIDs []string
	for _, l := range layers {
		d := blob("application/vnd.oci.image.layer.v1.tar", l)
		descriptors, diffIDs = append(descriptors, d), append(diffIDs, d["digest"].(string))
	}
	config := blob("application/vnd.oci.image.config.v1+json", document(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}}))
	manifest := blob("application/vnd.oci.image.manifest.v1+json", document(map[string]any{"schemaVersion": 2, "config": config, "layers": descriptors}))
	manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": "x"}
	must(t, os.WriteFile(dir+"/oci/index.json", document(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}), 0o644))
	must(t, os.WriteFile(dir+"/oci/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	run(t, exec.Command("umoci", "raw", "unpack", "--image", dir+"/oci:x", dir+"/root"))
	sameTree(t, (&liveTree{t, dir + "/root"}).scan(), want.scan())
}

// A file of more than 8 GiB, mostly holes.
func TestHugeSparseFile(t *testing.T) {
	needRoot(t)
	l, c := newTree(t), newTree(t)
	base := l.scan()
	l.sparse("huge", 8<<30+5, 1<<20, 8<<30+1)
	r, w := io.Pipe()
	go func() { w.CloseWithError(Delta(t.Context(), l.root, base, DeltaOptions{}, w)) }()
	root, err := os.OpenRoot(c.root)
	must(t, err)
	defer root.Close()
	must(t, Apply(t.Context(), r, root, ApplyOptions{Layer: true, SameOwner: true}))
	f, err := os.Open(c.path("huge"))
	must(t, err)
	defer f.Close()
	for _, offset := range []int64{1 << 20, 8<<30 + 1} {
		data := make([]byte, 4)
		if _, err := f.ReadAt(data, offset); err != nil || string(data) != "data" {
			t.Errorf("at %d: %q, %v", offset, data, err)
		}
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != 8<<30+5 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes, of which %d are stored", st.Size, st.Blocks*512)
	}
}
