package stepcache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// configType tells what the config of a cache's manifest is.
const configType = types.MediaType("application/vnd.imgbake.cache.v1+json")

// maxChains is for how many bakes that differ a tag remembers what they did.
const maxChains = 5

// chains is what a tag holds: the newest bakes' checkpoints. As JSON it is the
// config of a manifest whose layers are all those that it names, so that a
// registry keeps them.
type chains struct {
	Writes int       `json:"writes"` // so far: a manifest that is written again is another
	Chains [][]entry `json:"chains"` // the newest first; of each the lowest step first
}

// find is the newest entry of a key that is good.
func (c chains) find(key string, good func(entry) bool) (entry, bool) {
	for _, chain := range c.Chains {
		for _, e := range chain {
			if e.Key == key && good(e) {
				return e, true
			}
		}
	}
	return entry{}, false
}

// has reports whether a chain, or a longer one that begins like it, is there.
func (c chains) has(chain []entry) bool {
	return slices.ContainsFunc(c.Chains, func(have []entry) bool { return begins(have, chain) })
}

func begins(have, chain []entry) bool {
	return len(have) >= len(chain) && slices.EqualFunc(have[:len(chain)], chain, entry.same)
}

// with puts a chain in front; what it continues, and the oldest, goes.
func (c chains) with(chain []entry) chains {
	list := [][]entry{chain}
	for _, have := range c.Chains {
		if len(list) < maxChains && !begins(chain, have) {
			list = append(list, have)
		}
	}
	return chains{Writes: c.Writes + 1, Chains: list}
}

// parse reads the config of a cache's manifest.
func parse(config []byte) (c chains, err error) {
	if err := json.Unmarshal(config, &c); err != nil {
		return c, fmt.Errorf("cache config: %w", err)
	}
	if len(c.Chains) > maxChains {
		c.Chains = c.Chains[:maxChains]
	}
	for _, chain := range c.Chains {
		for _, e := range chain {
			for _, b := range e.blobs() {
				if b.Size < 0 || b.Digest.Algorithm != "sha256" || b.DiffID.Algorithm != "sha256" || !b.MediaType.IsLayer() {
					return chains{}, fmt.Errorf("cache config: layer %s of %d bytes, type %q", b.Digest, b.Size, b.MediaType)
				}
			}
		}
	}
	return c, nil
}

// image is the manifest that keeps chains in a registry.
type image struct {
	config, manifest []byte
	layers           []v1.Layer
}

// newImage makes the manifest. find gives the layers.
func newImage(c chains, find func(blob) v1.Layer) (*image, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	made := &image{config: config}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{}}
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	m.Config = v1.Descriptor{MediaType: configType, Digest: digest, Size: size}
	seen := map[v1.Hash]bool{}
	for _, chain := range c.Chains {
		for _, e := range chain {
			for _, b := range e.blobs() {
				if !seen[b.Digest] {
					seen[b.Digest] = true
					m.Layers = append(m.Layers, v1.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size})
					made.layers = append(made.layers, find(*b))
				}
			}
		}
	}
	made.manifest, err = json.Marshal(m)
	return made, err
}

// Layers are all that the chains name.
func (i *image) Layers() ([]v1.Layer, error) { return i.layers, nil }

// MediaType is that of an OCI manifest.
func (i *image) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Size is the manifest's.
func (i *image) Size() (int64, error) { return int64(len(i.manifest)), nil }

// ConfigName is the config's digest.
func (i *image) ConfigName() (v1.Hash, error) { return partial.ConfigName(i) }

// ConfigFile is empty: the config is none of an image to run.
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return &v1.ConfigFile{}, nil }

// RawConfigFile is the chains as JSON.
func (i *image) RawConfigFile() ([]byte, error) { return i.config, nil }

// Digest is the manifest's.
func (i *image) Digest() (v1.Hash, error) { return partial.Digest(i) }

// Manifest is the parsed manifest.
func (i *image) Manifest() (*v1.Manifest, error) { return partial.Manifest(i) }

// RawManifest is the manifest's bytes.
func (i *image) RawManifest() ([]byte, error) { return i.manifest, nil }

// LayerByDigest finds a layer.
func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if digest, err := l.Digest(); err == nil && digest == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("the cache has no layer %s", h)
}

// LayerByDiffID finds a layer.
func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if diffID, err := l.DiffID(); err == nil && diffID == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("the cache has no layer with diff ID %s", h)
}
