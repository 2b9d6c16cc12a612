package sandbox

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// given are the capabilities of commands: what engines give, less SYS_CHROOT,
// with which root can leave a chroot.
var given = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE",
	"NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP",
}

// withheld is not given to commands of a private network unless it is added:
// with packets of their own making they would get around closedOff.
const withheld = "NET_RAW"

// rights are the capabilities of this machine's commands, as bits.
func (o Options) rights() uint64 {
	var bits uint64
	has := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(c string) bool { return capabilityName(c) == name || capabilityName(c) == "ALL" })
	}
	for i, name := range capabilities {
		usual := slices.Contains(given, name) && (name != withheld || o.Network != PrivateNetwork)
		if usual && !has(o.CapDrop, name) || has(o.CapAdd, name) {
			bits |= 1 << i
		}
	}
	return bits
}

// confine takes from this thread, and what it starts, the rights that commands
// do not have.
func (o Options) confine() error {
	if o.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	if !o.TrustedSyscall {
		err := o.filter()
		if errors.Is(err, unix.EACCES) && o.Isolation == Chroot {
			err = nil // takes CAP_SYS_ADMIN, which such places do not give; their own filter holds
		}
		if err != nil {
			return fmt.Errorf("system call filter: %w", err)
		}
	}
	rights := o.rights()
	for i := range capabilities {
		if rights&(1<<i) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0); err != nil && err != unix.EINVAL { // of a newer kernel
				return fmt.Errorf("dropping %s: %w", capabilities[i], err)
			}
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	var data [2]unix.CapUserData
	for i := range data {
		bits := uint32(rights>>(32*i)) & had[i].Permitted
		// Inheritable stays empty, as engines have it.
		data[i] = unix.CapUserData{Effective: bits, Permitted: bits}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// refused are system calls that no step of a bake needs and that reach beyond
// it. Engines refuse them too; those that a capability guards are here for the
// case that it was added.
var refused = []string{
	"acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "delete_module", "finit_module", "get_mempolicy",
	"init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mbind",
	"migrate_pages", "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "perf_event_open", "pivot_root",
	"process_vm_readv", "process_vm_writev", "quotactl", "reboot", "request_key", "set_mempolicy", "settimeofday",
	"swapon", "swapoff", "syslog", "sysfs", "userfaultfd", "ustat", "vm86", "vm86old",
	"io_uring_setup", "io_uring_enter", "io_uring_register", // makes sockets that this filter does not see
	"mount", "umount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr", "setns", "unshare",
}
