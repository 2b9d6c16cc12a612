package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownNetwork tells whether a machine has a network namespace of its own.
func (o Options) ownNetwork() bool { return o.Network != "" && o.Network != HostNetwork }

// loopbackUp starts the only device of a new network namespace (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// wayOutResolver answers for this machine's name server, wherever that is.
const wayOutResolver = "10.0.2.3"

// closedOff are places that the way out would reach and commands may not: what
// tells a machine who it is and gives it its credentials. There is no way out for
// IPv6, so fd00:ec2::254 needs no entry.
var closedOff = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: of most clouds
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("127.0.0.0/8"),        // this machine's loopback, for sockets that are bound to the way out
}

// wayOut is a running program that carries a network namespace's traffic.
type wayOut struct {
	child
	held *os.File // the program ends when this is closed, by whatever end of this process
}

// openWayOut gives the network namespace of a process a way out, and waits
// until it is there.
func openWayOut(ctx context.Context, pid int) (_ *wayOut, err error) {
	if err := CanNetwork(PrivateNetwork); err != nil {
		return nil, err
	}
	ready, theirReady, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	defer context.AfterFunc(ctx, func() { ready.Close() })()
	theirHeld, held, err := os.Pipe()
	if err != nil {
		theirReady.Close()
		return nil, err
	}
	w := &wayOut{held: held}
	w.cmd = exec.Command(wayOutProgram, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
		"--ready-fd=3", "--exit-fd=4", strconv.Itoa(pid), "tap0")
	w.cmd.Env, w.cmd.Dir, w.cmd.ExtraFiles = []string{}, "/", []*os.File{theirReady, theirHeld}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if os.Geteuid() == 0 { // its sandbox would unmount what this machine shares with it
		w.cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	err = w.run()
	theirReady.Close() // so that the end of the program is seen here
	theirHeld.Close()
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("%w: network %s: %w", ErrUnavailable, PrivateNetwork, err)
	}
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		w.end()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: network %s: %s: %s", ErrUnavailable, PrivateNetwork, wayOutProgram, strings.TrimSpace(w.stderr.String()))
	}
	return w, nil
}

func (w *wayOut) end() {
	w.held.Close()
	_ = w.cmd.Process.Kill()
	<-w.ended
}

// resolvedBy is a resolv.conf(5) with another name server.
func resolvedBy(resolv []byte, server string) []byte {
	out := []byte("nameserver " + server + "\n")
	for line := range bytes.Lines(resolv) {
		if word := bytes.Fields(line); len(word) > 1 && (string(word[0]) == "search" || string(word[0]) == "options" || string(word[0]) == "domain") {
			out = append(append(out, bytes.TrimSpace(line)...), '\n')
		}
	}
	return out
}

// unreachable adds a route that leads nowhere, for this network namespace: who
// connects to an address of it is told so at once (rtnetlink(7)).
func unreachable(prefix netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	address := prefix.Addr().As4()
	destination := append(binary.NativeEndian.AppendUint16(nil, unix.SizeofRtAttr+4), 0, 0)
	binary.NativeEndian.PutUint16(destination[2:], unix.RTA_DST)
	destination = append(destination, address[:]...)
	route := []byte{ // struct rtmsg
		unix.AF_INET, byte(prefix.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNREACHABLE, 0, 0, 0, 0,
	}
	var message []byte // struct nlmsghdr
	message = binary.NativeEndian.AppendUint32(message, uint32(unix.SizeofNlMsghdr+len(route)+len(destination)))
	message = binary.NativeEndian.AppendUint16(message, unix.RTM_NEWROUTE)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	message = append(message, make([]byte, 8)...)
	message = append(append(message, route...), destination...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 1<<12)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	// struct nlmsgerr: a negative errno, or 0
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
