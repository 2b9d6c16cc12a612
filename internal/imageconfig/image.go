package imageconfig

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Edit is what a bake does to its base's configuration.
type Edit struct {
	Epoch   time.Time        // the time of everything the bake makes
	Author  string           // empty: the base's
	Message string           // comment for the history
	Changes []string         // Dockerfile instructions
	Config  bake.ImageConfig // applied last
}

// Extend makes an OCI image (image-spec v1.1) of the base's layers, untouched,
// and what is published of the checkpoints. The same input gives the same
// bytes. Nothing of the machine that made them is in it. The base's layers are
// opened when they are read.
func Extend(base v1.Image, done []bake.Checkpoint, edit Edit) (v1.Image, error) {
	config, err := edit.extend(base, done)
	if err != nil {
		return nil, err
	}
	manifest, err := base.Manifest()
	if err != nil {
		return nil, fmt.Errorf("base manifest: %w", err)
	}
	made := core{layers: map[v1.Hash]func() (v1.Layer, error){}}
	for _, desc := range manifest.Layers {
		desc.MediaType = ociLayer(desc.MediaType)
		made.add(desc, func() (v1.Layer, error) { return base.LayerByDigest(desc.Digest) })
	}
	for _, step := range done {
		if err := made.addLayer(step.Layer); err != nil {
			return nil, err
		}
	}
	if made.config, err = json.Marshal(config); err != nil {
		return nil, err
	}
	return made.image()
}

// New makes an OCI image of a ready config and the layers it names.
func New(config []byte, layers []v1.Layer) (v1.Image, error) {
	made := core{config: config, layers: map[v1.Hash]func() (v1.Layer, error){}}
	for _, l := range layers {
		if err := made.addLayer(l); err != nil {
			return nil, err
		}
	}
	return made.image()
}

// extend is the base's config with what the bake adds and changes.
func (e Edit) extend(base v1.Image, done []bake.Checkpoint) (*v1.ConfigFile, error) {
	was, err := base.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("base config: %w", err)
	}
	c := was.DeepCopy()
	c.Container, c.DockerVersion = "", "" //nolint:staticcheck // deprecated, and so left out
	c.Config.Hostname, c.Config.Domainname, c.Config.Image, c.Config.MacAddress = "", "", "", ""
	c.Config.AttachStdin, c.Config.AttachStdout, c.Config.AttachStderr = false, false, false
	c.Config.OpenStdin, c.Config.StdinOnce, c.Config.Tty, c.Config.ArgsEscaped = false, false, false, false
	c.Created = v1.Time{Time: e.Epoch}
	if e.Author != "" {
		c.Author = e.Author
	}
	for _, step := range done {
		if step.Layer == nil {
			continue
		}
		diffID, err := step.Layer.DiffID()
		if err != nil {
			return nil, err
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diffID)
		c.History = append(c.History, e.history(step.CreatedBy, false))
	}
	before := c.Config.DeepCopy()
	if err := Instruct(&c.Config, e.Changes); err != nil {
		return nil, err
	}
	Apply(&c.Config, e.Config)
	if !reflect.DeepEqual(before, &c.Config) {
		c.History = append(c.History, e.history("imgbake config", true))
	}
	return c, nil
}

func (e Edit) history(by string, empty bool) v1.History {
	return v1.History{Created: v1.Time{Time: e.Epoch}, CreatedBy: by, Comment: e.Message, Author: e.Author, EmptyLayer: empty}
}

// core is an image of ready bytes whose layers are looked up when needed.
type core struct {
	config, manifest []byte
	descriptors      []v1.Descriptor
	layers           map[v1.Hash]func() (v1.Layer, error)
}

func (c *core) add(desc v1.Descriptor, find func() (v1.Layer, error)) {
	c.descriptors = append(c.descriptors, desc)
	c.layers[desc.Digest] = find
}

func (c *core) addLayer(l v1.Layer) error {
	if l == nil {
		return nil
	}
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return err
	}
	c.add(v1.Descriptor{MediaType: ociLayer(mediaType), Size: size, Digest: digest}, func() (v1.Layer, error) { return l, nil })
	return nil
}

// ociLayer is the OCI name of a Docker media type: the bytes are the same.
func ociLayer(t types.MediaType) types.MediaType {
	switch t {
	case types.DockerLayer:
		return types.OCILayer
	case types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer
	case types.DockerForeignLayer:
		return types.OCIRestrictedLayer
	}
	return t
}

func (c *core) image() (v1.Image, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(c.config))
	if err != nil {
		return nil, err
	}
	if c.descriptors == nil {
		c.descriptors = []v1.Descriptor{} // the key must be there
	}
	c.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: c.descriptors,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: size, Digest: digest},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(c)
}

// MediaType is that of an OCI manifest.
func (c *core) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest is the manifest.
func (c *core) RawManifest() ([]byte, error) { return c.manifest, nil }

// RawConfigFile is the config.
func (c *core) RawConfigFile() ([]byte, error) { return c.config, nil }

// LayerByDigest finds a layer of the base or of the bake.
func (c *core) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	find, ok := c.layers[digest]
	if !ok {
		return nil, fmt.Errorf("layer %s: %w", digest, fs.ErrNotExist)
	}
	return find()
}

// Describe is the artifact of an extended image: its digests, size and facts.
func Describe(img, base v1.Image, job bake.Job, platform v1.Platform, done []bake.Checkpoint) (bake.Artifact, error) {
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
	manifest, err := img.Manifest()
	if err != nil {
		return bake.Artifact{}, err
	}
	a := bake.Artifact{
		Builder: job.Type, MediaType: types.OCIManifestSchema1, Digest: digest, Size: bake.ImageSize(manifest),
		Platform: &platform, Image: img, Steps: done,
		Facts: map[string]string{"ImageSha256": id.String(), "Digest": digest.String()},
		Base:  bake.Base{Digest: baseDigest, ID: baseID},
	}
	for _, step := range done {
		a.Removed = append(a.Removed, step.Removed...)
	}
	return a, nil
}

// Epoch is the time of everything that a bake makes: the one asked for, or else
// that of its base, or else 1970.
func Epoch(job bake.Job, created time.Time) time.Time {
	switch {
	case job.Epoch != nil:
		return job.Epoch.UTC()
	case created.Unix() < 0: // no time at all is before 1970 too
		return time.Unix(0, 0).UTC()
	}
	return created.UTC().Truncate(time.Second)
}

// Identity tells trees to start steps on apart: the layers, and what of the
// configuration a step can notice. Engines agree on it.
func Identity(diffIDs []v1.Hash, config v1.Config, created time.Time, platform v1.Platform) string {
	sum := sha256.New()
	for _, diffID := range diffIDs {
		fmt.Fprintln(sum, diffID)
	}
	fmt.Fprintf(sum, "%q %q %d %s/%s", config.Env, config.WorkingDir, created.Unix(), platform.OS, platform.Architecture)
	return hex.EncodeToString(sum.Sum(nil))
}
