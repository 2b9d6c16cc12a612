package bake

import (
	"context"
	"io/fs"

	"github.com/imgbake/imgbake-action/internal/secret"
)

// The types of a Mount.
const (
	MountCache  = "cache"  // a folder that outlives the bake, where it is baked
	MountSecret = "secret" // a read-only file
	MountSSH    = "ssh"    // a socket that leads to an agent of this machine
	MountTmpfs  = "tmpfs"  // a folder in memory
)

// Mount is something that a machine shows while a step runs, and that is never
// part of a layer.
type Mount struct {
	Type     string
	Target   string       // absolute path; made if it is not there, and then removed again
	ID       string       // of a cache: equal ids are one folder
	Content  secret.Value // of a secret
	Socket   string       // of ssh: the agent's, on this machine
	UID, GID int
	Mode     fs.FileMode
	Size     int64 // of a tmpfs, in bytes; 0: no limit of its own
}

// Mounter is a Machine that can show mounts.
type Mounter interface {
	// Mount shows the mounts until unmount is called. After an error nothing
	// is shown.
	Mount(ctx context.Context, mounts []Mount) (unmount func() error, err error)
}
