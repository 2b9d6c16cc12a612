package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// TestPacked unpacks what was packed, at the borders of blocks; gzip with another
// implementation.
func TestPacked(t *testing.T) {
	for _, c := range []struct {
		compression bake.Compression
		media       types.MediaType
		block       int
		unpack      func(io.Reader) (io.Reader, error)
	}{
		{bake.Gzip, types.OCILayer, gzipBlock, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{bake.Zstd, types.OCILayerZStd, zstdBlock, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
	} {
		s := open(t)
		plain := text(3*c.block + 1)
		for _, size := range []int{0, 1, gzipReach, c.block - 1, c.block, c.block + 1, 2 * c.block, 3*c.block + 1} {
			l := packed(t, s, c.compression, plain[:size])
			rc, err := l.Compressed()
			must(t, err)
			z, err := c.unpack(rc)
			must(t, err)
			got, err := io.ReadAll(z)
			must(t, errors.Join(err, rc.Close()))
			if !bytes.Equal(got, plain[:size]) {
				t.Errorf("%s: %d bytes come back as %d others", c.compression, size, len(got))
			}
			if diffID, _ := l.DiffID(); diffID != hashOf(plain[:size]) {
				t.Errorf("%s, %d bytes: diff ID %s", c.compression, size, diffID)
			}
			if media, err := l.MediaType(); media != c.media {
				t.Errorf("%s, %d bytes: media type %s, %v", c.compression, size, media, err)
			}
		}
	}
}

// TestPackedBytes holds each compression to one function: another digest here
// is another digest of every image that is baked.
func TestPackedBytes(t *testing.T) {
	for c, want := range map[bake.Compression]string{
		bake.Gzip: "sha256:3c310b8c213251389864b3a5a567ec86557ca863ade345c70ccb4ffec557b32e",
		bake.Zstd: "sha256:36180112e5464eb008c11e8ab2ef2eea6bfad73ece0d08e7235c8bfba0c1f3b8",
	} {
		l := packed(t, open(t), c, text(3*gzipBlock+1))
		if got, _ := l.Digest(); got.String() != want {
			t.Errorf("%s: digest %s, want %s", c, got, want)
		}
	}
}

// TestPlain: what was written can be had while more is to come, and the layer is the
// same one.
func TestPlain(t *testing.T) {
	for _, c := range []bake.Compression{bake.Gzip, bake.Zstd} {
		s := open(t)
		plain := text(3*zstdBlock + 100)
		want, err := packed(t, s, c, plain).Digest()
		must(t, err)
		w, err := s.NewLayer(t.Context(), c)
		must(t, err)
		defer w.Abort()
		written := 0
		for _, upTo := range []int{0, 10, gzipBlock, gzipBlock, gzipBlock + 1, zstdBlock, 3*zstdBlock + 1, len(plain)} {
			_, err := w.Write(plain[written:upTo])
			must(t, err)
			written = upTo
			var got bytes.Buffer
			n, err := w.Plain(&got)
			must(t, err)
			if n != int64(written) || !bytes.Equal(got.Bytes(), plain[:written]) {
				t.Errorf("%s: of %d bytes %d come back", c, written, n)
			}
		}
		l, err := w.Commit()
		must(t, err)
		if got, err := l.Digest(); got != want {
			t.Errorf("%s: the layer is %s, %v, want %s", c, got, err, want)
		}
	}
}

// TestManyLayersAtOnce: more layers than there is room for blocks, each with
// another one unfinished beside it, do not wait for each other.
func TestManyLayersAtOnce(t *testing.T) {
	s := open(t)
	plain := text(gzipBlock + 100)
	digests := make([]v1.Hash, 2*cap(s.presses.room))
	var group sync.WaitGroup
	for i := range digests {
		group.Go(func() {
			beside, err := s.NewLayer(t.Context(), bake.Gzip)
			if err != nil {
				t.Error(err)
				return
			}
			defer beside.Abort()
			fmt.Fprint(beside, "unfinished")
			w, err := s.NewLayer(t.Context(), bake.Gzip)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Abort()
			if _, err := w.Write(plain); err != nil {
				t.Error(err)
			}
			l, err := w.Commit()
			if err != nil {
				t.Error(err)
				return
			}
			digests[i], _ = l.Digest()
		})
	}
	group.Wait()
	for _, d := range digests {
		if d != digests[0] {
			t.Errorf("digests differ: %v", digests)
		}
	}
	if len(s.presses.room) != 0 {
		t.Errorf("%d blocks are still there", len(s.presses.room))
	}
}

func TestAbortEndsTheStages(t *testing.T) {
	s := open(t)
	w, err := s.NewLayer(t.Context(), bake.Gzip)
	must(t, err)
	_, err = w.Write(text(3 * gzipBlock))
	must(t, err)
	w.Abort()
	goleak.VerifyNone(t)
}

// TestWriteError: the error of the disk reaches the writer, and later blocks
// are not waited for.
func TestWriteError(t *testing.T) {
	s := open(t)
	w, err := s.NewLayer(t.Context(), bake.Gzip)
	must(t, err)
	must(t, w.f.Close())
	_, err = w.Write(text(3 * gzipBlock))
	if err == nil {
		_, err = w.Commit()
	}
	if err == nil {
		t.Error("a layer was kept that could not be written")
	}
	w.Abort()
	goleak.VerifyNone(t)
}

func TestPlaces(t *testing.T) {
	s := open(t)
	blob := hashOf([]byte("x"))
	for _, repository := range []string{"a", "b", "a", "c", "d", "e", "f", "g", "h", "i", "j"} {
		s.AddPlace("ghcr.io", blob, repository)
	}
	later, err := Open(s.Dir())
	must(t, err)
	defer later.Close()
	if got := fmt.Sprint(later.Places("ghcr.io", blob)); got != "[j i h g f e d c]" {
		t.Errorf("places %s", got)
	}
	if got := later.Places("quay.io", blob); got != nil {
		t.Errorf("places of another registry %q", got)
	}
}
