package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// contentOf finds the base's layers by digest: in the registry it came from,
// where nothing but the manifest is fetched for now; else by saving it out of
// the engine, once, into the store.
func (e *Engine) contentOf(ctx context.Context, b *base) (v1.Image, error) {
	unlock, err := e.bases.lock(ctx, "content "+b.engineID)
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

const savedKind = "docker-saved"

// savedImage is what the store remembers of an image that was saved.
type savedImage struct {
	Config []byte    `json:"config"`
	Layers []v1.Hash `json:"layers"` // digests, base first
}

// saved gives the image from the store, saving it out of the engine first if
// need be.
func (e *Engine) saved(ctx context.Context, b *base) (v1.Image, error) {
	img, err := e.cachedImage(savedKind, b.engineID, func() (savedImage, error) {
		s := saver{ctx: ctx, engine: e, layers: map[v1.Hash]v1.Layer{}, texts: map[string][]byte{}}
		stream, err := e.api.ImageSave(ctx, []string{b.engineID})
		if err != nil {
			return savedImage{}, err
		}
		defer stream.Close()
		if err := s.read(stream); err != nil {
			return savedImage{}, err
		}
		return s.image()
	})
	if err != nil {
		return nil, fmt.Errorf("saving %s out of the engine: %w", b.name, err)
	}
	return img, nil
}

// cachedImage finds an image in the store, or makes and remembers it.
func (e *Engine) cachedImage(kind, key string, make func() (savedImage, error)) (v1.Image, error) {
	if data, ok := e.deps.Store.Cached(kind, key); ok {
		if img, err := e.restore(data); err == nil {
			return img, nil
		}
	}
	saved, err := make()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(saved)
	if err != nil {
		return nil, err
	}
	_ = e.deps.Store.PutCached(kind, key, data) // a cache that cannot be written costs time only
	return e.restore(data)
}

func (e *Engine) restore(data []byte) (v1.Image, error) {
	var s savedImage
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	layers := make([]v1.Layer, len(s.Layers))
	for i, digest := range s.Layers {
		var err error
		if layers[i], err = e.deps.Store.Layer(digest); err != nil {
			return nil, err
		}
	}
	return newImage(s.Config, layers)
}

// maxText bounds the JSON files of a saved image.
const maxText = 8 << 20

// saver reads the stream of docker save: layers go into the store by their
// content, whatever the engine's version calls them.
type saver struct {
	ctx    context.Context
	engine *Engine
	layers map[v1.Hash]v1.Layer // by diffID
	texts  map[string][]byte
}

func (s *saver) read(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content := bufio.NewReaderSize(tr, 1<<16)
		if isText(h.Name, content) {
			text, err := io.ReadAll(io.LimitReader(content, maxText))
			if err != nil {
				return err
			}
			s.texts[h.Name] = text
			continue
		}
		if err := s.layer(content); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// isText tells the JSON files and the one-word files of old formats from layers.
func isText(name string, content *bufio.Reader) bool {
	if strings.HasSuffix(name, "/VERSION") || name == "repositories" {
		return true
	}
	first, err := content.Peek(1)
	return err != nil || first[0] == '{' || first[0] == '['
}

func (s *saver) layer(content io.Reader) error {
	plain, err := decompress(content)
	if err != nil {
		return err
	}
	defer plain.Close()
	w, err := s.engine.deps.Store.NewLayer(s.ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, plain); err != nil {
		return err
	}
	l, err := w.Commit()
	if err != nil {
		return err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return err
	}
	s.layers[diffID] = l
	return nil
}

// image puts the config and its layers together.
func (s *saver) image() (savedImage, error) {
	var manifest []struct{ Config string }
	if err := json.Unmarshal(s.texts["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return savedImage{}, errors.New("the engine's manifest.json does not describe one image")
	}
	raw := s.texts[manifest[0].Config]
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return savedImage{}, fmt.Errorf("config: %w", err)
	}
	out := savedImage{Config: raw}
	for _, diffID := range config.RootFS.DiffIDs {
		l, ok := s.layers[diffID]
		if !ok {
			return savedImage{}, fmt.Errorf("layer %s is missing", diffID)
		}
		digest, err := l.Digest()
		if err != nil {
			return savedImage{}, err
		}
		out.Layers = append(out.Layers, digest)
	}
	return out, nil
}

// newImage makes an OCI image of a config and the layers it names.
func newImage(config []byte, layers []v1.Layer) (v1.Image, error) {
	descriptors := make([]v1.Descriptor, len(layers))
	find := map[v1.Hash]func() (v1.Layer, error){}
	for i, l := range layers {
		desc, err := describe(l)
		if err != nil {
			return nil, err
		}
		descriptors[i] = desc
		find[desc.Digest] = func() (v1.Layer, error) { return l, nil }
	}
	return assemble(config, descriptors, find)
}

func describe(l v1.Layer) (v1.Descriptor, error) {
	digest, err := l.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := l.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: ociLayer(mediaType), Size: size, Digest: digest}, nil
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
