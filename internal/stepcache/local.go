// Package stepcache keeps what steps did: on this machine, and in registries
// for the machines to come. An entry is found by its key alone; what it holds
// is checked when it is read, so that a damaged one costs time only.
package stepcache

import (
	"context"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Local is the cache in the store of this machine.
type Local struct {
	Store  *store.Store
	Notify func(text string)
}

const stepKind = "step"

// entry is a checkpoint as it is kept.
type entry struct {
	Layer   *v1.Hash `json:"layer,omitempty"`
	Rest    *v1.Hash `json:"rest,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// Open implements run.Cache.
func (c Local) Open(context.Context, plan.Bake) run.BakeCache { return c }

// Close implements run.BakeCache: there is nothing left to do.
func (c Local) Close(context.Context) {}

// Find implements run.BakeCache. An entry whose layers are gone counts as none.
func (c Local) Find(_ context.Context, key run.Key) (bake.Checkpoint, bool) {
	data, ok := c.Store.Cached(stepKind, key.ID)
	if !ok {
		return bake.Checkpoint{}, false
	}
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return bake.Checkpoint{}, false
	}
	found := bake.Checkpoint{Removed: e.Removed}
	var err error
	if found.Layer, err = c.layer(e.Layer); err != nil {
		return bake.Checkpoint{}, false
	}
	if found.Rest, err = c.layer(e.Rest); err != nil {
		return bake.Checkpoint{}, false
	}
	return found, true
}

func (c Local) layer(digest *v1.Hash) (v1.Layer, error) {
	if digest == nil {
		return nil, nil
	}
	return c.Store.Layer(*digest)
}

// Keep implements run.BakeCache.
func (c Local) Keep(_ context.Context, key run.Key, made bake.Checkpoint) {
	if err := c.keep(key, made); err != nil {
		c.Notify(fmt.Sprintf("step %d is not kept in the cache: %v", key.Step, err))
	}
}

func (c Local) keep(key run.Key, made bake.Checkpoint) error {
	e := entry{Removed: made.Removed}
	for _, part := range []struct {
		layer v1.Layer
		to    **v1.Hash
	}{{made.Layer, &e.Layer}, {made.Rest, &e.Rest}} {
		if part.layer == nil {
			continue
		}
		digest, err := part.layer.Digest()
		if err != nil {
			return err
		}
		*part.to = &digest
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return c.Store.PutCached(stepKind, key.ID, data)
}
