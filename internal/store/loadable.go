package store

import (
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Loadable is the image as every Docker Engine loads it: layers compressed with
// zstd, which those before version 23 do not read, are plain.
func Loadable(img v1.Image) v1.Image { return loadable{img} }

type loadable struct{ v1.Image }

// Layers are the image's, lowest first.
func (i loadable) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	if err != nil {
		return nil, err
	}
	out := make([]v1.Layer, len(layers))
	for n, l := range layers {
		if out[n], err = LoadableLayer(l); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// LoadableLayer is that for one layer.
func LoadableLayer(l v1.Layer) (v1.Layer, error) {
	mediaType, err := l.MediaType()
	if err != nil || mediaType != types.OCILayerZStd {
		return l, err
	}
	return plainLayer{l, sync.OnceValues(func() (int64, error) {
		plain, err := l.Uncompressed()
		if err != nil {
			return 0, err
		}
		defer plain.Close()
		return io.Copy(io.Discard, plain)
	})}, nil
}

// plainLayer is a layer without its compression. Its digest still is that of the
// compressed one, which the image names it by.
type plainLayer struct {
	v1.Layer
	size func() (int64, error)
}

// Size is the size of the plain layer.
func (l plainLayer) Size() (int64, error) { return l.size() }

// MediaType is that of a plain layer.
func (l plainLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// Compressed opens the plain layer.
func (l plainLayer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }
