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

	"go.uber.org/goleak"
)

// TestPacked unpacks with another implementation, at the borders of blocks.
func TestPacked(t *testing.T) {
	s := open(t)
	plain := text(3*gzipBlock + 1)
	for _, size := range []int{0, 1, gzipReach, gzipBlock - 1, gzipBlock, gzipBlock + 1, 2 * gzipBlock, 3*gzipBlock + 1} {
		l := putLayer(t, s, plain[:size])
		rc, err := l.Compressed()
		must(t, err)
		z, err := gzip.NewReader(rc)
		must(t, err)
		got, err := io.ReadAll(z)
		must(t, errors.Join(err, rc.Close()))
		if !bytes.Equal(got, plain[:size]) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
		if diffID, _ := l.DiffID(); diffID != hashOf(plain[:size]) {
			t.Errorf("%d bytes: diff ID %s", size, diffID)
		}
	}
}

// TestPackedBytes holds the compression to one function: another digest here
// is another digest of every image that is baked.
func TestPackedBytes(t *testing.T) {
	l := putLayer(t, open(t), text(3*gzipBlock+1))
	const want = "sha256:3c310b8c213251389864b3a5a567ec86557ca863ade345c70ccb4ffec557b32e"
	if got, _ := l.Digest(); got.String() != want {
		t.Errorf("digest %s, want %s", got, want)
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
			beside, err := s.NewLayer(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer beside.Abort()
			fmt.Fprint(beside, "unfinished")
			w, err := s.NewLayer(t.Context())
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
	w, err := s.NewLayer(t.Context())
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
	w, err := s.NewLayer(t.Context())
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
