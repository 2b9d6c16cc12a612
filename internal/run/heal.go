package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// healed does a bake that failed again: without the cache, if what the cache gave
// was damaged or has gone, to it, or to a bake that it needs; on a machine that runs
// commands, if it turned out to take one that cannot be had. Else it returns the
// error.
func (r *runner) healed(ctx context.Context, res *Result, from *bake.Artifact, failed error) error {
	var exit *bake.ExitError
	var lacks *withheldError
	if failed == nil || ctx.Err() != nil || res.anew || errors.As(failed, &exit) || errors.As(failed, &lacks) {
		return failed
	}
	if res.files && errors.Is(failed, bake.ErrUnavailable) {
		// A step took what this machine does not allow after all. With a builder
		// that is not told otherwise another engine may take over at the start.
		r.emit(res.Bake.Name, bake.Event{Type: bake.Note, Text: "baking again from the start: " + bake.OneLine(failed.Error(), 300)})
		*res = Result{Bake: res.Bake, Started: res.Started, whole: true}
		return r.bake(ctx, res, from)
	}
	damage := res.cache.check(ctx)
	for _, p := range r.bakes {
		if p.Bake.Name != res.Bake.From || p.cache == nil {
			continue
		}
		if err := p.cache.check(ctx); err != nil {
			damage = errors.Join(damage, err)
			if from = r.parentAnew(ctx, p); from == nil {
				return failed
			}
		}
	}
	if damage == nil || ctx.Err() != nil {
		return failed
	}
	r.emit(res.Bake.Name, bake.Event{Type: bake.Note, Text: fmt.Sprintf("baking again without the cache, where something is damaged: %s", bake.OneLine(damage.Error(), 300))})
	*res = Result{Bake: res.Bake, Started: res.Started, anew: true}
	return r.bake(ctx, res, from)
}

// parentAnew bakes the image that others start from once more. Its result
// stands: it is the same image, whose layers can be read now.
func (r *runner) parentAnew(ctx context.Context, p *pending) *bake.Artifact {
	again := Result{Bake: p.Bake, Started: r.Now(), anew: true}
	again.Bake.Posts, again.Bake.Publish = nil, nil
	var from *bake.Artifact
	for _, other := range r.bakes {
		if other.Bake.Name == p.Bake.From {
			from = stage(other.Artifacts)
		}
	}
	if err := r.bake(ctx, &again, from); err != nil {
		return nil
	}
	return stage(again.Artifacts)
}

// check reports what is damaged of what a bake had of the cache.
func (c *stepCache) check(ctx context.Context) error {
	if c == nil {
		return nil
	}
	return c.Check(ctx)
}
