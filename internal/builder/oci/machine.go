package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/store"
)

// machine is a sandbox that is being baked in.
type machine struct {
	*builder
	job  bake.Job
	box  *sandbox.Machine
	tree *layer.Tree
	done []bake.Checkpoint

	unsettled bool  // whether files still have times of their own that a checkpoint changed
	cannotRun error // why no command of the platform runs here; nil: they do
}

func (m *machine) start(ctx context.Context) error {
	m.tellEmulation(os.DirFS("/"))
	roots, err := m.open()
	if err != nil {
		return err
	}
	base, err := m.baseLayers(ctx, roots)
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
	chain, err := m.chain(base)
	if err != nil {
		return err
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- m.readTree(reading, base) }()
	if m.box, err = roots.Start(ctx, chain, options); err != nil {
		cancel()
		<-read
		return err
	}
	if err := <-read; err != nil {
		return errors.Join(err, m.Close())
	}
	m.unsettled = len(m.done) > 0
	return nil
}

// readTree makes the index of the base and of the checkpoints.
func (m *machine) readTree(ctx context.Context, base []sandbox.Layer) error {
	index, err := m.baseIndex(ctx, base)
	if err != nil {
		return fmt.Errorf("reading the base's tree: %w", err)
	}
	m.tree = layer.NewTree(index)
	return store.Resume(ctx, m.tree, m.done)
}

// chain is the base's layers and those of the checkpoints.
func (m *machine) chain(base []sandbox.Layer) ([]sandbox.Layer, error) {
	chain := slices.Clone(base)
	for _, step := range m.done {
		for _, l := range []v1.Layer{step.Layer, step.Rest} {
			if l == nil {
				continue
			}
			diffID, err := l.DiffID()
			if err != nil {
				return nil, err
			}
			digest, err := l.Digest()
			if err != nil {
				return nil, err
			}
			chain = append(chain, sandbox.Layer{Digest: digest.String(), DiffID: diffID.String(), Open: l.Compressed})
		}
	}
	return chain, nil
}

// settle gives the tree the times that it has when a bake goes on from the last
// checkpoint, before anything looks at it.
func (m *machine) settle(ctx context.Context) error {
	if !m.unsettled || m.box == nil {
		return nil
	}
	if err := m.box.Settle(ctx, m.tree.Raw()); err != nil {
		return err
	}
	m.unsettled = false
	return nil
}

// baseLayers are the base's, in the store unless they are unpacked already.
func (m *machine) baseLayers(ctx context.Context, roots *sandbox.Roots) ([]sandbox.Layer, error) {
	layers, err := m.base.Layers()
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if len(layers) != len(m.settings.RootFS.DiffIDs) {
		return nil, fmt.Errorf("base %s has %d layers and %d diff ids", m.name, len(layers), len(m.settings.RootFS.DiffIDs))
	}
	chain := make([]sandbox.Layer, len(layers))
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		chain[i] = sandbox.Layer{Digest: digest.String(), DiffID: m.settings.RootFS.DiffIDs[i].String(), Open: l.Compressed}
	}
	if roots.Has(chain) {
		return chain, nil
	}
	if layers, err = m.sources.Fetch(ctx, m.base); err != nil {
		return nil, fmt.Errorf("fetching %s: %w", m.name, err)
	}
	for i, stored := range layers {
		chain[i].Open = stored.Compressed
	}
	return chain, nil
}

// baseIndex finds or makes the index of the base's tree. One that is known of
// its lower layers, as of the image that a stage started from, is gone on from.
func (m *machine) baseIndex(ctx context.Context, chain []sandbox.Layer) (*layer.Index, error) {
	unlock, err := m.locks.Lock(ctx, "index "+indexKey(chain))
	if err != nil {
		return nil, err
	}
	defer unlock()
	index := &layer.Index{}
	var above []layer.Opener
	for known := len(chain); known > 0; known-- {
		if below := m.indexes.Find(indexKey(chain[:known])); below != nil {
			index = below
			break
		}
		above = append(above, chain[known-1].Open)
	}
	if len(above) == 0 && len(chain) > 0 {
		return index, nil
	}
	slices.Reverse(above)
	if index, err = index.Extend(ctx, above...); err != nil {
		return nil, err
	}
	m.indexes.Keep(indexKey(chain), index)
	return index, nil
}

func indexKey(chain []sandbox.Layer) string {
	ids := make([]string, len(chain))
	for i, l := range chain {
		ids[i] = l.Digest
	}
	return strings.Join(ids, " ")
}

// Communicator reaches into the sandbox.
func (m *machine) Communicator() bake.Communicator {
	return communicator{m, m.box}
}

// communicator runs commands as the user that the builder's config names.
type communicator struct {
	m   *machine
	box *sandbox.Machine // also after Close
}

// Exec implements bake.Executor.
func (c communicator) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if c.m.cannotRun != nil {
		return 0, c.m.cannotRun
	}
	if err := c.m.settle(ctx); err != nil {
		return 0, err
	}
	if cmd.User == "" {
		cmd.User = c.m.config.ExecUser
	}
	return c.box.Exec(ctx, cmd)
}

// Put implements bake.Communicator.
func (c communicator) Put(ctx context.Context, dst string, tar io.Reader) error {
	if err := c.m.settle(ctx); err != nil {
		return err
	}
	return c.box.Put(ctx, dst, tar)
}

// Get implements bake.Communicator.
func (c communicator) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	if err := c.m.settle(ctx); err != nil {
		return nil, err
	}
	return c.box.Get(ctx, src)
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
	index := m.tree.Raw()
	delta := func(w io.Writer) error { return m.box.Delta(ctx, index, w) }
	made, err := m.deps.Store.Checkpoint(ctx, m.tree, delta, layer.Policy{Epoch: m.epoch(m.job), Keep: m.job.Keep}, info)
	if err != nil {
		return err
	}
	m.done = append(m.done, made)
	m.unsettled = true
	return nil
}

// Close ends the sandbox and removes it.
func (m *machine) Close() error {
	if m.box == nil {
		return nil
	}
	box := m.box
	m.box = nil
	return box.Close()
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
	return fmt.Sprintf(" %q %q %q %q %q %q %v %q", c.Network, c.AddHosts, c.ShmSize, c.Tmpfs, c.CapAdd, c.CapDrop, c.NoNewPrivs, c.ExecUser)
}
