package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Verify reads a blob to its end. One that is not what its digest says is
// dropped, so that it is made or fetched anew.
func (s *Store) Verify(ctx context.Context, digest v1.Hash) error {
	path, err := s.blobPath(digest)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("layer %s is not in the store at %s: %w", digest, s.dir, fs.ErrNotExist)
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, &ctxReader{ctx, verified(f, digest)})
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, s.Drop(digest))
	}
	return err
}

// Drop removes a blob.
func (s *Store) Drop(digest v1.Hash) error {
	path, err := s.blobPath(digest)
	if err != nil {
		return err
	}
	s.fresh.Delete(digest)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fault("drop blob "+digest.String(), err)
	}
	return nil
}
