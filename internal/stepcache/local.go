// Package stepcache keeps what steps did: on this machine, and in registries
// for the machines to come. An entry is found by its key alone; what it holds
// is checked when it is read, so that a damaged one costs time only.
package stepcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Local is the cache in the store of this machine.
type Local struct {
	Store    *store.Store
	Template string // its path: bakes of one name are told apart by it
	Notify   func(text string)
	ReadOnly bool // nothing is kept
}

// The kinds of cached values.
const (
	stepKind    = "step"    // entries, by key
	sketchKind  = "sketch"  // of entries: whether their keys are worth making
	inputsKind  = "inputs"  // what the keys of a bake's last run were made of
	damagedKind = "damaged" // digests of layers that a registry gave wrong bytes for
)

// Open implements run.Cache.
func (c Local) Open(_ context.Context, b plan.Bake) run.BakeCache { return c.open(b) }

func (c Local) open(b plan.Bake) *localBake { return &localBake{Local: c, bake: b} }

// Last are the inputs of a bake's steps when it last succeeded here; nil: never.
func (c Local) Last(b plan.Bake) (last []run.Inputs) {
	data, ok := c.Store.Cached(inputsKind, c.Template+"\n"+b.Name)
	if !ok || json.Unmarshal(data, &last) != nil {
		return nil
	}
	return last
}

// localBake is one bake's view.
type localBake struct {
	Local
	bake plan.Bake
	used []v1.Layer // that were given or kept
}

// Knows implements run.BakeCache. Earlier versions kept no sketches: those of the
// bake's last run follow from what its keys were made of.
func (c *localBake) Knows(_ context.Context, sketch string) bool {
	if _, ok := c.Store.Cached(sketchKind, sketch); ok {
		return true
	}
	return slices.Contains(run.Sketches(c.Last(c.bake)), sketch)
}

// Find implements run.BakeCache. An entry whose layers are gone, or are not as
// long as they were, counts as none.
func (c *localBake) Find(_ context.Context, key run.Key) (bake.Checkpoint, bool) {
	e, ok := c.entry(key.ID)
	if !ok {
		return bake.Checkpoint{}, false
	}
	found, ok := e.checkpoint(c.stored)
	if ok {
		c.using(found)
		if err := c.sketch(key); err != nil { // it is to be as young as the entry
			c.Notify(fmt.Sprintf("not kept in the cache: %v", err))
		}
	}
	return found, ok
}

func (c *localBake) entry(key string) (e entry, ok bool) {
	data, ok := c.Store.Cached(stepKind, key)
	return e, ok && json.Unmarshal(data, &e) == nil
}

// stored is a layer of the store. One of another size is dropped, so that it is
// written anew.
func (c *localBake) stored(b blob) (v1.Layer, bool) {
	l, err := c.Store.Layer(b.Digest)
	if err != nil {
		return nil, false
	}
	if size, err := l.Size(); err != nil || size != b.Size {
		_ = c.Store.Drop(b.Digest) // else reading it fails, and the bake is done again
		return nil, false
	}
	return l, true
}

func (c *localBake) using(made bake.Checkpoint) {
	for _, l := range []v1.Layer{made.Layer, made.Rest} {
		if l != nil {
			c.used = append(c.used, l)
		}
	}
}

// Keep implements run.BakeCache.
func (c *localBake) Keep(_ context.Context, key run.Key, made bake.Checkpoint) {
	c.using(made)
	e, err := newEntry(key.ID, made)
	if err == nil {
		err = c.put(key, e)
	}
	if err != nil {
		c.Notify(fmt.Sprintf("step %d is not kept in the cache: %v", key.Step, err))
	}
}

// put keeps an entry, and that it is there.
func (c *localBake) put(key run.Key, e entry) error {
	if c.ReadOnly {
		return nil
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := c.Store.PutCached(stepKind, e.Key, data); err != nil {
		return err
	}
	return c.sketch(key)
}

// sketch keeps that there is an entry of the key's sketch.
func (c *localBake) sketch(key run.Key) error {
	if c.ReadOnly {
		return nil
	}
	return c.Store.PutCached(sketchKind, key.Sketch, []byte(key.Sketch))
}

// Close implements run.BakeCache: it remembers what the keys were made of.
func (c *localBake) Close(_ context.Context, keys []run.Key) {
	if c.ReadOnly || len(keys) == 0 {
		return
	}
	of := make([]run.Inputs, len(keys))
	for i, key := range keys {
		of[i] = key.Of
	}
	data, err := json.Marshal(of)
	if err == nil {
		err = c.Store.PutCached(inputsKind, c.Template+"\n"+c.bake.Name, data)
	}
	if err != nil {
		c.Notify(fmt.Sprintf("what %s was made of is not kept: %v", c.bake.Name, err))
	}
}

// Check implements run.BakeCache.
func (c *localBake) Check(ctx context.Context) error {
	var problems []error
	for _, l := range c.used {
		problems = append(problems, c.check(ctx, l))
	}
	if ctx.Err() != nil {
		return nil // nothing is known then
	}
	return errors.Join(problems...)
}

// check reads a layer of the store and compares it with what was said of it.
func (c *localBake) check(ctx context.Context, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	stored, err := c.Store.Layer(digest)
	if err != nil {
		return err
	}
	if err := c.Store.Verify(ctx, digest); err != nil {
		return err
	}
	want, err := l.DiffID()
	if err != nil {
		return err
	}
	got, err := stored.DiffID()
	if err == nil && got != want {
		err = fmt.Errorf("layer %s has the diff ID %s, not %s", digest, got, want)
	}
	return err
}
