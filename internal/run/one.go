package run

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

type runner struct {
	Options
	bakes  []*pending
	cancel context.CancelCauseFunc
}

// one bakes one image on one builder. It is the product: start a machine, take
// it through its steps, commit, derive, load, publish, close.
func (r *runner) one(ctx context.Context, res *Result, from *bake.Artifact) {
	res.Err = r.healed(ctx, res, from, r.bake(ctx, res, from))
	var lacks *withheldError
	if errors.As(res.Err, &lacks) {
		res.Err = nil
		r.skip(res, lacks.Error())
	}
	if cause := context.Cause(ctx); res.Err != nil && cause != nil {
		res.Err = &cutShort{cause, res.Err}
	}
}

// bake is what one does, once.
func (r *runner) bake(ctx context.Context, res *Result, from *bake.Artifact) error {
	b := res.Bake
	job, err := r.job(b, from)
	if err != nil {
		return err
	}
	if err := r.withheld("the builder", b.Body); err != nil {
		return err
	}
	builder, err := newComponent(r.Catalog.Builders, "builder", b.Type, b.Body, r.scope(b, nil), b.Pos)
	if err != nil {
		return err
	}
	early := r.sender(ctx, b)
	defer early.stop()
	made, closed, err := r.machine(ctx, builder, job, res, early)
	defer closed()
	if err != nil {
		return err
	}
	publisher := r.publisher(res)
	artifacts, err := r.posts(ctx, publisher, b, job, made)
	if err != nil {
		return err
	}
	if artifacts, err = r.load(ctx, tagged(artifacts, b.Publish)); err != nil {
		return err
	}
	if err := publish(ctx, publisher, b, artifacts); err != nil {
		return err
	}
	res.Artifacts = artifacts
	r.announce(b, artifacts)
	res.cache.close(ctx)
	return nil
}

// cutShort is the error of a bake that a cancellation ended: what it was doing
// and why it ended. What a request says when it is cut off is no news.
type cutShort struct{ cause, err error }

// Error has the cause in the place of whatever the cancellation broke.
func (e *cutShort) Error() string {
	text, why := e.err.Error(), e.cause.Error()
	var request *url.Error
	for err := e.err; errors.As(err, &request); err = request.Err {
		text = strings.Replace(text, request.Error(), request.Err.Error(), 1)
	}
	text = strings.ReplaceAll(text, context.Canceled.Error(), why)
	if !strings.Contains(text, why) {
		text = why + ": " + text
	}
	return text
}

// Unwrap gives both.
func (e *cutShort) Unwrap() []error { return []error{e.cause, e.err} }

// machine starts the machine, takes it through the steps and commits it. The
// machine is then closed, or detached; what follows need not wait for that:
// closed does.
func (r *runner) machine(ctx context.Context, builder bake.Builder, job bake.Job, res *Result, early *sender) (_ bake.Artifact, closed func(), _ error) {
	m, cache, err := r.start(ctx, builder, job, res)
	if err != nil {
		return bake.Artifact{}, func() {}, fmt.Errorf("%s builder: %w", job.Type, err)
	}
	if m == nil {
		made, err := builder.(bake.Resumer).Image(ctx, job, cache.checkpoints())
		return named(made, res.Bake.From), func() {}, err
	}
	made, err := r.provision(ctx, m, job, res, cache, early)
	var lacks *withheldError
	detach := err != nil && !errors.As(err, &lacks) && r.failed(ctx, m, job, res)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.end(m, detach, res)
	}()
	if err == nil {
		settle(res.Bake)
	}
	return named(made, res.Bake.From), func() { <-done }, err
}

// settle has the digests made of the files that a bake has read, before its
// post-processors, or another bake, put others in their place. One that cannot be
// had is missing in the record.
func settle(b plan.Bake) {
	for _, in := range b.Files() {
		_, _ = in.Digest.Get()
	}
}

// named is an artifact that tells the bake it was made from: builders know the
// image only.
func named(a bake.Artifact, from string) bake.Artifact {
	if from != "" {
		a.Base.Name = from
	}
	return a
}

// start starts the machine behind the steps that need not run again. There is
// none where that is all of them.
func (r *runner) start(ctx context.Context, builder bake.Builder, job bake.Job, res *Result) (bake.Machine, *stepCache, error) {
	resumer, ok := builder.(bake.Resumer)
	if !ok {
		m, err := builder.Start(ctx, job)
		return m, nil, err
	}
	source, err := resumer.Source(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	cache, err := r.cached(ctx, res, source)
	if err != nil {
		return nil, nil, err
	}
	res.cache = cache
	done := r.skipDone(res, cache)
	if done == len(res.Bake.Steps) {
		return nil, cache, nil
	}
	if err := r.withheldStep(res.Bake, done); err != nil { // no machine just to find that out
		return nil, nil, err
	}
	res.files = !res.whole && r.filesOnly(res.Bake.Steps[done:])
	job.Files = res.files
	m, err := resumer.Resume(ctx, job, cache.checkpoints())
	return m, cache, err
}

// filesOnly reports whether all that steps do to a machine is to put files into
// it, or to take some.
func (r *runner) filesOnly(steps []plan.Step) bool {
	return !r.Debug && !slices.ContainsFunc(steps, func(s plan.Step) bool {
		kind, err := bake.Find(r.Catalog.Provisioners, "provisioner", s.Type, s.Pos)
		return err != nil || !kind.Files || len(s.Common.Mounts) > 0
	})
}

// end closes the machine, or leaves it to the user.
func (r *runner) end(m bake.Machine, detach bool, res *Result) {
	if detach {
		res.Detached = m.Detach()
		for _, line := range res.Detached {
			r.emit(res.Bake.Name, bake.Event{Type: bake.MachineDetached, Text: line})
		}
		return
	}
	if err := m.Close(); err != nil {
		r.emit(res.Bake.Name, bake.Event{Type: bake.CleanupProblem, Error: r.errorText(err)})
	}
}

func (r *runner) job(b plan.Bake, from *bake.Artifact) (bake.Job, error) {
	job := bake.Job{
		RunID: r.RunID, Name: b.Name, Image: b.Image, Builder: b.Builder, Type: b.Type,
		From: from, Epoch: b.Epoch, Config: b.Config, Compression: b.Compression, Keep: b.Keep, Mounts: allMounts(b), Each: r.each(b) || len(b.Steps) == 1,
		Dir: r.Dir, Force: r.Force, Debug: r.Debug,
		Notify: func(text string) { r.emit(b.Name, bake.Event{Type: bake.Note, Text: text}) },
	}
	if b.Platform != "" {
		platform, err := v1.ParsePlatform(b.Platform)
		if err != nil {
			return job, fmt.Errorf("platform %q: %w", b.Platform, err)
		}
		job.Platform = *platform
	}
	return job, nil
}

// scope is what the bake's late expressions read: everything known before the
// run, and the facts of the bake and its machine as build.*.
func (r *runner) scope(b plan.Bake, facts map[string]string) value.Scope {
	entries := make(map[string]value.Entry, len(b.Facts)+len(facts))
	for key, v := range b.Facts {
		entries[key] = value.Known(v)
	}
	for key, v := range facts {
		entries["build."+key] = value.Known(v)
	}
	return r.Scope.With(entries)
}

// load puts every image where local tools find it, each once under all its names.
func (r *runner) load(ctx context.Context, artifacts []bake.Artifact) ([]bake.Artifact, error) {
	if r.Loader == nil {
		return artifacts, nil
	}
	for i, a := range artifacts {
		if a.Image == nil {
			continue
		}
		loaded, err := r.Loader.Load(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("loading the image: %w", err)
		}
		artifacts[i] = loaded
	}
	return artifacts, nil
}

// failed follows -on-error after provisioning failed, and reports whether the
// machine shall be left running.
func (r *runner) failed(ctx context.Context, m bake.Machine, job bake.Job, res *Result) (detach bool) {
	switch {
	case ctx.Err() != nil:
		return false
	case res.abort || r.OnError == OnErrorAbort:
		return true
	}
	if cleanup := res.Bake.Cleanup; cleanup != nil {
		if err := r.attempt(ctx, m, job, res.Bake, *cleanup, 0); err != nil {
			r.emit(job.Name, bake.Event{Type: bake.CleanupProblem, Error: r.errorText(err)})
		}
	}
	return r.OnError == OnErrorCleanupProvisioner
}
