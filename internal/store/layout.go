package store

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// refName is the annotation by which tools find an image in a layout.
const refName = "org.opencontainers.image.ref.name"

// Named is an image or index with the name it has in a layout.
type Named struct {
	Name  string // may be empty
	Image v1.Image
	Index v1.ImageIndex // instead of Image
}

// WriteLayout writes images with all their layers to an OCI image layout in
// dir, which is made if it is not there. An image of the same name, or else of
// the same digest, is replaced.
func WriteLayout(ctx context.Context, dir string, images ...Named) error {
	path, err := layout.FromPath(dir)
	if err != nil {
		path, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	for _, n := range images {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := appendNamed(path, n); err != nil {
			return fmt.Errorf("write image layout %s: %w", dir, err)
		}
	}
	return nil
}

func appendNamed(path layout.Path, n Named) error {
	var options []layout.Option
	var matcher match.Matcher
	if n.Name != "" {
		options = append(options, layout.WithAnnotations(map[string]string{refName: n.Name}))
		matcher = func(d v1.Descriptor) bool { return d.Annotations[refName] == n.Name }
	} else {
		digest, err := digestOf(n)
		if err != nil {
			return err
		}
		matcher = match.Digests(digest)
	}
	if n.Index != nil {
		return path.ReplaceIndex(n.Index, matcher, options...)
	}
	return path.ReplaceImage(n.Image, matcher, options...)
}

func digestOf(n Named) (v1.Hash, error) {
	if n.Index != nil {
		return n.Index.Digest()
	}
	return n.Image.Digest()
}

// Files reads path, a file or directory, out of an image as tar, as
// bake.ImageReader does.
func Files(ctx context.Context, img v1.Image, path string) (io.ReadCloser, error) {
	openers, err := Openers(img)
	if err != nil {
		return nil, err
	}
	return layer.Merged(ctx, openers, path)
}

// Openers opens an image's layers, lowest first.
func Openers(img v1.Image) ([]layer.Opener, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	openers := make([]layer.Opener, len(layers))
	for i, l := range layers {
		openers[i] = l.Compressed
	}
	return openers, nil
}
