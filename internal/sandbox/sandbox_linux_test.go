//go:build engine

package sandbox_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

func TestMain(m *testing.M) {
	if sandbox.Is(os.Args) {
		os.Exit(sandbox.Main())
	}
	if guest.Is(os.Args) {
		os.Exit(guest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// missing skips a test, or fails it where everything must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("IMGBAKE_REQUIRE") == "all" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

// busybox is a layer with the machine's static busybox, or what else there is
// of shells.
func rootfs(t *testing.T) sandbox.Layer {
	file := os.Getenv("IMGBAKE_TEST_ROOTFS")
	if file == "" {
		missing(t, "IMGBAKE_TEST_ROOTFS, a tar of a Debian root file system")
	}
	return identified(t, func() (io.ReadCloser, error) { return os.Open(file) })
}

// identified is a layer with the identity of its content, a plain tar.
func identified(t *testing.T, open layer.Opener) sandbox.Layer {
	t.Helper()
	content, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("sha256:%x", sum.Sum(nil))
	return sandbox.Layer{Digest: id, DiffID: id, Open: open}
}

// A layer that is not what its image says is refused, before others rely on it.
func TestLayerOfAnotherIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		dir := t.TempDir()
		roots, err := sandbox.Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		l := rootfs(t)
		l.DiffID = "sha256:" + strings.Repeat("0", 64)
		if m, err := roots.Start(t.Context(), []sandbox.Layer{l}, sandbox.Options{Isolation: isolation}); err == nil {
			m.Close()
			t.Errorf("%s: was accepted", isolation)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "0", "*", "*")); len(left) > 1 { // the layer's lock
			t.Errorf("%s: left: %v", isolation, left)
		}
	}
}

func start(t *testing.T, o sandbox.Options, more ...sandbox.Layer) *sandbox.Machine {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv("IMGBAKE_TEST_ROOTLESS") == "" {
		missing(t, "root")
	}
	dir := os.Getenv("IMGBAKE_TEST_ROOTS") // shared between tests: unpacked once
	if dir == "" {
		dir = t.TempDir()
	}
	roots, err := sandbox.Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := roots.Start(t.Context(), append([]sandbox.Layer{rootfs(t)}, more...), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func sh(t *testing.T, m *sandbox.Machine, script string) string {
	t.Helper()
	var out bytes.Buffer
	status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-ec", script}, Dir: "/", Stdout: &out, Stderr: &out})
	if err != nil || status != 0 {
		t.Fatalf("%s: status %d, %v\n%s", script, status, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func TestCommunicator(t *testing.T) {
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		t.Run(isolation, func(t *testing.T) {
			baketest.CommunicatorSuite(t, baketest.CommunicatorOptions{New: func(t *testing.T) bake.Communicator {
				return start(t, sandbox.Options{Isolation: isolation})
			}})
		})
	}
}

// Nothing of this machine is seen inside.
func TestNothingLeaksIn(t *testing.T) {
	t.Setenv("IMGBAKE_CANARY", "canary-of-the-host")
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		t.Run(isolation, func(t *testing.T) {
			m := start(t, sandbox.Options{Isolation: isolation, Env: []string{"LANG=C"}})
			if got, want := sh(t, m, "unset PWD SHLVL OLDPWD _; env -u _ -u PWD -u SHLVL -u OLDPWD | sort"), "HOME=/root\nHOSTNAME=imgbake\nLANG=C\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; got != want {
				t.Errorf("environment: %s", got)
			}
			if isolation == sandbox.Namespaces {
				if got := sh(t, m, "ls /proc/self/fd | wc -l"); got != "4" { // 0, 1, 2 and ls's own
					t.Errorf("%s descriptors: %s", got, sh(t, m, "ls -l /proc/self/fd"))
				}
				if got := sh(t, m, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"); strings.Contains(got, "go-build") && strings.Contains(got, "-test.") {
					t.Errorf("processes: %s", got)
				}
				if got := sh(t, m, "cat /proc/1/environ | tr '\\0' ' '; ls -l /proc/1/root 2>&1 || true"); strings.Contains(got, "canary") {
					t.Errorf("process 1: %s", got)
				}
			}
		})
	}
}

// Rights that would lead out are refused.
func TestConfined(t *testing.T) {
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		t.Run(isolation, func(t *testing.T) {
			m := start(t, sandbox.Options{Isolation: isolation})
			for _, script := range []string{
				"mount -t tmpfs x /mnt", "unshare -m true", "chroot / true", "mknod /x b 8 0 && cat /x",
				"perl -e 'chroot(q(/tmp)) or die $!'", "perl -e 'syscall(165, 0,0,0,0,0) and die $!'", "sysctl -w kernel.hostname=x", "echo 1 > /proc/sys/kernel/panic",
			} {
				status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", script}, Dir: "/"})
				if err == nil && status == 0 {
					t.Errorf("%s: was allowed", script)
				}
			}
			sh(t, m, "chown 1:1 /etc/issue; chmod u+s /etc/issue; useradd -m joe; su joe -c id")
		})
	}
}

// A difference is the same whatever the isolation.
func TestDelta(t *testing.T) {
	const work = `echo new > /new; rm /etc/issue.net; mkdir -p /srv/a/b; ln /new /srv/a/b/link; ln -s ../x /srv/s; useradd -m joe; touch /tmp/t /run/r
		mv /usr/share/doc /usr/share/dok; printf x >> /etc/issue; chmod 700 /home; setcap cap_net_raw+ep /new 2>/dev/null || true; mkfifo /fifo; rm -rf /media; mkdir /media`
	var want []byte
	var first string
	index, err := layer.IndexOf(t.Context(), rootfs(t).Open)
	if err != nil {
		t.Fatal(err)
	}
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		m := start(t, sandbox.Options{Isolation: isolation})
		sh(t, m, work)
		var delta, published bytes.Buffer
		if err := m.Delta(t.Context(), index, &delta); err != nil {
			t.Fatal(err)
		}
		tree := layer.NewTree(index)
		if _, err := tree.Publish(t.Context(), &delta, layer.Policy{}, &published); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, first = published.Bytes(), isolation
		} else if !bytes.Equal(want, published.Bytes()) {
			t.Errorf("%s and %s differ:\n%s\n%s", first, isolation, list(want), list(published.Bytes()))
		}
		if !strings.Contains(list(published.Bytes()), "srv/a/b/link") {
			t.Errorf("%s: %s", isolation, list(published.Bytes()))
		}
	}
}

func list(data []byte) string {
	cmd := exec.Command("tar", "tv", "--full-time")
	cmd.Stdin = bytes.NewReader(data)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// A layer that does not name its parents keeps their modes, and one that
// deletes deletes.
func TestLayersOnLayers(t *testing.T) {
	top := identified(t, func() (io.ReadCloser, error) {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for _, h := range []*tar.Header{
			{Name: "root/x", Typeflag: tar.TypeReg, Mode: 0o600}, {Name: "tmp/x", Typeflag: tar.TypeReg, Mode: 0o600}, {Name: "etc/.wh.issue", Typeflag: tar.TypeReg},
		} {
			if err := tw.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
		}
		tw.Close()
		return io.NopCloser(&buf), nil
	})
	for _, isolation := range []string{sandbox.Namespaces, sandbox.Chroot} {
		m := start(t, sandbox.Options{Isolation: isolation}, top)
		if got := sh(t, m, "stat -c %a /root /tmp; test ! -e /etc/issue; ls /root"); got != "700\n1777\nx" {
			t.Errorf("%s: %q", isolation, got)
		}
	}
}

// A command's children end with it when it is cancelled, and the machine works on.
func TestCancel(t *testing.T) {
	m := start(t, sandbox.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		buf := make([]byte, 8)
		_, _ = r.Read(buf)
		cancel()
		_, _ = io.Copy(io.Discard, r)
	}()
	_, err := m.Exec(ctx, bake.Cmd{Args: []string{"/bin/sh", "-c", "(sleep 1000 &) ; echo on; sleep 1000"}, Dir: "/", Stdout: w})
	if err == nil {
		t.Error("no error")
	}
	if got := sh(t, m, "grep -l sleep /proc/[0-9]*/comm || true"); got != "" {
		t.Errorf("left: %s", got)
	}
}
