package local

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/communicator"
)

// Communicator treats a directory of this machine as the machine to reach
// into. Paths of Put and Get, and working directories, are taken below it. It
// is no sandbox: commands see the whole file system.
type Communicator struct {
	dir  string
	host Host
	tar  bake.Communicator
}

// NewCommunicator makes a Communicator rooted in dir, an absolute path. env is
// the environment commands inherit from, as in Host.
func NewCommunicator(dir string, env []string) *Communicator {
	host := Host{Dir: dir, Env: env}
	return &Communicator{dir: dir, host: host, tar: communicator.FromExec(host, communicator.Options{})}
}

// Exec runs the command as the user imgbake runs as, whatever cmd.User says.
func (c *Communicator) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	cmd.Dir = c.inside(cmd.Dir)
	cmd.User = ""
	return c.host.Exec(ctx, cmd)
}

// Put unpacks below the directory.
func (c *Communicator) Put(ctx context.Context, dst string, tar io.Reader) error {
	return c.tar.Put(ctx, c.inside(dst), tar)
}

// Get packs from below the directory.
func (c *Communicator) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	return c.tar.Get(ctx, c.inside(src))
}

// inside maps a path of the machine to one of the host. Paths that are below
// the directory already stay: commands use those.
func (c *Communicator) inside(p string) string {
	if p == c.dir || strings.HasPrefix(p, c.dir+"/") {
		return p
	}
	return filepath.Join(c.dir, p)
}
