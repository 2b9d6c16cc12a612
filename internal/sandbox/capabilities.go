package sandbox

import (
	"slices"
	"strings"
)

// capabilities are those that Linux knows by number, in order (capability.h).
var capabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// capabilityName is NET_ADMIN for cap_net_admin.
func capabilityName(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// KnownCapability reports whether there is a capability of the name, with or
// without CAP_ in front, or ALL.
func KnownCapability(name string) bool {
	name = capabilityName(name)
	return name == "ALL" || slices.Contains(capabilities, name)
}
