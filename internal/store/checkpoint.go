package store

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// Policy says how a checkpoint's layers are made.
type Policy struct {
	layer.Policy
	Compression bake.Compression
}

// Checkpoint publishes what delta writes, a delta of the tree, into the store: the
// layer that an image shows, and the rest that only later steps see.
func (s *Store) Checkpoint(ctx context.Context, tree *layer.Tree, delta func(io.Writer) error, policy Policy, info bake.LayerInfo) (bake.Checkpoint, error) {
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := delta(in)
		in.CloseWithError(err)
		ended <- err
	}()
	made, err := s.publish(ctx, tree, out, policy, info)
	if err == nil {
		_, err = io.Copy(io.Discard, out) // what follows the end of the tar
	}
	out.CloseWithError(err)
	if cause := <-ended; cause != nil && (err == nil || !errors.Is(cause, err)) {
		err = cause // rather than what it made of the stream
	}
	if err != nil {
		return bake.Checkpoint{}, err
	}
	return made, nil
}

func (s *Store) publish(ctx context.Context, tree *layer.Tree, delta io.Reader, policy Policy, info bake.LayerInfo) (bake.Checkpoint, error) {
	policy.Limits = layer.BakeLimits()
	w, err := s.NewLayer(ctx, policy.Compression)
	if err != nil {
		return bake.Checkpoint{}, err
	}
	defer w.Abort()
	rest, err := s.NewLayer(ctx, policy.Compression)
	if err != nil {
		return bake.Checkpoint{}, err
	}
	defer rest.Abort()
	if !info.Secret {
		policy.Rest = rest
	}
	result, err := tree.Publish(ctx, delta, policy.Policy, w)
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

// Early is a checkpoint that is written while its changes are made.
type Early struct {
	*layer.Publication
	w *LayerWriter
}

// Plain writes the layer's tar as far as it is, and returns how many bytes that is.
func (e *Early) Plain(out io.Writer) (int64, error) { return e.w.Plain(out) }

// Begin starts a checkpoint of what becomes of the tree. The context is that of
// all of it, and not of a step. Call Commit or Abort at its end; Abort after
// Commit does nothing.
func (s *Store) Begin(ctx context.Context, tree *layer.Tree, policy Policy) (*Early, error) {
	w, err := s.NewLayer(ctx, policy.Compression)
	if err != nil {
		return nil, err
	}
	policy.Limits = layer.BakeLimits()
	made, err := tree.Begin(policy.Policy, w)
	if err != nil {
		w.Abort()
		return nil, err
	}
	return &Early{made, w}, nil
}

// Commit makes the layer part of the store. There is no rest.
func (e *Early) Commit(info bake.LayerInfo) (bake.Checkpoint, error) {
	defer e.Abort()
	result, err := e.End()
	if err != nil {
		return bake.Checkpoint{}, err
	}
	l, err := commit(e.w, result.Empty)
	return bake.Checkpoint{LayerInfo: info, Removed: result.Removed, Layer: l}, err
}

// Abort drops the layer.
func (e *Early) Abort() {
	e.Close()
	e.w.Abort()
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
