// Package either carries out docker builders without a Docker Engine where
// their options allow it, and on the engine where they do not.
package either

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// What --engine takes.
const (
	Auto   = "auto"   // without an engine, unless an option or this machine asks for one, or it would be a chroot and there is an engine
	Engine = "docker" // on the engine
	Alone  = "oci"    // without, or not at all
)

// idle are keys of the docker builder that have no effect on what is baked.
var idle = []string{"communicator", "container_dir", "fix_upload_owner", "docker_path"}

// networks are those of an engine that can be had without it, by their names
// there. Others are the engine's, also one called private.
var networks = map[string]string{"": "", "host": "host", "none": "none", "bridge": "private", "default": "private"}

// Kind is the engine's kind, whose bakes may go to the other one. poor is why
// machines without an engine are poor ones here, or nil: an engine is preferred
// to them then.
func Kind(engine, alone bake.Kind[bake.Builder], mode string, poor error) bake.Kind[bake.Builder] {
	if mode == Engine {
		return engine
	}
	made := engine
	made.New = func(n value.Node) (bake.Builder, error) {
		body, why := without(alone, n)
		if why != "" && mode == Alone {
			return nil, diag.Problem{Pos: n.Pos, Text: why + " needs a Docker Engine", Hint: "--engine auto or --engine docker uses one"}
		}
		onEngine, err := resumer(engine.New(n))
		if err != nil {
			return nil, err
		}
		if why != "" {
			return &builder{Resumer: onEngine, note: "using the Docker Engine: " + why + " needs one"}, nil
		}
		b := &builder{poor: poor}
		if b.Resumer, err = resumer(alone.New(body)); mode == Auto {
			b.other = onEngine
		}
		return b, err
	}
	return made
}

func resumer(b bake.Builder, err error) (bake.Resumer, error) {
	if err != nil {
		return nil, err
	}
	r, ok := b.(bake.Resumer)
	if !ok {
		return nil, fmt.Errorf("%T cannot resume", b)
	}
	return r, nil
}

// without is the body for the builder without an engine, or what in it needs one.
func without(alone bake.Kind[bake.Builder], n value.Node) (_ value.Node, why string) {
	object, _ := n.V.(value.Object)
	object = object.Without(idle...)
	for _, m := range object {
		if !slices.ContainsFunc(alone.Fields, func(f value.Field) bool { return f.Key == m.Key || slices.Contains(f.Aliases, m.Key) }) {
			return n, m.Key
		}
	}
	if m, ok := object.Get("network"); ok {
		name, isName := m.V.(string)
		if m.V, ok = networks[name]; isName && !ok {
			return n, "network " + name
		}
		object = object.Merge(value.Object{m})
	}
	n.V = object
	if problems := alone.Check(n); problems.HasErrors() {
		return n, problems[0].Text
	}
	return n, ""
}

// builder is the one chosen. Until the source is found there may be another.
type builder struct {
	bake.Resumer
	other bake.Resumer // to be tried when the first cannot; nil: none
	note  string
	poor  error // why the other is preferred to a machine of the first
}

// Start starts a machine on the source.
func (b *builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	if _, err := b.Source(ctx, job); err != nil {
		return nil, err
	}
	return b.Resume(ctx, job, nil)
}

// Source finds the source. An image that only the engine has is baked there.
func (b *builder) Source(ctx context.Context, job bake.Job) (string, error) {
	if b.note != "" && job.Notify != nil {
		job.Notify(b.note)
	}
	id, err := b.Resumer.Source(ctx, job)
	if err == nil || b.other == nil || ctx.Err() != nil {
		return id, err
	}
	return b.change(ctx, job, err)
}

// change goes over to the engine, if that can do it.
func (b *builder) change(ctx context.Context, job bake.Job, cause error) (string, error) {
	other := b.other
	b.other = nil
	id, err := other.Source(ctx, job)
	if err != nil {
		return "", cause
	}
	b.Resumer = other
	if job.Notify != nil {
		job.Notify("using the Docker Engine: " + strings.TrimSpace(bake.OneLine(cause.Error(), 300)))
	}
	return id, nil
}

// Resume starts a machine. Where this machine allows none, or a poor one, the
// engine's is used.
func (b *builder) Resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	if b.poor != nil && b.other != nil && !job.Files {
		_, _ = b.change(ctx, job, b.poor) // without an engine a poor one it is
	}
	m, err := b.Resumer.Resume(ctx, job, done)
	if err == nil || b.other == nil || !errors.Is(err, bake.ErrUnavailable) || ctx.Err() != nil {
		return m, err
	}
	if _, err := b.change(ctx, job, err); err != nil {
		return nil, err
	}
	return b.Resumer.Resume(ctx, job, done)
}
