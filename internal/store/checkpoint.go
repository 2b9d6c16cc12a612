package store

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// Checkpoint publishes a delta of the tree into the store: the layer that an
// image shows, and the rest that only later steps see.
func (s *Store) Checkpoint(ctx context.Context, tree *layer.Tree, delta io.Reader, policy layer.Policy, info bake.LayerInfo) (bake.Checkpoint, error) {
	w, err := s.NewLayer(ctx)
	if err != nil {
		return bake.Checkpoint{}, err
	}
	defer w.Abort()
	rest, err := s.NewLayer(ctx)
	if err != nil {
		return bake.Checkpoint{}, err
	}
	defer rest.Abort()
	if !info.Secret {
		policy.Rest = rest
	}
	result, err := tree.Publish(ctx, delta, policy, w)
	if err != nil {
		return bake.Checkpoint{}, err
	}
	made := bake.Checkpoint{LayerInfo: info, Removed: result.Removed, Partial: info.Secret && !result.RestEmpty}
	if made.Layer, err = commit(w, result.Empty); err != nil {
		return bake.Checkpoint{}, err
	}
	made.Rest, err = commit(rest, result.RestEmpty || info.Secret)
	return made, err
}

// commit keeps a layer that is not empty.
func commit(w *LayerWriter, empty bool) (v1.Layer, error) {
	if empty {
		return nil, nil
	}
	return w.Commit()
}

// Resume brings a tree to where the checkpoints left it.
func Resume(ctx context.Context, tree *layer.Tree, done []bake.Checkpoint) error {
	for _, step := range done {
		if err := tree.Resume(ctx, opener(step.Layer), opener(step.Rest)); err != nil {
			return err
		}
	}
	return nil
}

func opener(l v1.Layer) layer.Opener {
	if l == nil {
		return nil
	}
	return l.Uncompressed
}
