package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Use is what one kind of content takes: layers, images (their manifests and
// configs), steps (the cache's entries), other (what is quicker read than found
// out again).
type Use struct {
	Kind  string `json:"kind"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

// Usage counts the store's content by kind.
func (s *Store) Usage() ([]Use, error) {
	files, _, err := s.usedFiles()
	if err != nil {
		return nil, s.fault("list store", err)
	}
	images := s.imageBlobs()
	uses := []Use{{Kind: "layers"}, {Kind: "images"}, {Kind: "steps"}, {Kind: "other"}}
	steps := s.path("cache", "step") + string(filepath.Separator)
	for _, f := range files {
		kind := 3
		switch {
		case images[filepath.Base(f.path)]:
			kind = 1
		case strings.HasPrefix(f.path, s.path("blobs")):
			kind = 0
		case strings.HasPrefix(f.path, steps):
			kind = 2
		}
		uses[kind].Files++
		uses[kind].Bytes += f.size
	}
	return uses, nil
}

// imageBlobs are the manifests and configs of recorded images, as hex. An image
// that cannot be read has none.
func (s *Store) imageBlobs() map[string]bool {
	found := map[string]bool{}
	index, err := s.index()
	if err != nil {
		return nil
	}
	for _, d := range index.Manifests {
		found[d.Digest.Hex] = true
		path, err := s.blobPath(d.Digest)
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(path) // not as blob does: that would count as use
		if err != nil {
			continue
		}
		if m, err := v1.ParseManifest(bytes.NewReader(raw)); err == nil {
			found[m.Config.Digest.Hex] = true
		}
	}
	return found
}

// Size is how many bytes the files below a folder take; none if it is not there.
func Size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what is gone, or closed to us, takes no space that counts
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
