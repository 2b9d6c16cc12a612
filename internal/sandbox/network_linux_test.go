//go:build engine

package sandbox_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// A chroot has this machine's network: what asks for another is refused.
func TestChrootNetwork(t *testing.T) {
	for _, network := range []string{sandbox.NoNetwork, sandbox.PrivateNetwork} {
		roots, err := sandbox.Open(t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		m, err := roots.Start(t.Context(), nil, sandbox.Options{Isolation: sandbox.Chroot, Network: network})
		if err == nil {
			m.Close()
		}
		if !errors.Is(err, sandbox.ErrUnavailable) {
			t.Errorf("%s: got %v", network, err)
		}
	}
}

// Without the program there is no private network, and no other instead.
func TestNoWayOut(t *testing.T) {
	needs(t)
	t.Setenv("PATH", t.TempDir())
	roots, err := sandbox.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := roots.Start(t.Context(), nil, sandbox.Options{Network: sandbox.PrivateNetwork})
	if err == nil {
		m.Close()
	}
	if !errors.Is(err, sandbox.ErrUnavailable) || !strings.Contains(err.Error(), "Debian package slirp4netns") {
		t.Errorf("got %v", err)
	}
}

// lone is a prefix for a command that then runs in a network of its own, with a
// metadata service's address and one that stands for the world outside.
func lone(t *testing.T) []string {
	t.Helper()
	rootfs(t)
	needs(t, "unshare", "ip", "slirp4netns")
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("# local\nnameserver 127.0.0.53\nsearch example\noptions timeout:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The device is everybody's on other machines.
	return []string{"unshare", "-n", "-m", "sh", "-ec", fmt.Sprintf(`
		ip link set lo up
		ip address add 169.254.169.254/32 dev lo
		ip address add 192.0.2.1/32 dev lo
		ip -6 address add fd00:ec2::254/128 dev lo nodad || true
		echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
		mount --bind %[1]s /etc/resolv.conf
		mknod -m 666 %[2]s/tun c 10 200
		mount --bind %[2]s/tun /dev/net/tun
		mkdir %[2]s/shared
		mount -t tmpfs shared %[2]s/shared
		mount --make-shared %[2]s/shared
		mkdir %[2]s/shared/inner
		mount -t tmpfs inner %[2]s/shared/inner
		exec "$@"`, resolv, dir), "sh"}
}

// A private network leads out, and neither to this machine's loopback nor to a
// metadata service. Threat T28.
func TestPrivateNetwork(t *testing.T) {
	run := func(t *testing.T, program, dir string, prefix []string, env ...string) {
		cmd := exec.Command(prefix[0], append(prefix[1:], program, "-test.run=^TestInside$", "-test.v")...)
		cmd.Env = append(os.Environ(), "IMGBAKE_TEST_INSIDE=1", "IMGBAKE_TEST_ROOTS="+filepath.Join(dir, "roots"))
		cmd.Env, cmd.Dir = append(cmd.Env, env...), dir
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestInside")) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	t.Run("root", func(t *testing.T) { run(t, os.Args[0], t.TempDir(), lone(t)) })
	t.Run("user", func(t *testing.T) {
		prefix := lone(t)
		name, home := ordinaryUser(t)
		run(t, filepath.Join(home, "program"), home, append(prefix, "runuser", "-u", name, "--"),
			"IMGBAKE_TEST_ROOTLESS=1", "IMGBAKE_TEST_ROOTFS="+filepath.Join(home, "base.tar"), "HOME="+home, "USER="+name)
	})
}

// TestInside is not a test of its own: TestPrivateNetwork runs it where the
// addresses are.
func TestInside(t *testing.T) {
	if os.Getenv("IMGBAKE_TEST_INSIDE") == "" {
		t.Skip("run by TestPrivateNetwork")
	}
	m := start(t, sandbox.Options{Network: sandbox.PrivateNetwork})
	connections := make(chan string, 100)
	for _, address := range []string{"127.0.0.1:8080", "169.254.169.254:8080", "[fd00:ec2::254]:8080", "192.0.2.1:8080"} {
		accept(t, address, connections)
	}
	packets, err := net.ListenPacket("udp", "0.0.0.0:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	resolve(t, "127.0.0.53:53", [4]byte{192, 0, 2, 1})

	// Plainly, and past the routing table by way of the device: no step has more.
	const bound = `use Socket; $SIG{ALRM} = sub { exit 0 }; alarm 2;
		socket(S, AF_INET, $ARGV[0] eq "udp" ? SOCK_DGRAM : SOCK_STREAM, 0) or die; setsockopt(S, SOL_SOCKET, 25, "tap0\0") or die "bind to device: $!";
		connect(S, sockaddr_in($ARGV[2], inet_aton($ARGV[1]))) and syswrite(S, "bound to $ARGV[1]");`
	out := sh(t, m, `
		for a in 127.0.0.1 169.254.169.254 10.0.2.2 fd00:ec2::254; do
			timeout 2 bash -c "exec 3<>/dev/tcp/$a/8080" 2>/dev/null && echo "reached $a" || true
			bash -c "echo plainly to $a >/dev/udp/$a/8081" 2>/dev/null || true
		done
		for a in 127.0.0.1 169.254.169.254; do perl -e '`+bound+`' tcp $a 8080; perl -e '`+bound+`' udp $a 8081; done
		perl -e 'use Socket; socket(S, 17, SOCK_RAW, 0) and print "makes packets\n"'
		getent hosts outside.test
		timeout 5 bash -c 'exec 3<>/dev/tcp/outside.test/8080; cat <&3'
		bash -c 'echo the last >/dev/udp/192.0.2.1/8081'
		grep -v nameserver /etc/resolv.conf`)
	if want := "192.0.2.1       outside.test\nanswer of 192.0.2.1:8080\nsearch example\noptions timeout:1"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	buf := make([]byte, 100)
	_ = packets.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _, err := packets.ReadFrom(buf); err != nil || string(buf[:n]) != "the last\n" {
		t.Errorf("the first packet is %q, %v", buf[:n], err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !bytes.Contains(mounts, []byte("/shared/inner ")) {
		t.Errorf("a mount of this machine that others share is gone, %v", err)
	}
	close(connections)
	for c := range connections {
		if c != "192.0.2.1:8080" {
			t.Errorf("%s was connected to", c)
		}
	}
}

// accept answers connections, and tells their addresses.
func accept(t *testing.T, address string, to chan<- string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil && strings.HasPrefix(address, "[") {
		t.Logf("no IPv6: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			to <- address
			fmt.Fprintf(conn, "answer of %s\n", address)
			conn.Close()
		}
	}()
}

// resolve is a name server that knows one address, of every name.
func resolve(t *testing.T, address string, answer [4]byte) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1<<12)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			if q.Type == dnsmessage.TypeA {
				header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: answer}}}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
}

// Where a process is killed, the program that carries its traffic ends too.
func TestWayOutOfTheKilled(t *testing.T) {
	cmd := other(t, os.Args[0], t.TempDir(), "echo up; sleep 7654322", lone(t)...)
	cmd.Env = append(cmd.Env, "IMGBAKE_TEST_NETWORK="+sandbox.PrivateNetwork)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for up := false; !up; up = lines.Text() == "up" {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", cmd.Wait())
		}
	}
	network, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !carries(network) {
		t.Error("no program is found that carries the traffic")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); carries(network) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if carries(network) {
		t.Error("the program lives on")
	}
}

// carries tells whether a program for the traffic of others runs in a network.
func carries(network string) bool {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		text, _ := os.ReadFile(name)
		if in, _ := os.Readlink(filepath.Join(filepath.Dir(name), "ns/net")); in == network && string(text) == "slirp4netns\n" {
			return true
		}
	}
	return false
}
