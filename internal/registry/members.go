package registry

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxMembers bounds the images of an index.
const maxMembers = 1000

// Members are the images that a reference holds: one, or all those of an index,
// of indexes within it too, as they are to be added to another index.
// Configuration and layers are fetched, and their digests verified, when they
// are read, for as long as ctx lives.
func (c *Client) Members(ctx context.Context, ref name.Reference, auth Auth) ([]mutate.IndexAddendum, error) {
	var out []mutate.IndexAddendum
	err := c.read(ctx, ref, auth, func(r reader) error {
		out = nil // of a mirror that failed half way
		return r.members(r.ref, v1.Descriptor{}, 0, &out)
	})
	return out, err
}

// members adds what the reference holds; as is how an index lists it.
func (r reader) members(ref name.Reference, as v1.Descriptor, depth int, out *[]mutate.IndexAddendum) error {
	desc, err := r.get(ref)
	if err != nil {
		return err
	}
	if desc.MediaType.IsImage() {
		return r.member(desc, as, out)
	}
	if depth >= maxIndexDepth {
		return fmt.Errorf("index within index, more than %d deep", maxIndexDepth)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	for _, child := range manifest.Manifests {
		if len(*out) >= maxMembers {
			return &RefusedError{Text: fmt.Sprintf("an index of more than %d images", maxMembers)}
		}
		if err := r.members(ref.Context().Digest(child.Digest.String()), child, depth+1, out); err != nil {
			return err
		}
	}
	return nil
}

func (r reader) member(desc *remote.Descriptor, as v1.Descriptor, out *[]mutate.IndexAddendum) error {
	img, err := desc.Image()
	if err != nil {
		return err
	}
	if err := checkManifest(img); err != nil {
		return err
	}
	platform := as.Platform
	if platform == nil {
		config, err := img.ConfigFile()
		if err != nil {
			return fmt.Errorf("image %s: configuration: %w", desc.Digest, err)
		}
		platform = config.Platform()
	}
	*out = append(*out, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: platform, Annotations: as.Annotations, ArtifactType: as.ArtifactType,
	}})
	return nil
}
