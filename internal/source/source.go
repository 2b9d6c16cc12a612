// Package source finds the images that bakes start from: in registries, OCI
// layouts, archives of docker save, and root file systems as tar. What it makes
// or learns is kept in the store.
package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sync/errgroup"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Sources finds images. It is safe for concurrent use.
type Sources struct {
	Store    *store.Store
	Registry *registry.Client // nil: no registry can be reached
	locks    Locks
}

// Scratch is an image with nothing in it.
func Scratch(platform v1.Platform) (v1.Image, error) {
	config, err := json.Marshal(v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	})
	if err != nil {
		return nil, err
	}
	return imageconfig.New(config, nil)
}

const refKind = "source-ref"

// Image finds an image in a registry. Its manifest and config are there when it
// returns; a layer is fetched when it is read, for as long as ctx lives.
func (s *Sources) Image(ctx context.Context, ref name.Reference, platform v1.Platform, auth registry.Auth, pull Pull) (v1.Image, error) {
	named := ref.Name() + " " + platform.String()
	if digest, ok := s.known(named); ok && pull != PullAlways {
		if img, err := s.recorded(ctx, ref, digest, auth); err == nil {
			return img, nil
		}
	}
	if pull == PullNever {
		return nil, diag.Problem{Text: fmt.Sprintf("image %s was not used on this machine before", ref), Hint: "pull: true asks the registry for it"}
	}
	if s.Registry == nil {
		return nil, fmt.Errorf("image %s: there is no registry to ask", ref)
	}
	desc, err := s.Registry.Head(ctx, ref, auth)
	if err != nil {
		return nil, err
	}
	exact := desc.Digest.String() + " " + platform.String()
	if digest, ok := s.known(exact); ok {
		if img, err := s.recorded(ctx, ref, digest, auth); err == nil {
			s.learn(named, digest)
			return img, nil
		}
	}
	img, _, err := s.Registry.Image(ctx, ref.Context().Digest(desc.Digest.String()), platform, auth)
	if err != nil {
		return nil, err
	}
	digest, err := s.Store.PutImage(img)
	if err != nil {
		return nil, err
	}
	s.learn(named, digest)
	s.learn(exact, digest)
	return s.recorded(ctx, ref, digest, auth)
}

// recorded is an image of the store whose layers, where it lacks them, come
// from the repository.
func (s *Sources) recorded(ctx context.Context, ref name.Reference, digest v1.Hash, auth registry.Auth) (v1.Image, error) {
	return s.Store.Image(digest, func(desc v1.Descriptor, _ v1.Hash) (v1.Layer, error) {
		l, err := s.Registry.Layer(ctx, ref.Context().Digest(desc.Digest.String()), auth)
		if err != nil {
			return nil, err
		}
		return registry.Mountable(l, ref.Context()), nil
	})
}

func (s *Sources) known(key string) (v1.Hash, bool) {
	data, ok := s.Store.Cached(refKind, key)
	if !ok {
		return v1.Hash{}, false
	}
	digest, err := v1.NewHash(string(data))
	return digest, err == nil
}

// learn remembers what a name stood for. A cache that cannot be written costs
// time only.
func (s *Sources) learn(key string, digest v1.Hash) {
	_ = s.Store.PutCached(refKind, key, []byte(digest.String()))
}

// Layout finds an image in an OCI image layout (image-spec v1.1, image-layout.md):
// the one of the name, or else the only one for the platform.
func (s *Sources) Layout(dir, name string, platform v1.Platform) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	var found []v1.Image
	var names []string
	err = each(index, 0, func(desc v1.Descriptor, img v1.Image) error {
		title := desc.Annotations["org.opencontainers.image.ref.name"]
		if title != "" {
			names = append(names, title)
		}
		if name != "" && title != name && desc.Digest.String() != name {
			return nil
		}
		config, err := img.ConfigFile()
		if err == nil && config.OS == platform.OS && config.Architecture == platform.Architecture {
			found = append(found, img)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	case len(found) == 0:
		return nil, diag.Problem{Text: fmt.Sprintf("layout %s has no image %s for %s", dir, name, platform), Hint: "it has " + strings.Join(names, ", ")}
	case len(found) > 1 && name == "":
		return nil, diag.Problem{Text: fmt.Sprintf("layout %s has several images for %s", dir, platform), Hint: "name one of " + strings.Join(names, ", ")}
	}
	return found[0], nil
}

// maxNesting is how deep indexes may lie in indexes.
const maxNesting = 2

// each visits the images of an index and of those in it, which inherit its name.
func each(index v1.ImageIndex, depth int, visit func(v1.Descriptor, v1.Image) error) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, desc := range manifest.Manifests {
		switch {
		case desc.MediaType.IsIndex() && depth < maxNesting:
			inner, err := index.ImageIndex(desc.Digest)
			if err != nil {
				return err
			}
			outer := desc.Annotations
			err = each(inner, depth+1, func(d v1.Descriptor, img v1.Image) error {
				d.Annotations = outer
				return visit(d, img)
			})
			if err != nil {
				return err
			}
		case desc.MediaType.IsImage():
			img, err := index.Image(desc.Digest)
			if err != nil {
				return err
			}
			if err := visit(desc, img); err != nil {
				return err
			}
		}
	}
	return nil
}

// Archive finds the image of a file that docker save or podman save made,
// remembering it under the file's content.
func (s *Sources) Archive(ctx context.Context, file string) (v1.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash, _, err := v1.SHA256(store.Reader(ctx, f))
	if err != nil {
		return nil, err
	}
	return s.Saved(ctx, hash.String(), func() (io.ReadCloser, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return decompress(store.Reader(ctx, f))
	})
}

// Fetch brings the layers of an image into the store, several at a time, and
// each of them once, whatever bakes ask for it meanwhile. It returns the stored
// ones.
func (s *Sources) Fetch(ctx context.Context, img v1.Image) ([]v1.Layer, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	stored := make([]v1.Layer, len(layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, l := range layers {
		group.Go(func() error {
			unlock, err := s.lockLayer(ctx, l)
			if err != nil {
				return err
			}
			defer unlock()
			stored[i], err = s.Store.PutLayer(ctx, l)
			return err
		})
	}
	return stored, group.Wait()
}

// lockLayer keeps two bakes from fetching one layer at the same time.
func (s *Sources) lockLayer(ctx context.Context, l v1.Layer) (func(), error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	if mediaType, err := l.MediaType(); err == nil && !mediaType.IsDistributable() {
		return nil, fmt.Errorf("layer %s is of the type %s, which may not be passed on", digest, mediaType)
	}
	return s.locks.Lock(ctx, "layer "+digest.String())
}
