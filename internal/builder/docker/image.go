package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
)

// artifact puts the image together: the base, the layers so far, and the
// changes of its configuration.
func (m *machine) artifact(ctx context.Context, base v1.Image, epoch time.Time) (bake.Artifact, error) {
	config, err := m.imageConfig(base, epoch)
	if err != nil {
		return bake.Artifact{}, err
	}
	img, err := extend(base, config, m.layers)
	if err != nil {
		return bake.Artifact{}, fmt.Errorf("putting the image together: %w", err)
	}
	a, err := m.describe(img, base)
	if err != nil {
		return bake.Artifact{}, err
	}
	if m.config.ExportPath != "" {
		return m.export(ctx, a)
	}
	m.engine.indexes.Store(a.Facts["ImageSha256"], m.tree.Published())
	return a, nil
}

func (m *machine) describe(img, base v1.Image) (bake.Artifact, error) {
	digest, err := img.Digest()
	if err != nil {
		return bake.Artifact{}, err
	}
	id, err := img.ConfigName()
	if err != nil {
		return bake.Artifact{}, err
	}
	baseID, err := base.ConfigName()
	if err != nil {
		return bake.Artifact{}, err
	}
	baseDigest, err := base.Digest()
	if err != nil {
		return bake.Artifact{}, err
	}
	size, err := totalSize(img)
	if err != nil {
		return bake.Artifact{}, err
	}
	facts := m.Facts()
	facts["ImageSha256"], facts["Digest"] = id.String(), digest.String()
	platform := m.base.platform
	return bake.Artifact{
		Builder: m.job.Type, MediaType: types.OCIManifestSchema1, Digest: digest, Size: size,
		Platform: &platform, Image: img, Facts: facts, Removed: slices.Clone(m.removed),
		Base: bake.Base{Name: m.base.name, Digest: baseDigest, ID: baseID},
	}, nil
}

func totalSize(img v1.Image) (int64, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	size := manifest.Config.Size
	for _, l := range manifest.Layers {
		size += l.Size
	}
	return size, nil
}

// imageConfig is the base's with what this bake adds and changes. Nothing of
// the container is in it.
func (m *machine) imageConfig(base v1.Image, epoch time.Time) (*v1.ConfigFile, error) {
	was, err := base.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("base config: %w", err)
	}
	c := was.DeepCopy()
	c.Container, c.DockerVersion = "", "" //nolint:staticcheck // deprecated, and so left out
	c.Config.Hostname, c.Config.Domainname, c.Config.Image, c.Config.MacAddress = "", "", "", ""
	c.Config.AttachStdin, c.Config.AttachStdout, c.Config.AttachStderr = false, false, false
	c.Config.OpenStdin, c.Config.StdinOnce, c.Config.Tty, c.Config.ArgsEscaped = false, false, false, false
	c.Created = v1.Time{Time: epoch}
	if m.config.Author != "" {
		c.Author = m.config.Author
	}
	for _, l := range m.layers {
		diffID, err := l.layer.DiffID()
		if err != nil {
			return nil, err
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diffID)
		c.History = append(c.History, m.history(epoch, l.info.CreatedBy, false))
	}
	before := c.Config.DeepCopy()
	if err := imageconfig.Instruct(&c.Config, m.config.Changes); err != nil {
		return nil, err
	}
	imageconfig.Apply(&c.Config, m.job.Config)
	if !reflect.DeepEqual(before, &c.Config) {
		c.History = append(c.History, m.history(epoch, "imgbake config", true))
	}
	return c, nil
}

func (m *machine) history(epoch time.Time, by string, empty bool) v1.History {
	return v1.History{Created: v1.Time{Time: epoch}, CreatedBy: by, Comment: m.config.Message, Author: m.config.Author, EmptyLayer: empty}
}

// extend makes an OCI image of the base's layers, untouched, and new ones.
func extend(base v1.Image, config *v1.ConfigFile, layers []made) (v1.Image, error) {
	manifest, err := base.Manifest()
	if err != nil {
		return nil, err
	}
	descriptors := make([]v1.Descriptor, 0, len(manifest.Layers)+len(layers))
	find := map[v1.Hash]func() (v1.Layer, error){}
	for _, desc := range manifest.Layers {
		desc.MediaType = ociLayer(desc.MediaType)
		descriptors = append(descriptors, desc)
		find[desc.Digest] = func() (v1.Layer, error) { return base.LayerByDigest(desc.Digest) }
	}
	for _, l := range layers {
		desc, err := describe(l.layer)
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, desc)
		find[desc.Digest] = func() (v1.Layer, error) { return l.layer, nil }
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return assemble(raw, descriptors, find)
}

// core is an image of ready bytes whose layers are looked up when needed.
type core struct {
	config, manifest []byte
	layers           map[v1.Hash]func() (v1.Layer, error)
}

func assemble(config []byte, layers []v1.Descriptor, find map[v1.Hash]func() (v1.Layer, error)) (v1.Image, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: layers,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: size, Digest: digest},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(core{config, manifest, find})
}

// MediaType is that of an OCI manifest.
func (c core) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest is the manifest.
func (c core) RawManifest() ([]byte, error) { return c.manifest, nil }

// RawConfigFile is the config.
func (c core) RawConfigFile() ([]byte, error) { return c.config, nil }

// LayerByDigest finds a layer of the base or of the bake.
func (c core) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	find, ok := c.layers[digest]
	if !ok {
		return nil, fmt.Errorf("layer %s: %w", digest, fs.ErrNotExist)
	}
	return find()
}
