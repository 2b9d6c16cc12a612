package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/store"
)

// maxRootfs bounds a root file system given as a tar: it is the user's own.
const maxRootfs = 1 << 40

func decompress(r io.Reader) (io.ReadCloser, error) {
	return layer.Decompress(r, layer.Limits{Bytes: maxRootfs, Ratio: 1 << 20})
}

// Rootfs makes an image of one layer out of a tar, plain or compressed with
// gzip or zstd, or finds the one made of the same bytes before. Its time is that
// of its newest file, so that the same tar makes the same image.
func (s *Sources) Rootfs(ctx context.Context, file string, platform v1.Platform) (v1.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, store.Reader(ctx, f)); err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%x/%s", sum.Sum(nil), platform)
	unlock, err := s.locks.Lock(ctx, "rootfs "+key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.cachedImage(rootfsKind, key, func() (savedImage, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return savedImage{}, err
		}
		return s.importRootfs(ctx, f, platform)
	})
}

const rootfsKind = "docker-rootfs"

func (s *Sources) importRootfs(ctx context.Context, r io.Reader, platform v1.Platform) (savedImage, error) {
	l, newest, err := importTar(ctx, s.Store, r)
	if err != nil {
		return savedImage{}, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return savedImage{}, err
	}
	digest, err := l.Digest()
	if err != nil {
		return savedImage{}, err
	}
	created := v1.Time{Time: newest}
	config, err := json.Marshal(v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant, Created: created,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
		History: []v1.History{{Created: created, CreatedBy: "imgbake rootfs"}},
	})
	return savedImage{Config: config, Layers: []v1.Hash{digest}}, err
}

// importTar stores a tar, plain or compressed, as a layer, byte for byte.
func importTar(ctx context.Context, s *store.Store, r io.Reader) (v1.Layer, time.Time, error) {
	none := time.Unix(0, 0).UTC()
	plain, err := decompress(store.Reader(ctx, r))
	if err != nil {
		return nil, none, err
	}
	defer plain.Close()
	w, err := s.NewLayer(ctx, bake.Gzip)
	if err != nil {
		return nil, none, err
	}
	defer w.Abort()
	newest, err := newestEntry(io.TeeReader(plain, w))
	if err != nil {
		return nil, none, err
	}
	l, err := w.Commit()
	return l, newest, err
}

// newestEntry reads a tar to its end.
func newestEntry(r io.Reader) (time.Time, error) {
	newest, entries := time.Unix(0, 0).UTC(), 0
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return newest, fmt.Errorf("reading the tar: %w", err)
		}
		entries++
		if h.ModTime.After(newest) {
			newest = h.ModTime.UTC().Truncate(time.Second)
		}
	}
	if entries == 0 {
		return newest, errors.New("the tar is empty")
	}
	_, err := io.Copy(io.Discard, r)
	return newest, err
}
