//go:build engine

package sandbox_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// tarOf is a tar of entries without content.
func tarOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func layerOf(t *testing.T, headers ...tar.Header) sandbox.Layer {
	data := tarOf(t, headers...).Bytes()
	return identified(t, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

// try runs a script that may fail.
func try(t *testing.T, m *sandbox.Machine, script string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", script}, Dir: "/", Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(out.String()), status
}

// The first process has descriptors that commands do not have: no path of the
// tree's choosing may be followed by it.
func TestPutAndGetDoNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "canary"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, sandbox.Options{})
	up := strings.Repeat("/..", 20)
	var places []string
	for fd := range 30 {
		places = append(places, fmt.Sprintf("/proc/self/fd/%d%s%s", fd, up, outside), fmt.Sprintf("/proc/1/fd/%d%s%s", fd, up, outside))
	}
	places = append(places, "/proc/1/root"+up+outside, "/proc/1/cwd"+up+outside, "/proc/self/cwd"+up+outside, "/proc/thread-self/root"+outside)
	for i, to := range places {
		sh(t, m, fmt.Sprintf("ln -sfn %s /out%d", to, i))
		for _, dst := range []string{fmt.Sprintf("/out%d", i), to} {
			_ = m.Put(t.Context(), dst, tarOf(t, tar.Header{Name: "pwned", Typeflag: tar.TypeReg, Mode: 0o755}))
			if _, err := os.Lstat(filepath.Join(outside, "pwned")); err == nil {
				t.Fatalf("put to %s: wrote outside", to)
			}
			if r, err := m.Get(t.Context(), dst+"/canary"); err == nil {
				r.Close()
				t.Fatalf("get from %s: read outside", to)
			}
		}
	}
}

// Links of a hostile image where mount points are lead nowhere but inside.
func TestHostileMountPoints(t *testing.T) {
	for _, name := range []string{"etc", "dev", "proc", "sys", "run", "tmp", ".imgbake", "etc/hosts", "etc/resolv.conf", "dev/null"} {
		for _, way := range []string{"/.imgbake/old", "/proc/self/fd/3/../../../../../../../../../../../../..", "/proc/1/root", "/../../../.."} {
			outside := t.TempDir()
			roots, err := sandbox.Open(t.TempDir(), false)
			if err != nil {
				t.Fatal(err)
			}
			for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
				link := layerOf(t, tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: way + outside + "/x"},
					tar.Header{Name: "there", Typeflag: tar.TypeDir, Mode: 0o755})
				if err := os.MkdirAll(filepath.Join(outside, "x"), 0o755); err != nil {
					t.Fatal(err)
				}
				m, err := roots.Start(t.Context(), []sandbox.Layer{link}, sandbox.Options{Isolation: isolation, Tmpfs: []string{"/tmp/mine"}})
				if err == nil {
					m.Close()
				}
				if got, _ := filepath.Glob(filepath.Join(outside, "x", "*")); len(got) > 0 {
					t.Errorf("%s -> %s, %s: made %v", name, way, isolation, got)
				}
			}
		}
	}
}

// What Put needs does not stay with commands.
func TestUmask(t *testing.T) {
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		m := start(t, sandbox.Options{Isolation: isolation})
		if err := m.Put(t.Context(), "/srv", tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeReg})); err != nil {
			t.Fatal(err)
		}
		if got := sh(t, m, "umask"); got != "0022" {
			t.Errorf("%s: umask %s", isolation, got)
		}
	}
}

// System calls that make namespaces, reach keys or the hypervisor are refused.
func TestSystemCalls(t *testing.T) {
	m := start(t, sandbox.Options{})
	const amd64 = `[ "$(uname -m)" = x86_64 ] || exit 1; perl -e '$r = syscall(%s); exit($r < 0)'`
	for what, call := range map[string]string{
		"clone(CLONE_NEWUSER)": "56, 0x10000011, 0, 0, 0, 0", "unshare(CLONE_NEWUSER)": "272, 0x10000000", "keyctl": "250, 0, 0, 0, 0",
		"socket(AF_VSOCK)": "41, 40, 1, 0", "io_uring_setup": `425, 4, $p = "\0" x 120`, "socket(AF_ALG)": "41, 38, 5, 0", "ptrace of 1": "101, 16, 1, 0, 0", "x32 getpid": "0x40000027",
	} {
		if out, status := try(t, m, fmt.Sprintf(amd64, call)); status == 0 {
			t.Errorf("%s is allowed %s", what, out)
		}
	}
}

// Root may make device nodes, for images have them, but cannot use them: with
// the number of a disk it could read and write that.
func TestNodesAreInert(t *testing.T) {
	shared := t.TempDir()
	if err := os.Mkdir(filepath.Join(shared, "cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user makes no device nodes")
	}
	m := start(t, sandbox.Options{Shared: shared, Tmpfs: []string{"/mnt"}})
	if err := m.Mount(t.Context(), sandbox.Mount{Target: "/cache", Shared: "cache"}, nil); err != nil {
		t.Fatal(err)
	}
	sh(t, m, ": >/dev/null </dev/zero")
	out := sh(t, m, `while read -r _ _ _ _ dir _; do [ -d "$dir" ] && mknod "$dir/node" c 1 3 2>/dev/null || true; done </proc/self/mountinfo
		mknod /tmp/node c 1 3
		while read -r _ _ _ _ dir _; do [ -c "$dir/node" ] || continue; echo "$dir"; if (: <"$dir/node") 2>/dev/null; then echo "OPEN $dir"; fi; done </proc/self/mountinfo
		if (: </tmp/node) 2>/dev/null; then echo OPEN /tmp; fi`)
	if strings.Contains(out, "OPEN") || !strings.Contains(out, "/cache") || !strings.Contains(out, "/.imgbake/upper") {
		t.Errorf("got %s", out)
	}
}

// Of the shared folder a machine sees what is mounted and no more; the content
// of a file is gone with its mount.
func TestSharedIsHidden(t *testing.T) {
	shared := t.TempDir()
	for name, content := range map[string]string{"mine/seen": "mine", "other/hidden": "canary-other"} {
		if err := os.MkdirAll(filepath.Join(shared, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shared, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := start(t, sandbox.Options{Shared: shared})
	if err := m.Mount(t.Context(), sandbox.Mount{Target: "/cache", Shared: "mine"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Mount(t.Context(), sandbox.Mount{Target: "/run/secret", File: true, Mode: 0o400}, strings.NewReader("canary-secret")); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, m, "cat /cache/seen /run/secret"); got != "minecanary-secret" {
		t.Errorf("got %q", got)
	}
	const search = "grep -rlI canary- / --exclude-dir=proc --exclude-dir=sys 2>/dev/null | grep -v '^/run/secret$' || true"
	if got := sh(t, m, search); got != "" {
		t.Errorf("seen: %s", got)
	}
	if err := m.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, m, search+"; ls -d /run/secret /cache 2>/dev/null || true"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// A reader that takes its time gets everything.
func TestSlowReader(t *testing.T) {
	m := start(t, sandbox.Options{})
	var out slowly
	if _, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "head -c 100000 /dev/zero"}, Stdout: &out, Dir: "/"}); err != nil || out.n != 100_000 {
		t.Errorf("%d of 100000 bytes, %v", out.n, err)
	}
}

type slowly struct{ n int }

// Write is slower than the time that output may take after its command.
func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(200 * time.Millisecond) // the slowness is what is tested
	s.n += len(p)
	return len(p), nil
}

// The first process cannot be made to wait for ever.
func TestPasswdThatBlocks(t *testing.T) {
	m := start(t, sandbox.Options{})
	sh(t, m, "rm /etc/passwd; mkfifo /etc/passwd")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := m.Exec(ctx, bake.Cmd{Args: []string{"/bin/true"}, Dir: "/"})
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("hangs, though it was cancelled")
	}
}

// The folder's name may have what separates mount options.
func TestFolderOfAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a,b:c\\d")
	roots, err := sandbox.Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	var chain []sandbox.Layer
	for i := range 3 {
		chain = append(chain, layerOf(t, tar.Header{Name: fmt.Sprint("f", i), Typeflag: tar.TypeReg}))
	}
	m, err := roots.Start(t.Context(), chain, sandbox.Options{Isolation: sandbox.Namespaces})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var openers []layer.Opener
	for _, l := range chain {
		openers = append(openers, l.Open)
	}
	index, err := layer.IndexOf(t.Context(), openers...)
	if err != nil {
		t.Fatal(err)
	}
	var delta, published bytes.Buffer
	if err := m.Delta(t.Context(), index, &delta); err != nil {
		t.Fatal(err)
	}
	if result, err := layer.NewTree(index).Publish(t.Context(), &delta, layer.Policy{}, &published); err != nil || result.Entries > 1 { // /etc is made
		t.Errorf("the tree is another: %+v, %v", result, err)
	}
}

// The first process has all rights; no thread of it is ever open to commands,
// not while it starts one with their rights either.
func TestFirstProcessIsClosed(t *testing.T) {
	m := start(t, sandbox.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen bytes.Buffer
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		const look = `print "up\n"; while (1) { for (glob("/proc/1/task/*/root"), "/proc/1/root") { print "read $_\n" if readlink($_) } }`
		_, _ = m.Exec(ctx, bake.Cmd{Args: []string{"perl", "-e", "$| = 1;" + look}, Dir: "/", Stdout: &first{w: &seen, ch: started}})
	}()
	select {
	case <-started:
	case <-ended:
		t.Fatal("the command ended")
	}
	for range 40 {
		sh(t, m, "true")
	}
	cancel()
	<-ended
	if got := strings.TrimPrefix(seen.String(), "up\n"); got != "" {
		t.Errorf("%.200s", got)
	}
}

// first closes a channel at the first write.
type first struct {
	w  io.Writer
	ch chan struct{}
}

// Write passes on.
func (f *first) Write(p []byte) (int, error) {
	if f.ch != nil {
		close(f.ch)
		f.ch = nil
	}
	return f.w.Write(p)
}
