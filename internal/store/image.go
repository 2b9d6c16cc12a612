package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxIndex    = 64 << 20
	// sparseMark, in index.json, marks an image whose lower layers are not
	// all in the layout.
	sparseMark = "dev.imgbake.sparse"
)

// PutImage records an image's manifest and config. Layers that the store does
// not have are not fetched: the image is marked sparse.
func (s *Store) PutImage(img v1.Image) (v1.Hash, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Hash{}, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read manifest: %w", err)
	}
	if h, err := s.putBlob(config); err != nil {
		return v1.Hash{}, err
	} else if h != manifest.Config.Digest {
		return v1.Hash{}, fmt.Errorf("image config %s is not %s of its manifest", h, manifest.Config.Digest)
	}
	digest, err := s.putBlob(raw)
	if err != nil {
		return v1.Hash{}, err
	}
	desc := v1.Descriptor{MediaType: manifest.MediaType, Digest: digest, Size: int64(len(raw))}
	if desc.MediaType == "" {
		desc.MediaType = types.OCIManifestSchema1
	}
	for _, l := range manifest.Layers {
		if _, err := s.Layer(l.Digest); err != nil {
			desc.Annotations = map[string]string{sparseMark: "true"}
		}
	}
	return digest, s.editIndex(func(list []v1.Descriptor) []v1.Descriptor {
		list = slices.DeleteFunc(list, func(d v1.Descriptor) bool { return d.Digest == digest })
		return append(list, desc)
	})
}

// initLayout makes the files of an empty layout, and anew those that cannot be
// read: images that are not listed are baked or fetched once more. The store is
// locked.
func (s *Store) initLayout() error {
	const marker = `{"imageLayoutVersion":"1.0.0"}`
	if have, err := os.ReadFile(s.path("oci-layout")); err != nil || string(have) != marker {
		if err := s.putFile(s.path("oci-layout"), []byte(marker), true); err != nil {
			return err
		}
	}
	if _, err := s.index(); err == nil {
		return nil
	}
	return s.putFile(s.path("index.json"), []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`), true)
}

// index reads the list of images.
func (s *Store) index() (*v1.IndexManifest, error) {
	f, err := os.Open(s.path("index.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index, err := v1.ParseIndexManifest(io.LimitReader(f, maxIndex))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return index, nil
}

// editIndex changes the list of images.
func (s *Store) editIndex(edit func([]v1.Descriptor) []v1.Descriptor) error {
	err := s.locked(func() error { return s.editIndexLocked(edit) })
	if err != nil {
		return s.fault("write index", err)
	}
	return nil
}

func (s *Store) editIndexLocked(edit func([]v1.Descriptor) []v1.Descriptor) error {
	index, err := s.index()
	if err != nil {
		return err
	}
	index.Manifests = edit(index.Manifests)
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return s.putFile(s.path("index.json"), data, true)
}

// Fetch finds a layer that a sparse image lacks, by its descriptor in the
// manifest. It is called when the layers are listed, so it should transfer
// nothing before the layer is read.
type Fetch func(desc v1.Descriptor, diffID v1.Hash) (v1.Layer, error)

// Image is a recorded image. fetch gives the layers the store lacks; when it
// is nil, reading one is an error that wraps fs.ErrNotExist, as is an image
// that the store does not have.
func (s *Store) Image(digest v1.Hash, fetch Fetch) (v1.Image, error) {
	raw, err := s.blob(digest, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", digest, err)
	}
	rawConfig, err := s.blob(manifest.Config.Digest, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("image %s: config: %w", digest, err)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(rawConfig))
	if err != nil {
		return nil, fmt.Errorf("image %s: config: %w", digest, err)
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return nil, fmt.Errorf("image %s has %d layers and %d diff IDs", digest, len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	return &storedImage{store: s, fetch: fetch, digest: digest, raw: raw, rawConfig: rawConfig, manifest: manifest, config: config}, nil
}

// storedImage is a v1.Image whose layers are found when asked for.
type storedImage struct {
	store          *Store
	fetch          Fetch
	digest         v1.Hash
	raw, rawConfig []byte
	manifest       *v1.Manifest
	config         *v1.ConfigFile
}

// Layers are the image's layers, lowest first.
func (i *storedImage) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.manifest.Layers))
	for n := range layers {
		l, err := i.layer(n)
		if err != nil {
			return nil, err
		}
		layers[n] = l
	}
	return layers, nil
}

func (i *storedImage) layer(n int) (v1.Layer, error) {
	desc, diffID := i.manifest.Layers[n], i.config.RootFS.DiffIDs[n]
	path, err := i.store.blobPath(desc.Digest)
	if err != nil {
		return nil, err
	}
	l := &storedLayer{path: path, digest: desc.Digest, diffID: diffID, size: desc.Size, store: i.store, media: desc.MediaType}
	if _, err := os.Stat(path); err == nil {
		return l, nil
	}
	if i.fetch == nil {
		return missingLayer{l}, nil
	}
	return i.fetch(desc, diffID)
}

// missingLayer is a layer of a sparse image that nothing can fetch.
type missingLayer struct{ *storedLayer }

// Compressed says that the layer is missing.
func (l missingLayer) Compressed() (io.ReadCloser, error) {
	return nil, fmt.Errorf("layer %s is not in the store at %s: %w", l.digest, l.store.dir, fs.ErrNotExist)
}

// Uncompressed says that the layer is missing.
func (l missingLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

// LayerByDigest is the layer with the digest; the config counts as one.
func (i *storedImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.manifest.Config.Digest {
		return i.store.Layer(h)
	}
	for n, desc := range i.manifest.Layers {
		if desc.Digest == h {
			return i.layer(n)
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", i.digest, h)
}

// LayerByDiffID is the layer with the diff ID.
func (i *storedImage) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	if n := slices.Index(i.config.RootFS.DiffIDs, h); n >= 0 {
		return i.layer(n)
	}
	return nil, fmt.Errorf("image %s has no layer with diff ID %s", i.digest, h)
}

// MediaType is the manifest's media type.
func (i *storedImage) MediaType() (types.MediaType, error) {
	if i.manifest.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return i.manifest.MediaType, nil
}

// Size is the size of the manifest.
func (i *storedImage) Size() (int64, error) { return int64(len(i.raw)), nil }

// Digest is the hash of the manifest.
func (i *storedImage) Digest() (v1.Hash, error) { return i.digest, nil }

// ConfigName is the hash of the config.
func (i *storedImage) ConfigName() (v1.Hash, error) { return i.manifest.Config.Digest, nil }

// ConfigFile is the parsed config.
func (i *storedImage) ConfigFile() (*v1.ConfigFile, error) { return i.config.DeepCopy(), nil }

// RawConfigFile is the config's bytes.
func (i *storedImage) RawConfigFile() ([]byte, error) { return i.rawConfig, nil }

// Manifest is the parsed manifest.
func (i *storedImage) Manifest() (*v1.Manifest, error) { return i.manifest.DeepCopy(), nil }

// RawManifest is the manifest's bytes.
func (i *storedImage) RawManifest() ([]byte, error) { return i.raw, nil }
