package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/store"
)

const (
	namePrefix     = "imgbake-"
	detachedPrefix = "imgbake-detached-" // the reaper leaves these alone

	// closeTimeout is how long the end of a machine may take when the engine
	// does not answer.
	closeTimeout = 5 * time.Second
)

// machine is a container that is being baked.
type machine struct {
	*builder
	box
	job bake.Job

	since  time.Time // before anything ran
	from   string    // the image the container is made from
	shadow string    // an image made only to start from, removed at the end
	tree   *layer.Tree
	beside *beside // nil until a step has mounts

	done []bake.Checkpoint

	settling  sync.Mutex
	unsettled bool // the tree has times that a resumed one would not have
	closed    bool
}

// start makes the container, puts the helper in and runs it as first process.
func (m *machine) start(ctx context.Context) error {
	program, err := m.engine.helperBinary()
	if err != nil {
		return err
	}
	m.box = box{api: m.engine.api, name: containerName(m.job.Name)}
	if m.from, err = m.startImage(ctx); err != nil {
		return err
	}
	config, host, err := m.containerConfig(m.from)
	if err != nil {
		return err
	}
	warnings, err := m.create(ctx, config, host, m.base.createPlatform(m.engine))
	if err != nil {
		return err
	}
	for _, w := range warnings {
		m.job.Notify("docker engine: " + w)
	}
	if err := m.run(ctx, program); err != nil {
		return err
	}
	if m.since, err = m.created(ctx); err != nil {
		return err
	}
	return m.scan(ctx)
}

// startImage is what the container is made from: the base with what checkpoints
// have recorded, or its twin without volumes. What steps write below a volume
// of the base belongs to the image, but an engine would put it elsewhere.
func (m *machine) startImage(ctx context.Context) (string, error) {
	layers := m.base.diffIDs
	var recorded []v1.Layer
	for _, step := range m.done {
		for _, l := range []v1.Layer{step.Layer, step.Rest} {
			if l != nil {
				recorded = append(recorded, l)
			}
		}
	}
	if len(m.base.volumes) == 0 && len(recorded) == 0 {
		return m.base.engineID, nil
	}
	for _, l := range recorded {
		diffID, err := l.DiffID()
		if err != nil {
			return "", err
		}
		layers = append(slices.Clone(layers), diffID)
	}
	twin := &v1.ConfigFile{
		OS: m.base.platform.OS, Architecture: m.base.platform.Architecture, Variant: m.base.platform.Variant,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: layers},
		Config: v1.Config{Env: m.base.env, Labels: m.engine.labels(m.job.RunID, m.name)},
	}
	id, err := m.engine.loadTwin(ctx, twin, recorded)
	switch {
	case err == nil:
		m.shadow = id
		return id, nil
	case len(recorded) > 0:
		return "", fmt.Errorf("loading the steps done before: %w", err)
	}
	m.job.Notify("what is written below the base's volumes will not be part of the image: " + strings.Join(m.base.volumes, " "))
	return m.base.engineID, nil
}

// Communicator reaches into the container.
func (m *machine) Communicator() bake.Communicator { return communicator{m} }

// Facts are Packer's build values that are known while the container runs.
func (m *machine) Facts() map[string]string {
	facts := maps.Clone(m.base.facts)
	facts["ID"] = m.id
	facts[bake.FactEpoch] = strconv.FormatInt(m.epoch(m.job).Unix(), 10)
	return facts
}

// Close removes the container, its volumes and what else was made for it.
func (m *machine) Close() error {
	if m.closed || m.name == "" {
		return nil
	}
	m.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := errors.Join(m.beside.close(ctx), m.remove(ctx))
	if m.shadow != "" {
		if _, e := m.engine.api.ImageRemove(ctx, m.shadow, image.RemoveOptions{}); e != nil && !errdefs.IsNotFound(e) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("removing container %s: %w", m.name, m.engine.explain(err))
	}
	return nil
}

// Detach tells the helper to live on and gives the container a name that the
// reaper leaves alone.
func (m *machine) Detach() []string {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = m.beside.close(ctx) // the reaper removes what is left
	if m.stdin != nil {
		_, _ = m.stdin.Conn.Write([]byte{guest.Detach})
		_ = m.stdin.CloseWrite()
		m.hangUp()
	}
	name := detachedPrefix + strings.TrimPrefix(m.name, namePrefix)
	if err := m.engine.api.ContainerRename(ctx, m.id, name); err != nil {
		name = m.name
	}
	m.name = name
	prefix := "docker "
	if host := m.engine.deps.Getenv("DOCKER_HOST"); host != "" {
		prefix = "docker -H " + host + " "
	}
	return []string{
		"the container is left running: " + prefix + "exec -it " + name + " /bin/sh",
		"remove it with: " + prefix + "rm -f -v " + name,
	}
}

// scan finds or makes the index of the base's tree, and brings it to where the
// checkpoints left it.
func (m *machine) scan(ctx context.Context) error {
	if m.config.Discard {
		return nil
	}
	index, err := m.baseIndex(ctx)
	if err != nil {
		return fmt.Errorf("reading the base's tree: %w", err)
	}
	m.tree = layer.NewTree(index)
	if len(m.done) == 0 {
		return nil
	}
	if err := store.Resume(ctx, m.tree, m.done); err != nil {
		return err
	}
	m.unsettled = true
	return nil
}

func (m *machine) baseIndex(ctx context.Context) (*layer.Index, error) {
	unlock, err := m.engine.bases.Lock(ctx, "index "+m.base.engineID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if index := m.engine.indexes.Find(indexKey(m.base.engineID)); index != nil {
		return index, nil
	}
	if len(m.done) > 0 { // the container shows more than the base
		return m.indexOfLayers(ctx)
	}
	var out bytes.Buffer
	if err := m.helper(ctx, nil, &out, guest.Scan); err != nil {
		return nil, err
	}
	index, err := layer.DecodeIndex(bytes.NewReader(out.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	m.engine.indexes.Keep(indexKey(m.base.engineID), index)
	return index, nil
}

func (m *machine) indexOfLayers(ctx context.Context) (*layer.Index, error) {
	base, err := m.base.image(ctx)
	if err != nil {
		return nil, err
	}
	openers, err := store.Openers(base)
	if err != nil {
		return nil, err
	}
	return (&layer.Index{}).Extend(ctx, layer.BakeLimits(), openers...) // the engine has unpacked it already
}

func indexKey(imageID string) string { return imageID + "/" + guest.Version }

// Commit takes what changed as a checkpoint and returns the image so far.
func (m *machine) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	if m.config.Discard {
		return bake.Artifact{}, nil
	}
	if m.beside != nil && m.beside.lost != nil {
		return bake.Artifact{}, fmt.Errorf("mounts: %w", m.beside.lost)
	}
	if _, err := m.base.image(ctx); err != nil { // before much is done in vain
		return bake.Artifact{}, m.engine.explain(err)
	}
	if err := m.checkpoint(ctx, info); err != nil {
		return bake.Artifact{}, m.engine.explain(fmt.Errorf("taking the difference: %w", err))
	}
	a, err := m.Image(ctx, m.job, slices.Clone(m.done))
	if err != nil {
		return bake.Artifact{}, err
	}
	if a.Image != nil {
		m.engine.indexes.Note(indexKey(a.Facts["ImageSha256"]), m.tree.Published())
	}
	a.Facts = joined(m.Facts(), a.Facts)
	return a, nil
}

// checkpoint streams the difference out of the container and publishes it into
// the store.
func (m *machine) checkpoint(ctx context.Context, info bake.LayerInfo) error {
	index := m.tree.Raw()
	delta := func(w io.Writer) error { return m.compared(ctx, index, w, guest.Delta) }
	policy := store.Policy{Policy: layer.Policy{Epoch: m.epoch(m.job), Keep: m.job.Keep}, Compression: m.job.Compression}
	made, err := m.engine.deps.Store.Checkpoint(ctx, m.tree, delta, policy, info)
	m.unsettled = err == nil
	if err != nil {
		return err
	}
	m.done = append(m.done, made)
	return nil
}

// settle gives the tree the times that a resumed one would have, so that steps
// cannot tell the two apart. It is done when something is about to look.
func (m *machine) settle(ctx context.Context) error {
	m.settling.Lock()
	defer m.settling.Unlock()
	if !m.unsettled {
		return nil
	}
	m.unsettled = false
	return m.compared(ctx, m.tree.Raw(), nil, guest.Settle)
}

// compared runs what of the helper compares the tree with an index.
func (m *machine) compared(ctx context.Context, index *layer.Index, stdout io.Writer, command string) error {
	out, in := io.Pipe()
	go func() { in.CloseWithError(index.Encode(in)) }()
	defer out.Close()
	return m.helper(ctx, out, stdout, command, fmt.Sprint(m.since.UnixNano()))
}

func joined(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// remotePath makes a path of the container absolute and clean. A slash at its
// end stays: it says that a link shall be followed.
func remotePath(p string) string {
	clean := path.Join("/", p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
