//go:build engine

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// privateNetwork makes a network namespace that stands for another machine: a
// loopback and bridges of its own, and one way out, a veth pair with NAT, so
// that apt works there. It returns the namespace's file.
func privateNetwork(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "a network namespace takes root")
	}
	needTools(t, "ip", "iptables", "nsenter")
	// Names and addresses are this process's own. 198.18.0.0/15 is for tests.
	id := os.Getpid() % (1 << 14)
	name, outside, inside := fmt.Sprintf("imgbake-e2e-%d", id), fmt.Sprintf("ibe%do", id), fmt.Sprintf("ibe%di", id)
	address := func(n int) string { return fmt.Sprintf("198.%d.%d.%d", 18+id>>13, id>>5&255, (id&31)<<3|n) }
	network := address(0) + "/30"

	script(t, "ip netns add "+name, "ip netns delete "+name)
	script(t, "ip link add "+outside+" type veth peer name "+inside+" netns "+name, "ip link delete "+outside)
	for _, line := range []string{
		"ip addr add " + address(1) + "/30 dev " + outside,
		"ip link set " + outside + " up",
		"ip -n " + name + " addr add " + address(2) + "/30 dev " + inside,
		"ip -n " + name + " link set " + inside + " up",
		"ip -n " + name + " link set lo up",
		"ip -n " + name + " route add default via " + address(1),
	} {
		script(t, line, "")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		missing(t, "forwarding: %v", err)
	}
	for _, rule := range [][3]string{
		{"nat", "POSTROUTING", "-s " + network + " -j MASQUERADE"},
		{"filter", "FORWARD", "-i " + outside + " -j ACCEPT"},
		{"filter", "FORWARD", "-o " + outside + " -j ACCEPT"},
	} {
		words := func(action string) string {
			return "iptables -w -t " + rule[0] + " " + action + " " + rule[1] + " " + rule[2]
		}
		script(t, words("-I"), words("-D"))
	}
	return "/run/netns/" + name
}

// script runs one command of words, and another one at the end of the test.
func script(t *testing.T, line, undo string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		missing(t, "%s: %v\n%s", line, err, out)
	}
	if undo == "" {
		return
	}
	t.Cleanup(func() {
		words := strings.Fields(undo)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", undo, err, out)
		}
	})
}

// inNetns calls f on a thread that is in the namespace. What f opens stays
// there. The thread ends with its goroutine.
func inNetns(file string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(file)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func listenIn(t *testing.T, netns, address string) (l net.Listener) {
	t.Helper()
	err := inNetns(netns, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// privateEngine starts a Docker Engine with all its state in a folder of its
// own, inside a network namespace.
func privateEngine(t *testing.T, netns, driver string) (host string) {
	t.Helper()
	needTools(t, "dockerd", "nsenter")
	dir, err := os.MkdirTemp("", "imgbake-") // short: the name of a socket is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmount(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	host = "unix://" + filepath.Join(dir, "docker.sock")
	cmd := exec.Command("nsenter", "--net="+netns, "dockerd", "--storage-driver", driver, "--host", host,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	eventually(t, time.Minute, "the private engine answers", func() bool {
		select {
		case err := <-ended:
			ended <- err
			missing(t, "no private Docker Engine: %v\n%s", err, log.String())
		default:
		}
		return ping(t.Context(), host) == nil
	})
	return host
}

// unmount is for what an engine leaves mounted below its folder.
func unmount(dir string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	var points []string
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			continue
		}
	}
}
