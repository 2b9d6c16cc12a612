package sandbox

import (
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
