package baketest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Builder is a fake whose machines run nothing, or what Communicator runs.
// Commit makes an image with one layer for what was asked since the last one,
// so the same steps give the same digest. The zero value is ready.
type Builder struct {
	// Communicator reaches into the machine; nil: a Recorder, see Recorder.
	Communicator bake.Communicator
	// The errors to give at each stage. StartError leaves no machine.
	StartError, ExecError, PutError, CommitError, CloseError error
	// OnStart and OnCommit, if set, run first; they may block until ctx ends.
	OnStart  func(ctx context.Context, job bake.Job) error
	OnCommit func(ctx context.Context, layer bake.LayerInfo) error
	// Recorder is used when Communicator is nil.
	Recorder Recorder

	mu       sync.Mutex
	machines []*Machine
}

// Start makes a Machine.
func (b *Builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	if b.OnStart != nil {
		if err := b.OnStart(ctx, job); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.StartError != nil {
		return nil, b.StartError
	}
	inner := b.Communicator
	if inner == nil {
		inner = &b.Recorder
	}
	m := &Machine{builder: b, Job: job, communicator: &hashing{inner: inner, builder: b}, image: empty.Image}
	if job.From != nil && job.From.Image != nil {
		m.image = job.From.Image
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.machines = append(b.machines, m)
	return m, nil
}

// Machines returns every machine started.
func (b *Builder) Machines() []*Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*Machine(nil), b.machines...)
}

// Open counts the machines that are neither closed nor detached.
func (b *Builder) Open() int {
	n := 0
	for _, m := range b.Machines() {
		if m.Closed == 0 && !m.Detached {
			n++
		}
	}
	return n
}

// Machine is a Builder's fake machine.
type Machine struct {
	Job      bake.Job
	Layers   []bake.LayerInfo // of every Commit, also those without a change
	Closed   int              // how often Close was called
	Detached bool

	builder      *Builder
	communicator *hashing
	image        v1.Image
}

// Communicator reaches into the machine.
func (m *Machine) Communicator() bake.Communicator { return m.communicator }

// Facts are an ID and what the job's name is.
func (m *Machine) Facts() map[string]string { return map[string]string{"ID": "fake-" + m.Job.Name} }

// Commit adds a layer if anything was asked of the communicator.
func (m *Machine) Commit(ctx context.Context, layer bake.LayerInfo) (bake.Artifact, error) {
	if m.builder.OnCommit != nil {
		if err := m.builder.OnCommit(ctx, layer); err != nil {
			return bake.Artifact{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return bake.Artifact{}, err
	}
	if m.builder.CommitError != nil {
		return bake.Artifact{}, m.builder.CommitError
	}
	m.Layers = append(m.Layers, layer)
	if change := m.communicator.take(); change != nil {
		image, err := mutate.Append(m.image, mutate.Addendum{
			Layer:   static.NewLayer(change, types.OCIUncompressedLayer),
			History: v1.History{CreatedBy: layer.CreatedBy},
		})
		if err != nil {
			return bake.Artifact{}, err
		}
		m.image = image
	}
	digest, err := m.image.Digest()
	if err != nil {
		return bake.Artifact{}, err
	}
	size, err := m.image.Size()
	return bake.Artifact{Builder: m.Job.Type, MediaType: types.DockerManifestSchema2, Digest: digest, Size: size, Image: m.image}, err
}

// Close counts.
func (m *Machine) Close() error {
	m.Closed++
	return m.builder.CloseError
}

// Detach says that the machine remains.
func (m *Machine) Detach() []string {
	m.Detached = true
	return []string{"machine " + m.Job.Name + " remains"}
}

// hashing passes calls on and remembers that, and what, something was asked.
type hashing struct {
	inner   bake.Communicator
	builder *Builder

	mu     sync.Mutex
	change []byte
}

func (h *hashing) note(format string, args ...any) {
	sum := sha256.Sum256(fmt.Appendf(nil, format, args...))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change = append(h.change, sum[:]...)
}

func (h *hashing) take() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	change := h.change
	h.change = nil
	return change
}

func (h *hashing) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if h.builder.ExecError != nil {
		return 0, h.builder.ExecError
	}
	h.note("exec %q %q %q", cmd.Args, cmd.Dir, cmd.User)
	if cmd.Stdin != nil {
		digest := sha256.New()
		cmd.Stdin = io.TeeReader(cmd.Stdin, digest)
		defer func() { h.note("stdin %x", digest.Sum(nil)) }()
	}
	return h.inner.Exec(ctx, cmd)
}

func (h *hashing) Put(ctx context.Context, dst string, tar io.Reader) error {
	if h.builder.PutError != nil {
		return h.builder.PutError
	}
	digest := sha256.New()
	err := h.inner.Put(ctx, dst, io.TeeReader(tar, digest))
	h.note("put %q %x", dst, digest.Sum(nil))
	return err
}

func (h *hashing) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	return h.inner.Get(ctx, src)
}
