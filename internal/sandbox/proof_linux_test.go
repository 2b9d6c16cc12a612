//go:build engine

package sandbox_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// tarLayer is a layer of the headers given.
func tarLayer(t *testing.T, id string, headers ...tar.Header) sandbox.Layer {
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
	l := identified(t, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	l.Digest += id // of its own
	return l
}

// A base in which the places of mounts and of our files lead elsewhere reaches
// nothing of this machine: the start works inside, or is refused. Threats T14
// and T15.
func TestHostileBase(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	outside := t.TempDir()
	file := filepath.Join(outside, "file")
	if err := os.WriteFile(file, []byte("untouched"), 0o640); err != nil {
		t.Fatal(err)
	}
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	roots, err := sandbox.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	for _, name := range []string{"proc", "sys", "dev", "dev/null", "dev/shm", "etc", "etc/resolv.conf", "etc/hosts", ".imgbake", ".imgbake/helper", ".imgbake/run", ".imgbake/files", "tmp"} {
		for _, target := range []string{outside, up + outside[1:], file, up + file[1:], "/proc/1/root" + outside, "nowhere", filepath.Base(name)} {
			for _, isolation := range isolations {
				bad := tarLayer(t, name+" to "+target, tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target})
				m, err := roots.Start(t.Context(), []sandbox.Layer{bad}, sandbox.Options{Isolation: isolation})
				if err == nil {
					_ = m.Mount(t.Context(), sandbox.Mount{Target: "/" + name + "/x", File: true, Mode: 0o400}, strings.NewReader(canary))
					_ = m.Unmount(t.Context())
					if err := m.Close(); err != nil {
						t.Errorf("%s, %s to %s: close: %v", isolation, name, target, err)
					}
				}
				entries, _ := os.ReadDir(outside)
				text, _ := os.ReadFile(file)
				info, err := os.Stat(file)
				if len(entries) != 1 || string(text) != "untouched" || err != nil || info.Mode() != 0o640 {
					t.Fatalf("%s, %s to %s: reached this machine: %v %q %v", isolation, name, target, entries, text, err)
				}
			}
		}
	}
	if now, _ := os.ReadFile("/etc/resolv.conf"); !bytes.Equal(now, resolv) {
		t.Error("/etc/resolv.conf of this machine was changed")
	}
}

// An image may have more layers than fit into one page of mount options.
func TestManyLayers(t *testing.T) {
	var chain []sandbox.Layer
	for i := range 549 { // and the base: more than overlayfs takes
		chain = append(chain, tarLayer(t, fmt.Sprint("many-", i), tar.Header{Name: fmt.Sprint("mnt/", i), Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	m := start(t, sandbox.Options{Isolation: sandbox.Namespaces}, chain...)
	if got := sh(t, m, "ls /mnt | wc -l"); got != "549" {
		t.Errorf("%s of 549 layers are seen", got)
	}
}

// asOther is what a test does in another process of this program.
const asOther = "IMGBAKE_TEST_OTHER"

func other(t *testing.T, program string, dir, script string, prefix ...string) *exec.Cmd {
	t.Helper()
	args := append(slices.Clone(prefix), program, "-test.run=^TestOther$", "-test.v")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), asOther+"="+script, "IMGBAKE_TEST_ROOTS="+dir)
	return cmd
}

// TestOther is not a test of its own: others run it as another process.
func TestOther(t *testing.T) {
	script := os.Getenv(asOther)
	if script == "" {
		t.Skip("run by other tests")
	}
	roots, err := sandbox.Open(os.Getenv("IMGBAKE_TEST_ROOTS"), os.Getenv("IMGBAKE_TEST_SQUASH") != "")
	if err != nil {
		t.Fatal(err)
	}
	base := rootfs(t)
	open := base.Open
	base.Open = func() (io.ReadCloser, error) { fmt.Println("unpacking"); return open() }
	m, err := roots.Start(t.Context(), []sandbox.Layer{base}, sandbox.Options{
		Isolation: sandbox.Namespaces, Network: os.Getenv("IMGBAKE_TEST_NETWORK"), Limits: sandbox.Limits{PIDs: int64(len(os.Getenv("IMGBAKE_TEST_PIDS")))},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-ec", script}, Dir: "/", Stdout: os.Stdout, Stderr: os.Stdout})
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v", status, err)
	}
}

// Processes that start on one base at the same time unpack it once.
func TestOneUnpacks(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	dir := t.TempDir()
	var outputs [4]bytes.Buffer
	var running []*exec.Cmd
	for i := range outputs {
		cmd := other(t, os.Args[0], dir, "echo up")
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	unpacked := 0
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, outputs[i].String())
		}
		unpacked += strings.Count(outputs[i].String(), "unpacking")
	}
	if unpacked != 1 {
		t.Errorf("unpacked %d times", unpacked)
	}
}

// A process that is killed at any point leaves folders only, which the next
// Open removes.
func TestKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	dir := t.TempDir()
	for _, after := range []time.Duration{20, 60, 150, 400, 900, 2500, 6000} {
		cmd := other(t, os.Args[0], dir, "(setsid sleep 7654321 &); sleep 7654321")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond) // the point is where it is by then, whatever that is
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for deadline := time.Now().Add(5 * time.Second); running(t, "7654321") && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		if running(t, "7654321") {
			t.Fatalf("killed after %d ms: its commands live on", after)
		}
		// The first process ends with its connection: then its lock is free.
		var left []string
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if _, err := sandbox.Open(dir, false); err != nil {
				t.Fatal(err)
			}
			if left, _ = filepath.Glob(filepath.Join(dir, "*", "work", "*")); len(left) == 0 {
				break
			}
		}
		if len(left) > 0 {
			t.Fatalf("killed after %d ms: left %q", after, left)
		}
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(dir)) {
			t.Fatalf("killed after %d ms: left a mount", after)
		}
	}
}

// running tells whether a process has the word among its arguments.
func running(t *testing.T, word string) bool {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(files, func(file string) bool {
		text, _ := os.ReadFile(file)
		return bytes.HasPrefix(text, []byte("sleep\x00"+word))
	})
}

// needs skips a test where a program is missing, or this is not root.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, program)
		}
	}
}

// ordinaryUser makes a user, for as long as the test runs, and a folder of its
// own with this program and the base.
func ordinaryUser(t *testing.T) (name, home string) {
	t.Helper()
	needs(t, "useradd", "runuser", "newuidmap")
	name = "imgbake-test-user"
	if out, err := exec.Command("useradd", "-m", name).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("userdel", "-r", name).Run() })
	home, err := os.MkdirTemp("/var/tmp", "imgbake-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	for from, to := range map[string]string{os.Args[0]: "program", os.Getenv("IMGBAKE_TEST_ROOTFS"): "base.tar"} {
		if out, err := exec.Command("cp", from, filepath.Join(home, to)).CombinedOutput(); err != nil {
			missing(t, "IMGBAKE_TEST_ROOTFS: "+string(out))
		}
	}
	if out, err := exec.Command("chown", "-R", name, home).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name, home
}

// An ordinary user bakes with subordinate ids, and with one owner for all.
func TestOrdinaryUser(t *testing.T) {
	name, home := ordinaryUser(t)
	for _, c := range []struct{ name, squash, script, want string }{
		{"subordinate", "", "ls /sys/fs/cgroup; useradd -m joe; chown 33:34 /srv; stat -c '%u:%g' /srv /etc/shadow; su joe -c 'id -un'; touch /etc/x", "unpacking\n33:34\n0:42\njoe"},
		{"squashed", "1", "id -u; touch /etc/x; stat -c '%u:%g' /etc/x /etc/shadow", "0\n0:0\n0:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := other(t, filepath.Join(home, "program"), filepath.Join(home, "roots"), c.script, "runuser", "-u", name, "--")
			cmd.Env = append(cmd.Env, "IMGBAKE_TEST_ROOTFS="+filepath.Join(home, "base.tar"), "IMGBAKE_TEST_SQUASH="+c.squash, "HOME="+home, "USER="+name)
			cmd.Dir = home
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v:\n%s", err, out)
			}
			if left, _ := filepath.Glob(filepath.Join(home, "roots", "*", "work", "*")); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// Machines come and go: each gets a place of its own on ext4, which is slow
// where much was removed.
func TestMachinesAreSpread(t *testing.T) {
	dir := t.TempDir()
	if _, err := sandbox.Open(dir, false); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("not ext4: %v", err)
	}
	work, err := os.Open(filepath.Join(dir, strconv.Itoa(os.Geteuid()), "work"))
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	if flags, err := unix.IoctlGetUint32(int(work.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&0x20000 == 0 {
		t.Errorf("flags are %#x, %v", flags, err)
	}
}
