package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// diffIDs is the cache kind that holds the diff ID of each layer.
const diffIDs = "diffid"

// LayerWriter takes a layer's plain tar. Call Commit or Abort at its end;
// Abort after Commit does nothing.
type LayerWriter struct {
	store *Store
	ctx   context.Context
	f     *os.File
	pack  *packer
	done  bool
}

// NewLayer starts a layer. Cancelling the context makes further writes fail.
func (s *Store) NewLayer(ctx context.Context, c bake.Compression) (*LayerWriter, error) {
	f, err := s.create()
	if err != nil {
		return nil, s.fault("write layer", err)
	}
	return &LayerWriter{store: s, ctx: ctx, f: f, pack: newPacker(s.presses, s.presses.codec(c), f)}, nil
}

// Write takes more of the layer; p is copied. An error of the disk may come
// with a later call.
func (w *LayerWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.pack.Write(p)
	if err != nil {
		return n, w.store.fault("write layer", err)
	}
	return n, nil
}

// Plain writes to out what was written so far, out of the layer itself, and returns
// how many bytes that is.
func (w *LayerWriter) Plain(out io.Writer) (int64, error) {
	if w.done {
		return 0, errors.New("reading the layer: it has ended")
	}
	w.pack.settle()
	if err := w.pack.failed.Load(); err != nil {
		return 0, w.store.fault("write layer", *err)
	}
	if w.pack.sent > 0 {
		in, err := layer.Decompress(io.NewSectionReader(w.f, 0, 1<<62), layer.BakeLimits())
		if err != nil {
			return 0, err
		}
		defer in.Close()
		if _, err := io.CopyN(out, in, w.pack.sent); err != nil {
			return 0, fmt.Errorf("reading the layer: %w", err)
		}
	}
	if w.pack.block == nil {
		return w.pack.sent, nil
	}
	n, err := out.Write(w.pack.block.plain)
	return w.pack.sent + int64(n), err
}

// Commit makes the layer part of the store.
func (w *LayerWriter) Commit() (v1.Layer, error) {
	defer w.Abort()
	err := w.pack.finish()
	if err == nil {
		err = w.ctx.Err()
	}
	if err != nil {
		return nil, w.store.fault("write layer", err)
	}
	digest, diffID := sumOf(w.pack.packed), sumOf(w.pack.plain)
	path, err := w.store.blobPath(digest)
	if err != nil {
		return nil, err
	}
	if !touch(path) {
		w.done = true
		// Not synced: the disk may hold much that others wrote, and a layer
		// that a crash has cut short is noticed, and dropped, when it is read.
		if err := w.store.settle(w.f, path, false, nil); err != nil {
			return nil, w.store.fault("write layer", err)
		}
		w.store.fresh.Store(digest, true)
	}
	if err := w.store.PutCached(diffIDs, digest.String(), []byte(diffID.String())); err != nil {
		return nil, err
	}
	return w.store.Layer(digest)
}

// Abort drops the layer.
func (w *LayerWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.pack.stop()
	w.f.Close()
	os.Remove(w.f.Name())
}

func sumOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// Layer is a layer the store has. One it has not is an error that wraps
// fs.ErrNotExist.
func (s *Store) Layer(digest v1.Hash) (v1.Layer, error) {
	path, err := s.blobPath(digest)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("layer %s is not in the store at %s: %w", digest, s.dir, fs.ErrNotExist)
	}
	return &storedLayer{path: path, digest: digest, size: info.Size(), store: s}, nil
}

// PutLayer copies a layer into the store unless it is there. What it says to be
// its diff ID is believed of the layer that is returned only: the content has
// not been unpacked yet.
func (s *Store) PutLayer(ctx context.Context, l v1.Layer) (v1.Layer, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return nil, err
	}
	path, err := s.blobPath(digest)
	if err != nil {
		return nil, err
	}
	if !touch(path) {
		if err := s.copyLayer(ctx, l, digest, path); err != nil {
			if disk := (*fs.PathError)(nil); errors.As(err, &disk) {
				return nil, s.fault("write layer "+digest.String(), err)
			}
			return nil, fmt.Errorf("layer %s: %w", digest, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, s.fault("write layer "+digest.String(), err)
	}
	return &storedLayer{path: path, digest: digest, diffID: diffID, size: info.Size(), store: s}, nil
}

// PutLayers copies layers into the store, several at a time. Those of the same
// digest are fetched once.
func (s *Store) PutLayers(ctx context.Context, layers []v1.Layer, jobs int) ([]v1.Layer, error) {
	first := map[v1.Hash]int{}
	out := make([]v1.Layer, len(layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, errors.Join(err, group.Wait())
		}
		if _, seen := first[digest]; seen {
			continue
		}
		first[digest] = i
		group.Go(func() error {
			stored, err := s.PutLayer(ctx, l)
			out[i] = stored
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		out[i] = out[first[digest]]
	}
	return out, nil
}

func (s *Store) copyLayer(ctx context.Context, l v1.Layer, digest v1.Hash, path string) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	f, err := s.create()
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &ctxReader{ctx, verified(rc, digest)})
	return s.settle(f, path, false, err)
}

// Reader reads until its context ends.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &ctxReader{ctx, r} }

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// storedLayer is a v1.Layer that reads from the store when asked.
type storedLayer struct {
	path   string
	digest v1.Hash
	diffID v1.Hash // zero: not asked yet
	size   int64
	store  *Store
	media  types.MediaType // "": to be seen from the content
}

// Digest is the hash of the compressed layer.
func (l *storedLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// Size is the size of the compressed layer.
func (l *storedLayer) Size() (int64, error) { return l.size, nil }

// MediaType is what the image says the layer is, or else what it looks like.
func (l *storedLayer) MediaType() (types.MediaType, error) {
	if l.media != "" {
		return l.media, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return "", fmt.Errorf("layer %s: %w", l.digest, err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return types.OCILayer, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return types.OCILayerZStd, nil
	}
	return types.OCIUncompressedLayer, nil
}

// DiffID is the hash of the plain layer.
func (l *storedLayer) DiffID() (v1.Hash, error) {
	if l.diffID != (v1.Hash{}) {
		return l.diffID, nil
	}
	if known, ok := l.store.Cached(diffIDs, l.digest.String()); ok {
		if h, err := v1.NewHash(string(known)); err == nil {
			return h, nil
		}
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return v1.Hash{}, err
	}
	defer rc.Close()
	h := sha256.New()
	if _, err := io.Copy(h, rc); err != nil {
		return v1.Hash{}, err
	}
	return sumOf(h), l.store.PutCached(diffIDs, l.digest.String(), []byte(sumOf(h).String()))
}

// Compressed opens the layer as it is stored. Reading to the end fails when
// the content is not what the digest says; the layer is then dropped, so that
// it is made or fetched anew. What this process has just written is not checked
// again.
func (l *storedLayer) Compressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	touch(l.path)
	if _, fresh := l.store.fresh.Load(l.digest); fresh {
		return f, nil
	}
	checked := &verifier{r: f, want: l.digest, hash: sha256.New(), damaged: func() { os.Remove(l.path) }}
	return readCloser{checked, f.Close}, nil
}

// Uncompressed opens the plain tar.
func (l *storedLayer) Uncompressed() (io.ReadCloser, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	plain, err := layer.Decompress(rc, layer.BakeLimits())
	if err != nil {
		rc.Close()
		return nil, fmt.Errorf("layer %s: %w", l.digest, err)
	}
	return readCloser{plain, func() error { plain.Close(); return rc.Close() }}, nil
}

type readCloser struct {
	io.Reader
	close func() error
}

// Close closes what is read from.
func (r readCloser) Close() error { return r.close() }

// verified gives an error instead of the end when the content is not what the
// digest says.
func verified(r io.Reader, want v1.Hash) io.Reader {
	return &verifier{r: r, want: want, hash: sha256.New()}
}

// DamagedError is content that is not what its digest says. The blob of a store
// that it was in is dropped when it is found.
type DamagedError struct{ Want, Got v1.Hash }

// Error tells both digests.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("content of %s is damaged: it hashes to %s", e.Want, e.Got)
}

type verifier struct {
	r    io.Reader
	want v1.Hash
	hash hash.Hash

	damaged func() // may be nil
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := sumOf(v.hash); got != v.want {
			if v.damaged != nil {
				v.damaged()
			}
			return n, &DamagedError{Want: v.want, Got: got}
		}
	}
	return n, err
}
