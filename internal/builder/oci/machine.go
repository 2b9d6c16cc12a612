package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/store"
)

// machine is a tree that is being baked in: a draft, as long as files are put
// into it and nothing else, or a sandbox.
type machine struct {
	*builder
	job  bake.Job
	base []sandbox.Layer
	tree *layer.Tree // as of the last checkpoint
	done []bake.Checkpoint

	mu        sync.Mutex
	draft     *layer.Draft // nil: there is, or was, a sandbox
	early     *store.Early // the next checkpoint, written while the draft is put into; nil: not begun
	box       *sandbox.Machine
	closed    bool
	unsettled bool  // whether files of the sandbox still have times of their own that a checkpoint changed
	cannotRun error // why no command of the platform runs here; nil: they do
}

// start makes the machine. A sandbox takes as long to start as the base takes to
// read, so they do it beside each other.
func (m *machine) start(ctx context.Context) error {
	var err error
	if m.base, err = m.baseLayers(); err != nil {
		return err
	}
	if m.job.Files {
		if m.indexes.Find(indexKey(m.base)) == nil { // what is read now is not fetched again later
			if err := m.fetch(ctx); err != nil {
				return err
			}
		}
		if err := m.readTree(ctx); err != nil {
			return err
		}
		if m.draft, err = m.newDraft(); err != nil || m.draft != nil {
			return err
		}
		if _, err = m.live(ctx); err != nil {
			err = errors.Join(err, m.Close())
		}
		return err
	}
	if err := m.fetch(ctx); err != nil {
		return err
	}
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	read := make(chan error, 1)
	go func() {
		err := m.readTree(both)
		if err != nil {
			cancel(err) // a bomb is not unpacked to its end
		}
		read <- err
	}()
	if err := m.startBox(both); err != nil {
		cancel(err)
		<-read
		return err
	}
	if err := <-read; err != nil {
		return errors.Join(err, m.Close())
	}
	return nil
}

// startBox starts the sandbox, behind the last checkpoint.
func (m *machine) startBox(ctx context.Context) error {
	m.tellEmulation(os.DirFS("/"))
	roots, err := m.open()
	if err != nil {
		return err
	}
	options, err := m.config.options(m.job, m.settings, m.deps.Isolation)
	if err != nil {
		return err
	}
	if options.Shared, err = m.shared(m.job); err != nil {
		return err
	}
	chain, err := m.chain()
	if err != nil {
		return err
	}
	m.box, err = roots.Start(ctx, chain, options)
	m.unsettled = len(m.done) > 0
	return err
}

// live is the sandbox, for what a draft cannot do. What was put into the draft
// is in it then.
func (m *machine) live(ctx context.Context) (*sandbox.Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.liveLocked(ctx)
}

func (m *machine) liveLocked(ctx context.Context) (*sandbox.Machine, error) {
	if m.closed {
		return nil, errors.New("the machine is closed")
	}
	if m.box == nil {
		if err := m.fetch(ctx); err != nil {
			return nil, err
		}
		if err := m.startBox(ctx); err != nil {
			return nil, err
		}
	}
	if err := m.settle(ctx); err != nil {
		return nil, err
	}
	return m.box, m.leaveDraft(ctx)
}

// settle gives the tree the times that it has when a bake goes on from the last
// checkpoint, before anything looks at it.
func (m *machine) settle(ctx context.Context) error {
	if !m.unsettled {
		return nil
	}
	if err := m.box.Settle(ctx, m.tree.Raw()); err != nil {
		return err
	}
	m.unsettled = false
	return nil
}

// Communicator reaches into the machine.
func (m *machine) Communicator() bake.Communicator { return communicator{m} }

// communicator runs commands as the user that the builder's config names.
type communicator struct{ m *machine }

// Exec implements bake.Executor.
func (c communicator) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	box, err := c.m.live(ctx)
	if err != nil {
		return 0, err
	}
	if c.m.cannotRun != nil {
		return 0, c.m.cannotRun
	}
	if cmd.User == "" {
		cmd.User = c.m.config.ExecUser
	}
	return box.Exec(ctx, cmd)
}

// Put implements bake.Communicator.
func (c communicator) Put(ctx context.Context, dst string, tar io.Reader) error {
	rest, done, err := c.m.put(ctx, dst, tar)
	if err != nil || done {
		return err
	}
	box, err := c.m.live(ctx)
	if rest != nil {
		defer rest.Close()
		dst, tar = "/", rest
	}
	if err != nil {
		return err
	}
	return box.Put(ctx, dst, tar)
}

// Get implements bake.Communicator.
func (c communicator) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	if stream, err := c.m.get(ctx, src); stream != nil || err != nil {
		return stream, err
	}
	box, err := c.m.live(ctx)
	if err != nil {
		return nil, err
	}
	return box.Get(ctx, src)
}

// Facts are Packer's build values.
func (m *machine) Facts() map[string]string { return m.facts(m.job) }

// Commit takes what changed as a checkpoint and returns the image so far.
func (m *machine) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	if m.config.Discard {
		return bake.Artifact{}, nil
	}
	if err := m.checkpoint(ctx, info); err != nil {
		return bake.Artifact{}, fmt.Errorf("taking the difference: %w", err)
	}
	a, err := m.Image(ctx, m.job, slices.Clone(m.done))
	if err != nil {
		return bake.Artifact{}, err
	}
	facts := m.Facts()
	maps.Copy(facts, a.Facts)
	a.Facts = facts
	return a, nil
}

// checkpoint streams the difference into the store.
func (m *machine) checkpoint(ctx context.Context, info bake.LayerInfo) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	made, err := m.changes(ctx, info)
	if err != nil {
		return err
	}
	m.done = append(m.done, made)
	if m.draft != nil {
		return m.draft.Rebase(m.tree.Raw())
	}
	m.unsettled = true
	return nil
}

// changes makes a checkpoint of what changed since the last one.
func (m *machine) changes(ctx context.Context, info bake.LayerInfo) (bake.Checkpoint, error) {
	defer m.dropEarly()
	if m.early != nil && m.draft.Followed() {
		return m.early.Commit(info)
	}
	index := m.tree.Raw()
	delta := func(w io.Writer) error { return m.box.Delta(ctx, index, w) }
	if m.draft != nil {
		delta = func(w io.Writer) error { return m.draft.Delta(ctx, w) }
	}
	return m.deps.Store.Checkpoint(ctx, m.tree, delta, m.policy(), info)
}

func (m *machine) policy() store.Policy {
	return store.Policy{Policy: layer.Policy{Epoch: m.epoch(m.job), Keep: m.job.Keep}, Compression: m.job.Compression}
}

// Close ends the sandbox and removes it.
func (m *machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	var errs []error
	if m.draft != nil {
		errs = append(errs, m.draft.Close())
		m.dropEarly()
		m.draft = nil
	}
	if m.box != nil {
		errs = append(errs, m.box.Close())
		m.box = nil
	}
	return errors.Join(errs...)
}

// Detach cannot leave a sandbox: it ends with this process.
func (m *machine) Detach() []string {
	err := m.Close()
	lines := []string{"a machine without a daemon ends with imgbake: use --engine docker to keep one, or a breakpoint to look around"}
	if err != nil {
		lines = append(lines, err.Error())
	}
	return lines
}

// noticeable is what a step may notice of the builder's settings.
func (c Config) noticeable() string {
	all := fmt.Sprintf(" %q %q %q %q %q %q %v %q", c.Network, c.AddHosts, c.ShmSize, c.Tmpfs, c.CapAdd, c.CapDrop, c.NoNewPrivs, c.ExecUser)
	if c.Memory != "" || c.CPUs != 0 || c.PIDsLimit != 0 {
		all += fmt.Sprintf(" %q %v %d", c.Memory, c.CPUs, c.PIDsLimit)
	}
	return all
}
