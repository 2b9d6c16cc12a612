package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// contentOf finds the base's layers by digest: in the registry it came from,
// where nothing but the manifest is fetched for now; else by saving it out of
// the engine, once, into the store.
func (e *Engine) contentOf(ctx context.Context, b *base) (v1.Image, error) {
	unlock, err := e.bases.Lock(ctx, "content "+b.engineID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if img, ok := e.contents.Load(b.engineID); ok {
		return img.(v1.Image), nil
	}
	img, err := e.fromRegistry(ctx, b)
	if err != nil {
		b.note(fmt.Sprintf("the registry does not give the layers of %s, so the engine's are compressed anew: the image's digest differs from one baked with the registry at hand (%v)", b.name, err))
	}
	if img == nil {
		if img, err = e.saved(ctx, b); err != nil {
			return nil, err
		}
	}
	e.contents.Store(b.engineID, img)
	return img, nil
}

// fromRegistry is nil when the registry does not have just this image.
func (e *Engine) fromRegistry(ctx context.Context, b *base) (v1.Image, error) {
	if e.deps.Registry == nil {
		return nil, nil
	}
	var problems []error
	for _, digest := range b.ownFirst() {
		ref, err := name.NewDigest(digest)
		if err != nil {
			continue
		}
		auth, err := b.auth(ctx, ref.Context())
		if err != nil {
			problems = append(problems, err)
			continue
		}
		img, _, err := e.deps.Registry.Image(ctx, ref, b.platform, auth)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if same, err := isImage(img, b.engineID); err == nil && same {
			return img, nil
		}
	}
	return nil, errors.Join(problems...)
}

// ownFirst is the base's repository digests, that of the repository the
// template names first: the others may be of registries long gone.
func (b *base) ownFirst() []string {
	ref, err := name.ParseReference(b.name)
	if err != nil {
		return b.digests
	}
	own := func(digest string) bool {
		d, err := name.NewDigest(digest)
		return err == nil && d.Context().Name() == ref.Context().Name()
	}
	sorted := slices.Clone(b.digests)
	slices.SortStableFunc(sorted, func(x, y string) int {
		switch {
		case own(x) == own(y):
			return 0
		case own(x):
			return -1
		}
		return 1
	})
	return sorted
}

// isImage tells whether an engine's ID, a config digest or with the containerd
// store a manifest digest, is that of an image.
func isImage(img v1.Image, engineID string) (bool, error) {
	config, err := img.ConfigName()
	if err != nil {
		return false, err
	}
	digest, err := img.Digest()
	if err != nil {
		return false, err
	}
	return engineID == config.String() || engineID == digest.String(), nil
}

// saved gives the image from the store, saving it out of the engine first if
// need be.
func (e *Engine) saved(ctx context.Context, b *base) (v1.Image, error) {
	img, err := e.sources.Saved(ctx, b.engineID, func() (io.ReadCloser, error) { return e.api.ImageSave(ctx, []string{b.engineID}) })
	if err != nil {
		return nil, fmt.Errorf("saving %s out of the engine: %w", b.name, err)
	}
	return img, nil
}
