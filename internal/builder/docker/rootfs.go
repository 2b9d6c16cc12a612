package docker

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
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/store"
)

// maxRootfs bounds a root file system given as a tar: it is the user's own.
const maxRootfs = 1 << 40

func decompress(r io.Reader) (io.ReadCloser, error) {
	return layer.Decompress(r, layer.Limits{Bytes: maxRootfs, Ratio: 1 << 20})
}

// rootfs makes an image of one layer out of a tar, or finds the one made of
// the same bytes before.
func (e *Engine) rootfs(ctx context.Context, file string, platform v1.Platform) (bake.Artifact, error) {
	f, err := os.Open(file)
	if err != nil {
		return bake.Artifact{}, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, contextReader{ctx, f}); err != nil {
		return bake.Artifact{}, err
	}
	key := fmt.Sprintf("%x/%s", sum.Sum(nil), platform)
	unlock, err := e.bases.lock(ctx, "rootfs "+key)
	if err != nil {
		return bake.Artifact{}, err
	}
	defer unlock()
	img, err := e.cachedImage(rootfsKind, key, func() (savedImage, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return savedImage{}, err
		}
		return e.importRootfs(ctx, f, platform)
	})
	if err != nil {
		return bake.Artifact{}, err
	}
	digest, err := img.Digest()
	return bake.Artifact{MediaType: types.OCIManifestSchema1, Image: img, Digest: digest, Platform: &platform}, err
}

const rootfsKind = "docker-rootfs"

// importRootfs gives the image the time of its newest file, so that the same
// tar makes the same image.
func (e *Engine) importRootfs(ctx context.Context, r io.Reader, platform v1.Platform) (savedImage, error) {
	l, newest, err := importTar(ctx, e.deps.Store, r)
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
	plain, err := decompress(contextReader{ctx, r})
	if err != nil {
		return nil, none, err
	}
	defer plain.Close()
	w, err := s.NewLayer(ctx)
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
