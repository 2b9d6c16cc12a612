package bake

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// Provisioner changes a machine. It reaches nothing but what Env gives it.
type Provisioner interface {
	// Provision carries the step out. A command that exits with a status
	// that is not accepted yields an *ExitError.
	Provision(ctx context.Context, env Env) error
}

// Env is everything a provisioner may touch.
type Env struct {
	Communicator Communicator // nil with a builder that has none
	Job          Job
	Vars         []string // K=V for every command: PACKER_BUILD_NAME, proxies, SOURCE_DATE_EPOCH, the step's env
	Files        fs.FS    // the template's folder; symbolic links cannot lead out of it
	Host         Executor // runs on the host with an allowlisted environment; nil where not allowed
	HostDir      string   // the template's folder on the host, for Host
	Ask          Asker    // nil where nobody answers
	Image        ImageReader
	Stdout       io.Writer // what commands print, already redacted and cut into lines
	Stderr       io.Writer
	Sink         Sink // for notes of the provisioner's own
}

// Asker puts a question to a person and returns the answer, one of the
// choices when there are any.
type Asker interface {
	Ask(ctx context.Context, question string, choices ...string) (string, error)
}

// ImageReader reads files out of container images.
type ImageReader interface {
	// Files streams path, a file or directory, of the image as tar; entry
	// names are relative to the parent of path, as Communicator.Get gives
	// them. ref is an image of the template or any reference.
	Files(ctx context.Context, ref, path string) (io.ReadCloser, error)
	// Digest is that of the image's manifest at the moment.
	Digest(ctx context.Context, ref string) (string, error)
}

// ExitError says that a command ended with a status that is not accepted.
type ExitError struct {
	Command string // as shown to the user; without secrets
	Status  int
}

// Error names the command and its status.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit status %d", e.Command, e.Status)
}
