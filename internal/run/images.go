package run

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/store"
)

// stages reads files out of images that this run has baked, and hands every
// other reference on.
type stages struct {
	bakes   []*pending
	reader  plan.Bake // where an image has several bakes, those that this one waits for and of its builder are preferred
	outside bake.ImageReader
}

// Files implements bake.ImageReader. The plan has seen to it that a bake whose
// image is read is done.
func (s stages) Files(ctx context.Context, ref, path string) (io.ReadCloser, error) {
	made, err := s.find(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case made != nil:
		return store.Files(ctx, made.Image, path)
	}
	return s.outside.Files(ctx, ref, path)
}

// Digest implements bake.ImageReader.
func (s stages) Digest(ctx context.Context, ref string) (string, error) {
	made, err := s.find(ctx, ref)
	switch {
	case err != nil:
		return "", err
	case made != nil:
		return made.Digest.String(), nil
	}
	return s.outside.Digest(ctx, ref)
}

// rank says how well a bake goes with the reader.
func (s stages) rank(p *pending) (rank int) {
	if p.Bake.Builder == s.reader.Builder {
		rank++
	}
	if slices.Contains(s.reader.Prerequisites(), p.Bake.Name) {
		rank += 2
	}
	return rank
}

// find gives the image of a bake of this run, or nil for one from elsewhere.
func (s stages) find(ctx context.Context, ref string) (*bake.Artifact, error) {
	var found *pending
	for _, p := range s.bakes {
		if p.members != nil || p.Bake.Image != ref && p.Bake.Name != ref {
			continue
		}
		if found == nil || s.rank(p) >= s.rank(found) {
			found = p
		}
	}
	if found == nil {
		if s.outside == nil {
			return nil, fmt.Errorf("image %q is not in the template", ref)
		}
		return nil, nil
	}
	select {
	case <-found.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	made := stage(found.Artifacts)
	if made == nil {
		return nil, fmt.Errorf("%s made no image", found.Bake.Name)
	}
	return made, nil
}
