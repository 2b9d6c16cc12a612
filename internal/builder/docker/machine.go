package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
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
	job bake.Job

	name   string // known before the container is, to remove one whose making was cut short
	id     string
	since  time.Time // before anything ran
	stdin  *types.HijackedResponse
	shadow string // an image made only to start from, removed at the end
	tree   *layer.Tree

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
	m.name = containerName(m.job.Name)
	from, err := m.startImage(ctx)
	if err != nil {
		return err
	}
	config, host, err := m.containerConfig(from)
	if err != nil {
		return err
	}
	created, err := m.engine.api.ContainerCreate(ctx, config, host, nil, m.base.createPlatform(m.engine), m.name)
	if err != nil {
		return fmt.Errorf("creating the container: %w", err)
	}
	m.id = created.ID
	for _, w := range created.Warnings {
		m.job.Notify("docker engine: " + w)
	}
	if err := m.putHelper(ctx, program); err != nil {
		return err
	}
	if err := m.run(ctx); err != nil {
		return err
	}
	return m.scan(ctx)
}

// run starts the container with its input attached: when this process dies, the
// engine closes the input, and the container ends.
func (m *machine) run(ctx context.Context) error {
	stdin, err := m.engine.api.ContainerAttach(context.WithoutCancel(ctx), m.id, container.AttachOptions{Stream: true, Stdin: true})
	if err != nil {
		return fmt.Errorf("attaching to the container: %w", err)
	}
	m.stdin = &stdin
	if err := m.engine.api.ContainerStart(ctx, m.id, container.StartOptions{}); err != nil {
		return fmt.Errorf("starting the container: %w", err)
	}
	info, err := m.engine.api.ContainerInspect(ctx, m.id)
	if err != nil {
		return err
	}
	if m.since, err = time.Parse(time.RFC3339Nano, info.Created); err != nil {
		return fmt.Errorf("creation time of the container: %w", err)
	}
	return nil
}

func containerName(bakeName string) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, bakeName)
	return namePrefix + clean[:min(len(clean), 60)] + "-" + hex.EncodeToString(random[:])
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

func (m *machine) putHelper(ctx context.Context, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: layer.HelperDir + "/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(guest.RunDir, "/") + "/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(guest.Path, "/"), Mode: 0o755, Size: int64(len(data))},
	} {
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	if _, err := tw.Write(data); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := m.engine.api.CopyToContainer(ctx, m.id, "/", &buf, container.CopyToContainerOptions{}); err != nil {
		return fmt.Errorf("copying the helper into the container: %w", err)
	}
	return nil
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
	err := m.engine.removeContainer(ctx, m.name)
	m.hangUp()
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

// hangUp ends the connection to the container's input.
func (m *machine) hangUp() {
	if m.stdin != nil {
		m.stdin.Close()
		m.stdin = nil
	}
}

func (e *Engine) removeContainer(ctx context.Context, name string) error {
	err := e.api.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return nil
	}
	return err
}

// Detach tells the helper to live on and gives the container a name that the
// reaper leaves alone.
func (m *machine) Detach() []string {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
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
	if index := m.engine.knownIndex(m.base.engineID); index != nil {
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
	m.engine.keepIndex(m.base.engineID, index, out.Bytes())
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
	return layer.IndexOf(ctx, openers...)
}

const indexKind = "docker-index"

func indexKey(imageID string) string { return imageID + "/" + guest.Version }

// knownIndex finds the index of an image's tree: made in this run, or kept.
func (e *Engine) knownIndex(imageID string) *layer.Index {
	if index, ok := e.indexes.Load(imageID); ok {
		return index.(*layer.Index)
	}
	data, ok := e.deps.Store.Cached(indexKind, indexKey(imageID))
	if !ok {
		return nil
	}
	index, err := layer.DecodeIndex(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	e.indexes.Store(imageID, index)
	return index
}

// keepIndex remembers an index. A cache that cannot be written costs time only.
func (e *Engine) keepIndex(imageID string, index *layer.Index, encoded []byte) {
	e.indexes.Store(imageID, index)
	_ = e.deps.Store.PutCached(indexKind, indexKey(imageID), encoded)
}

// Commit takes what changed as a checkpoint and returns the image so far.
func (m *machine) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	if m.config.Discard {
		return bake.Artifact{}, nil
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
		m.engine.indexes.Store(a.Facts["ImageSha256"], m.tree.Published())
	}
	a.Facts = joined(m.Facts(), a.Facts)
	return a, nil
}

// checkpoint streams the difference out of the container and publishes it into
// the store.
func (m *machine) checkpoint(ctx context.Context, info bake.LayerInfo) error {
	err := m.delta(ctx, func(delta io.Reader) error {
		made, err := m.engine.deps.Store.Checkpoint(ctx, m.tree, delta, layer.Policy{Epoch: m.epoch(m.job), Keep: m.job.Keep}, info)
		made.LayerInfo = info
		if err == nil {
			m.done = append(m.done, made)
		}
		return err
	})
	m.unsettled = err == nil
	return err
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
	indexOut, indexIn := io.Pipe()
	go func() { indexIn.CloseWithError(m.tree.Raw().Encode(indexIn)) }()
	defer indexOut.Close()
	return m.helper(ctx, indexOut, nil, guest.Settle, fmt.Sprint(m.since.UnixNano()))
}

func joined(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// delta runs the helper and hands its output to publish; both must succeed.
func (m *machine) delta(ctx context.Context, publish func(io.Reader) error) error {
	indexOut, indexIn := io.Pipe()
	go func() { indexIn.CloseWithError(m.tree.Raw().Encode(indexIn)) }()
	defer indexOut.Close()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := m.helper(ctx, indexOut, in, guest.Delta, fmt.Sprint(m.since.UnixNano()))
		in.CloseWithError(err)
		ended <- err
	}()
	err := publish(out)
	if err == nil {
		_, err = io.Copy(io.Discard, out) // what follows the end of the tar
	}
	out.CloseWithError(err)
	if helperErr := <-ended; helperErr != nil && (err == nil || !errors.Is(helperErr, err)) {
		return helperErr
	}
	return err
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
