//go:build engine

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A daemon is a Docker Engine of the test's own, to be killed and started
// again. Its bridge leads nowhere. It has one because an engine told to have
// none deletes docker0, which may be another engine's.
type daemon struct {
	dir    string
	bridge string
	socket string
	flags  []string // of dockerd, besides the usual
	log    *os.File
	cmd    *exec.Cmd
	ended  chan struct{}
}

// startDaemon starts an engine whose state is in dir and stops it at the end.
func startDaemon(t *testing.T, dir string, flags ...string) *daemon {
	t.Helper()
	needTools(t, "dockerd", "ip")
	if os.Geteuid() != 0 {
		missing(t, "a Docker Engine of its own takes root")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir, bridge: newBridge(t), socket: filepath.Join(dir, "docker.sock"), flags: flags, log: file}
	t.Cleanup(func() { d.stop(t) })
	d.start(t)
	return d
}

// newBridge makes a network bridge that is deleted at the end of the test.
func newBridge(t *testing.T) string {
	t.Helper()
	n := bridges.Add(1)
	name := fmt.Sprintf("ibt%d-%d", os.Getpid()%100000, n)
	run := func(args ...string) {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("link", "add", "name", name, "type", "bridge")
	t.Cleanup(func() { exec.Command("ip", "link", "del", name).Run() })
	run("addr", "add", fmt.Sprintf("10.213.%d.1/24", n), "dev", name)
	run("link", "set", name, "up")
	return name
}

var bridges atomic.Int32

func (d *daemon) host() string { return "unix://" + d.socket }

func (d *daemon) start(t *testing.T) {
	t.Helper()
	// Its containerd dies with a killed dockerd, but stays a zombie where
	// process 1 reaps nobody, and would be taken for a living one.
	os.Remove(filepath.Join(d.dir, "exec/containerd/containerd.pid"))
	d.cmd = exec.Command("dockerd", append([]string{"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "pid"), "--host", d.host(),
		"--bridge", d.bridge, "--iptables=false", "--log-level=error", "--max-download-attempts=1"}, d.flags...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the test, which stops it
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	d.ended = ended
	cmd := d.cmd
	go func() { cmd.Wait(); close(ended) }()
	eventually(t, time.Minute, "dockerd answers", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(d.log.Name())
			t.Fatalf("dockerd ended:\n%s", text)
		default:
		}
		return ping(t.Context(), d.host()) == nil
	})
}

// kill ends the daemon and waits for that.
func (d *daemon) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	d.cmd.Process.Signal(sig)
	select {
	case <-d.ended:
	case <-time.After(30 * time.Second):
		t.Errorf("dockerd did not end after %v", sig)
		d.cmd.Process.Kill()
		<-d.ended
	}
}

// stop ends the daemon, what it has left running, and its mounts.
func (d *daemon) stop(t *testing.T) {
	d.kill(t, syscall.SIGTERM)
	for _, p := range processes("cmdline", d.dir+"/") {
		p.Kill()
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], d.dir+"/") {
			syscall.Unmount(fields[4], syscall.MNT_DETACH)
		}
	}
	d.log.Close()
}

// processes are the others that have a text in a file of their /proc folder.
func processes(file, text string) (found []*os.Process) {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		data, err := os.ReadFile(filepath.Join(folder, file))
		pid, _ := strconv.Atoi(filepath.Base(folder))
		if err != nil || pid == os.Getpid() || !bytes.Contains(data, []byte(text)) {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// labelled lists what imgbake made in the engine and did not take away: of the
// given bakes, or all.
func labelled(t *testing.T, host string, bakes ...string) (left []string) {
	t.Helper()
	mine := func(labels map[string]string) bool {
		owner, made := labels["dev.imgbake.owner"]
		return made && owner != "" && (len(bakes) == 0 || slices.Contains(bakes, labels["dev.imgbake.bake"]))
	}
	type object struct {
		ID     string `json:"Id"`
		Name   string
		Names  []string
		Labels map[string]string
	}
	var containers, networks, images []object
	var volumes struct{ Volumes []object }
	for path, out := range map[string]any{
		"/containers/json?all=1": &containers, "/networks": &networks, "/images/json?all=1": &images, "/volumes": &volumes,
	} {
		if err := api(t.Context(), host, http.MethodGet, path, nil, out); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range slices.Concat(containers, networks, images, volumes.Volumes) {
		if mine(o.Labels) {
			left = append(left, fmt.Sprint(o.Name, o.Names, o.ID))
		}
	}
	return left
}

// inFront puts a proxy in front of an engine and returns it with its
// DOCKER_HOST.
func (d *daemon) inFront(t *testing.T) (*proxy, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return newProxy(t, listener, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}), "unix://" + socket
}
