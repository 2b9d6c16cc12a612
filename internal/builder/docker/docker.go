// Package docker bakes in containers of a Docker Engine.
//
// It speaks the Engine API to any reachable engine and never the docker
// command line. Nothing of this machine is mounted into a container: files go
// in and out as streams, by way of a small helper that is copied in first (see
// the package helper). A layer is what the helper sees as changed, not what
// the engine reports; the image is put together here and loaded afterwards.
//
// It knows nothing of steps, tags or registries' contents: run, publish and
// registry do.
package docker

import (
	"context"
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/store"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Kind is the docker builder on this engine.
func (e *Engine) Kind() bake.Kind[bake.Builder] {
	return bake.Define(bake.Spec[Config, bake.Builder]{
		Name: "docker",
		Doc: "Bakes in a container of a Docker Engine. The engine is found as the docker command finds it " +
			"(DOCKER_HOST, DOCKER_CONTEXT, the current context) and may be on another machine.",
		Example: "docker: { image: debian:bookworm-slim }",
		Needs:   []bake.Need{bake.NeedDocker},
		Sources: sources,
		Zero:    Config{Pull: source.PullAlways},
		Check:   func(c Config, at value.Where) diag.List { return c.check(at) },
		Inputs:  func(c Config, at value.Where) []bake.Input { return c.inputs(at) },
		Title:   Config.title,
		New: func(c Config) (bake.Builder, error) {
			if len(c.RunCommand) > 0 {
				var err error
				if c, err = c.withRunCommand(); err != nil {
					return nil, err
				}
			}
			return &builder{engine: e, config: c}, nil
		},
	})
}

// builder is one bake's.
type builder struct {
	engine *Engine
	config Config
	base   *base // once Source has found it
}

// Start makes the container. The base is in the engine when it returns, and
// nothing is left behind when it fails.
func (b *builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	if _, err := b.Source(ctx, job); err != nil {
		return nil, err
	}
	return b.Resume(ctx, job, nil)
}

// Source makes the engine have the base and tells what it is.
func (b *builder) Source(ctx context.Context, job bake.Job) (string, error) {
	if job.Notify == nil {
		job.Notify = func(string) {}
	}
	if err := b.engine.connect(ctx); err != nil {
		return "", err
	}
	b.engine.reaped.Do(func() { b.engine.tidy(ctx, job.Notify) })
	base, err := b.findBase(ctx, job)
	if err != nil {
		return "", b.engine.explain(err)
	}
	b.base = base
	return b.identity()
}

// Resume makes the container on an image of the base and the checkpoints.
func (b *builder) Resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	if job.Notify == nil {
		job.Notify = func(string) {}
	}
	m := &machine{builder: b, job: job, done: slices.Clone(done)}
	if err := m.start(ctx); err != nil {
		err = b.engine.explain(err)
		m.Close()
		return nil, err
	}
	return m, nil
}

// Image puts the image together; the engine is only asked for the base.
func (b *builder) Image(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	if b.config.Discard {
		return bake.Artifact{}, nil
	}
	a, err := b.image(ctx, job, done)
	if err != nil {
		return bake.Artifact{}, b.engine.explain(err)
	}
	if b.config.ExportPath != "" {
		return store.WriteRootfs(ctx, b.config.ExportPath, a)
	}
	return a, nil
}
