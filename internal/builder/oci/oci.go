// Package oci bakes container images without any daemon: steps run in a
// sandbox on this machine, on an overlay of unpacked layers, and what they
// changed becomes a layer. See the package sandbox for how they are kept apart.
//
// It gives the images that the docker builder gives, bit for bit.
package oci

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/store"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Deps are what the builder needs.
type Deps struct {
	Store    *store.Store
	Registry *registry.Client
	// SquashOwners lets an ordinary user without subordinate ids bake: all
	// files get one owner.
	SquashOwners bool
	Isolation    string // of bakes that name none
}

// Baker is what the bakes of one run share. It is safe for concurrent use.
type Baker struct {
	deps    Deps
	sources *source.Sources
	locks   source.Locks
	indexes *store.Indexes // by indexKey

	mu    sync.Mutex
	roots *sandbox.Roots // opened when first needed
}

// New returns a Baker; it touches nothing yet.
func New(deps Deps) *Baker {
	return &Baker{
		deps: deps, sources: &source.Sources{Store: deps.Store, Registry: deps.Registry}, indexes: deps.Store.Indexes("oci-index"),
	}
}

// open opens the folder of unpacked layers.
func (b *Baker) open() (*sandbox.Roots, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.roots != nil {
		return b.roots, nil
	}
	roots, err := sandbox.Open(filepath.Join(b.deps.Store.Dir(), "roots"), b.deps.SquashOwners)
	b.roots = roots
	return roots, err
}

// Kind is the oci builder.
func (b *Baker) Kind() bake.Kind[bake.Builder] {
	return bake.Define(bake.Spec[Config, bake.Builder]{
		Name: "oci",
		Doc: "Bakes without any daemon, on this machine: steps run in namespaces, or in a chroot where those are refused. " +
			"As an ordinary user it needs subordinate ids (/etc/subuid, newuidmap).",
		Example: "oci: { image: debian:bookworm-slim }",
		Sources: sources,
		Zero:    Config{Pull: source.PullAlways, Network: "host"},
		Check:   func(c Config, at value.Where) diag.List { return c.check(at) },
		Inputs:  func(c Config, at value.Where) []bake.Input { return c.inputs(at) },
		Title:   Config.title,
		New:     func(c Config) (bake.Builder, error) { return &builder{Baker: b, config: c}, nil },
	})
}

// builder is one bake's.
type builder struct {
	*Baker
	config   Config
	name     string // of the base, as the template has it
	base     v1.Image
	settings *v1.ConfigFile // of the base
	platform v1.Platform
}

// Start starts a machine on the source.
func (b *builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	if _, err := b.Source(ctx, job); err != nil {
		return nil, err
	}
	return b.Resume(ctx, job, nil)
}

// Source finds the base. None of its layers is fetched.
func (b *builder) Source(ctx context.Context, job bake.Job) (_ string, err error) {
	if _, err := b.open(); err != nil { // reaps what a killed run left, also if no machine is needed
		return "", err
	}
	b.platform = b.wanted(job)
	if b.base, b.name, err = b.find(ctx, job); err != nil {
		return "", err
	}
	if b.settings, err = b.base.ConfigFile(); err != nil {
		return "", fmt.Errorf("base config: %w", err)
	}
	if b.settings.Architecture != "" && b.settings.Architecture != b.platform.Architecture {
		return "", fmt.Errorf("%s is for %s, not %s", b.name, b.settings.Architecture, b.platform.Architecture)
	}
	return imageconfig.Identity(b.settings.RootFS.DiffIDs, b.settings.Config, b.settings.Created.Time, b.platform) + b.config.noticeable(), nil
}

func (b *builder) wanted(job bake.Job) v1.Platform {
	if job.Platform.Architecture != "" {
		return job.Platform
	}
	if p, err := v1.ParsePlatform(b.config.Platform); b.config.Platform != "" && err == nil {
		return *p
	}
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// find gives the image to start from and its name.
func (b *builder) find(ctx context.Context, job bake.Job) (v1.Image, string, error) {
	c := b.config
	switch {
	case job.From != nil:
		if job.From.Image == nil {
			return nil, "", errors.New("the image to start from is no container image")
		}
		return job.From.Image, job.From.Base.Name, nil
	case c.Image != "":
		img, err := b.pull(ctx)
		return img, c.Image, err
	case c.Rootfs != "":
		img, err := b.sources.Rootfs(ctx, source.Absolute(job.Dir, c.Rootfs), b.platform)
		return img, c.Rootfs, wrapped("rootfs "+c.Rootfs, err)
	case c.Archive != "":
		img, err := b.sources.Archive(ctx, source.Absolute(job.Dir, c.Archive))
		return img, c.Archive, wrapped("archive "+c.Archive, err)
	case c.Layout != "":
		folder, named := c.layout()
		img, err := b.sources.Layout(source.Absolute(job.Dir, folder), named, b.platform)
		return img, c.Layout, err
	case c.Scratch:
		img, err := source.Scratch(b.platform)
		return img, "scratch", err
	case c.Bootstrap != nil:
		img, err := b.sources.Bootstrap(ctx, source.Packages(*c.Bootstrap), b.platform, job.Notify)
		return img, "packages of " + c.Bootstrap.Suite, err
	}
	return nil, "", diag.Problem{Text: "the oci builder has nothing to start from", Hint: "give one of " + strings.Join(sources, ", ")}
}

func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (b *builder) pull(ctx context.Context) (v1.Image, error) {
	ref, err := name.ParseReference(b.config.Image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", b.config.Image, err)
	}
	var auth registry.Auth
	if c := b.config; c.Login && source.SameServer(c.LoginServer, ref.Context()) {
		auth = registry.Auth{Username: c.LoginUsername, Password: c.LoginPassword.Value}
	}
	// Layers are read long after this: for as long as the run lasts.
	return b.sources.Image(ctx, ref, b.platform, auth, b.config.Pull)
}

// epoch is the time of everything made here.
func (b *builder) epoch(job bake.Job) time.Time {
	return imageconfig.Epoch(job, b.settings.Created.Time)
}

// Image puts the image together.
func (b *builder) Image(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	if b.config.Discard {
		return bake.Artifact{}, nil
	}
	img, err := imageconfig.Extend(b.base, done, imageconfig.Edit{
		Epoch: b.epoch(job), Author: b.config.Author, Message: b.config.Message, Changes: b.config.Changes, Config: job.Config,
	})
	if err != nil {
		return bake.Artifact{}, fmt.Errorf("putting the image together: %w", err)
	}
	a, err := imageconfig.Describe(img, b.base, job, b.platform, done)
	if err != nil {
		return bake.Artifact{}, err
	}
	a.Base.Name = b.name
	maps.Copy(a.Facts, b.facts(job))
	if b.config.ExportPath != "" {
		return store.WriteRootfs(ctx, b.config.ExportPath, a)
	}
	return a, nil
}

// facts are Packer's build values, as far as there are such without an engine.
func (b *builder) facts(job bake.Job) map[string]string {
	facts := map[string]string{bake.FactEpoch: strconv.FormatInt(b.epoch(job).Unix(), 10)}
	if id, err := b.base.ConfigName(); err == nil {
		facts["SourceImageSha256"] = id.String()
	}
	return facts
}

// Resume starts a machine on the source and the checkpoints. What the store has
// of the source may be damaged: then it is dropped, and there is another where
// that came from.
func (b *builder) Resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	if err := sandbox.CanNetwork(b.config.Network); err != nil { // before anything is fetched
		return nil, err
	}
	m, err := b.resume(ctx, job, done)
	if err == nil || errors.Is(err, bake.ErrUnavailable) || !b.damaged(ctx, err) {
		return m, err
	}
	if _, lost := b.Source(ctx, job); lost != nil {
		return nil, err
	}
	return b.resume(ctx, job, done)
}

func (b *builder) resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	m := &machine{builder: b, job: job, done: slices.Clone(done)}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// damaged tells whether the store has dropped layers of the source: while they
// were read, or now.
func (b *builder) damaged(ctx context.Context, err error) bool {
	var damage *store.DamagedError
	found := errors.As(err, &damage)
	layers, err := b.base.Layers()
	if err != nil {
		return false
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err == nil && errors.As(b.deps.Store.Verify(ctx, digest), &damage) {
			found = true
		}
	}
	return found && ctx.Err() == nil
}
