package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/store"
)

const savedKind = "docker-saved"

// savedImage is what the store remembers of an image that was saved.
type savedImage struct {
	Config []byte    `json:"config"`
	Layers []v1.Hash `json:"layers"` // digests, base first
}

// Saved is the image of a stream that docker save makes, opened only if the
// store does not remember the image of the key.
func (s *Sources) Saved(ctx context.Context, key string, open func() (io.ReadCloser, error)) (v1.Image, error) {
	return s.cachedImage(savedKind, key, func() (savedImage, error) {
		stream, err := open()
		if err != nil {
			return savedImage{}, err
		}
		defer stream.Close()
		r := saver{ctx: ctx, store: s.Store, layers: map[v1.Hash]v1.Layer{}, texts: map[string][]byte{}}
		if err := r.read(stream); err != nil {
			return savedImage{}, err
		}
		return r.image()
	})
}

// cachedImage finds an image in the store, or makes and remembers it.
func (s *Sources) cachedImage(kind, key string, make func() (savedImage, error)) (v1.Image, error) {
	if data, ok := s.Store.Cached(kind, key); ok {
		if img, err := s.restore(data); err == nil {
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
	_ = s.Store.PutCached(kind, key, data) // a cache that cannot be written costs time only
	return s.restore(data)
}

func (s *Sources) restore(data []byte) (v1.Image, error) {
	var saved savedImage
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, err
	}
	layers := make([]v1.Layer, len(saved.Layers))
	for i, digest := range saved.Layers {
		var err error
		if layers[i], err = s.Store.Layer(digest); err != nil {
			return nil, err
		}
	}
	return imageconfig.New(saved.Config, layers)
}

// maxText bounds the JSON files of a saved image.
const maxText = 8 << 20

// saver reads the stream of docker save: layers go into the store by their
// content, whatever the engine's version calls them.
type saver struct {
	ctx    context.Context
	store  *store.Store
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
	w, err := s.store.NewLayer(s.ctx, bake.Gzip)
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
		return savedImage{}, errors.New("its manifest.json does not describe one image")
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
