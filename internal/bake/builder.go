package bake

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Builder makes a machine to provision: a container, a root file system, a
// virtual machine. A Builder is used for one bake.
type Builder interface {
	// Start prepares the source and starts the machine. When it returns an
	// error, or its context is cancelled, nothing is left behind.
	Start(ctx context.Context, job Job) (Machine, error)
}

// Resumer is a Builder of images that can start where an earlier bake of the
// same source and the same steps was: what its steps did need not be done again.
// Source is called first, and then at most one of Start, Resume and Image.
type Resumer interface {
	Builder
	// Source finds what the bake starts from and returns its identity: two
	// sources of one identity have the same content, and the same settings of
	// the builder that a step could notice. No machine is started.
	Source(ctx context.Context, job Job) (id string, err error)
	// Resume is Start on a tree in which the checkpoints were made, lowest
	// first. Steps cannot tell it from the tree of the bake that made them.
	Resume(ctx context.Context, job Job, done []Checkpoint) (Machine, error)
	// Image is what Commit gives after the checkpoints, without a machine.
	Image(ctx context.Context, job Job, done []Checkpoint) (Artifact, error)
}

// ErrUnavailable is what an error wraps when this machine does not allow what a
// builder needs.
var ErrUnavailable = errors.New("not possible here")

// Checkpoint is what a Commit recorded. Its two layers, one after the other, are
// the complete difference to the tree before.
type Checkpoint struct {
	LayerInfo
	Layer   v1.Layer // what is published; nil: nothing
	Rest    v1.Layer // what is not: caches, logs, /tmp and the like; nil: nothing
	Partial bool     // Rest was not kept: nothing can resume here
	Removed []string // what Rest holds, as paths for people
}

// Machine is something changeable that becomes an artifact. The caller calls
// Close exactly once, or Detach. Its methods are not called concurrently with
// each other; its Communicator is safe for concurrent use.
type Machine interface {
	// Communicator reaches into the machine, nil for builders without one.
	Communicator() Communicator
	// Facts are what expressions may read as build.NAME while the machine
	// runs, such as ID.
	Facts() map[string]string
	// Commit records what changed since Start, or since the previous Commit,
	// as one layer, and returns the image so far. A commit without a change
	// adds no layer. It may be called after any step. The image of a Resumer's
	// machine lists its checkpoints, one for each Commit. Builders whose commit
	// is dear say so in their Kind and are committed once, at the end.
	Commit(ctx context.Context, layer LayerInfo) (Artifact, error)
	// Close ends the machine and removes everything made for it. It must
	// work after any error and with no help from a context.
	Close() error
	// Detach leaves the machine running for the user and says, in one line
	// each, what remains and how to reach and remove it.
	Detach() []string
}

// FactEpoch is the fact that tells steps the time of everything a bake makes,
// in seconds since 1970: they get it as SOURCE_DATE_EPOCH.
const FactEpoch = "SourceDateEpoch"

// LayerInfo describes a layer to be committed.
type LayerInfo struct {
	CreatedBy string // for the image's history: the step, readable, without secrets
	Secret    bool   // the step was given secrets: what is not published of it is not kept either
}

// Executor runs a command somewhere.
type Executor interface {
	// Exec runs the command to its end and returns its exit status. An error
	// means that it could not be run or was not seen to end; a status other
	// than 0 is no error. Cancelling the context ends the command, and all it
	// started, inside too.
	Exec(ctx context.Context, cmd Cmd) (status int, err error)
}

// Communicator reaches into a machine. It is safe for concurrent use.
type Communicator interface {
	Executor
	// Put unpacks a tar stream below the directory dst, which is made if it
	// is not there. Owners and modes are those of the tar headers.
	Put(ctx context.Context, dst string, tar io.Reader) error
	// Get packs src, a file or directory, as a tar stream whose first entry
	// is the base name of src. A src that is not there is an error that
	// wraps fs.ErrNotExist. The caller closes the stream.
	Get(ctx context.Context, src string) (io.ReadCloser, error)
}

// Cmd is a command to run. Args are never joined or split: a shell, where one
// is wanted, is Args[0].
type Cmd struct {
	Args   []string
	Env    []string // K=V, added to the machine's own; may hold secrets, so an implementation keeps it out of argv and logs
	Dir    string   // working directory; empty: the machine's default
	User   string   // user[:group]; empty: root
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer // nil discards
	TTY    bool      // allocate a terminal; Stderr is then part of Stdout
}
