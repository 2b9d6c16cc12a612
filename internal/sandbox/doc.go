// Package sandbox runs commands in a root file system of its own, without any
// daemon. The strongest isolation that the machine allows is used:
//
//   - namespaces: mount, pid, ipc and uts namespaces, and a user namespace for
//     an ordinary user with subordinate ids; the tree is an overlay of layers
//     unpacked once, and its upper directory is what changed.
//   - chroot: for places that refuse mounts and namespaces. Every machine gets
//     a copy of the tree; there is no /proc in it.
//
// The work is done by this program itself, started anew as the first process
// of the machine (see Main). It ends with the connection to the process that
// started it, and with it everything in the machine: a killed imgbake leaves
// nothing but folders, which the next Open removes.
package sandbox

import (
	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// The isolations.
const (
	Namespaces = "namespaces"
	Chroot     = "chroot"
)

// The networks.
const (
	HostNetwork    = "host"    // this machine's own
	NoNetwork      = "none"    // a loopback and nothing else
	PrivateNetwork = "private" // its own, with a way out: see CanNetwork
)

// Layer is one layer of a tree, lowest first.
type Layer struct {
	Digest string // of the bytes that Open gives; the caller vouches for it
	DiffID string // of the plain tar, as sha256:…; checked when the layer is unpacked
	Open   layer.Opener
}

// Options say how a machine is isolated and what it sees.
type Options struct {
	Isolation      string   // Namespaces or Chroot; empty: the strongest there is
	Network        string   // HostNetwork (also when empty), NoNetwork or PrivateNetwork
	Hostname       string   // empty: imgbake
	Env            []string // of every command
	Dir            string   // where commands run that name no folder
	AddHosts       []string // name:address
	ShmSize        int64    // bytes; 0 means 64 MiB
	Limits         Limits
	Tmpfs          []string // paths, optionally with :options as for mount
	Shared         string   // a folder of this machine that Mounts may show parts of
	CapAdd         []string // CAP_NET_ADMIN or NET_ADMIN
	CapDrop        []string
	NoNewPrivs     bool
	TrustedSyscall bool         // no system call filter
	SquashOwners   bool         // as an ordinary user without subordinate ids: one owner for everything
	Notify         func(string) `json:"-"` // takes one-line notes; may be nil
}

// Shown are the paths at which machines show something of their own, in the
// place of what the tree has there.
func Shown() []string {
	return []string{"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", layer.HelperDir}
}

// Limits are what all processes of a machine may use together. Zero is no limit.
type Limits struct {
	Memory int64   // bytes, with swap
	CPUs   float64 // 1.5 is all the time of one processor and half that of another
	PIDs   int64   // processes and threads
}

// Mount is something that a machine sees while a step runs.
type Mount struct {
	Target   string // absolute path inside; made if it is not there, and then removed again
	Shared   string // a folder below Options.Shared, made if it is not there; empty: a new tmpfs
	File     bool   // the target is a file, in memory, with the content given
	Socket   bool   // the target is a socket: see Machine.Listen
	Mode     uint32 // of the file, or of a shared folder that is new
	UID, GID int    // of the same
	ReadOnly bool
	Options  string // of a tmpfs, as for mount: size=1m,mode=0700
}

// ErrUnavailable is what an error wraps when this machine does not allow an
// isolation.
var ErrUnavailable = bake.ErrUnavailable

// defaultShm is the size of /dev/shm, as engines have it.
const defaultShm = 64 << 20
