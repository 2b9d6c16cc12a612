// Package store keeps images, layers and cached results on disk: an OCI image
// layout with a small cache beside it. Several processes may use one store at
// the same time; what a killed one left behind is removed by the next.
//
//	oci-layout, index.json, blobs/    the layout; images may be sparse
//	cache/KIND/                       small values
//	tmp/                              unfinished files, one folder a process
//	lock                              held while index.json or tmp/ change
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNoSpace is what an error wraps when the disk is full.
var ErrNoSpace = errors.New("disk full")

// Store is an OCI image layout with a cache. It is safe for concurrent use.
type Store struct {
	dir     string
	tmp     *processDir
	fresh   sync.Map // digests of layers this process wrote: hashed as they went by
	presses *presses
}

// Open opens the store in dir, making it if needed, and removes what dead
// processes left behind.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, presses: newPresses()}
	for _, d := range []string{"blobs/sha256", "cache", "tmp"} {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return nil, s.fault("open store", err)
		}
	}
	err := s.locked(func() error {
		reap(s.path("tmp"))
		tmp, err := newProcessDir(s.path("tmp"))
		if err != nil {
			return err
		}
		s.tmp = tmp
		return s.initLayout()
	})
	if err != nil {
		s.Close()
		return nil, s.fault("open store", err)
	}
	return s, nil
}

// Close gives up what this process holds of the store, unfinished layers
// included.
func (s *Store) Close() error {
	if s.tmp == nil {
		return nil
	}
	return s.tmp.remove()
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) blobPath(h v1.Hash) (string, error) {
	if h.Algorithm != "sha256" || len(h.Hex) != 2*sha256.Size || strings.Trim(h.Hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %q is not a SHA-256 digest", h)
	}
	return s.path("blobs", "sha256", h.Hex), nil
}

// fault says what went wrong and where, and names a full disk as such.
func (s *Store) fault(doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s at %s: %w", ErrNoSpace, doing, s.dir, err)
	}
	return fmt.Errorf("%s at %s: %w", doing, s.dir, err)
}

// create makes a file in this process's folder.
func (s *Store) create() (*os.File, error) { return os.CreateTemp(s.tmp.dir, "") }

// Scratch makes a file without a name, for as long as it is open.
func (s *Store) Scratch() (*os.File, error) {
	f, err := s.create()
	if err != nil {
		return nil, s.fault("make a scratch file", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, s.fault("make a scratch file", err)
	}
	return f, nil
}

// putFile writes a file so that others see all of it or nothing. With sync it
// is on disk afterwards; what is checked on reading and can be made again need
// not be.
func (s *Store) putFile(path string, data []byte, sync bool) error {
	f, err := s.create()
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	return s.settle(f, path, sync, err)
}

// settle ends writing a file: closed and moved to its place.
func (s *Store) settle(f *os.File, path string, sync bool, err error) error {
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// putBlob keeps bytes under their digest.
func (s *Store) putBlob(data []byte) (v1.Hash, error) {
	h := hashOf(data)
	path, err := s.blobPath(h)
	if err != nil {
		return h, err
	}
	if _, err := s.blob(h, int64(len(data))); err == nil {
		return h, nil
	}
	if err := s.putFile(path, data, true); err != nil {
		return h, s.fault("write blob "+h.String(), err)
	}
	return h, nil
}

// blob reads a small blob and checks it. A damaged one is dropped, so that it is
// made or fetched anew.
func (s *Store) blob(h v1.Hash, limit int64) ([]byte, error) {
	path, err := s.blobPath(h)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("blob %s is not in the store at %s: %w", h, s.dir, fs.ErrNotExist)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("blob %s of %d bytes is over %d bytes", h, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, s.fault("read blob", err)
	}
	if hashOf(data) != h {
		return nil, errors.Join(fmt.Errorf("blob %s in the store at %s is damaged", h, s.dir), s.Drop(h))
	}
	touch(path)
	return data, nil
}

func hashOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// touch notes that a file was used and reports whether it is there.
func touch(path string) bool {
	now := time.Now() // the file system's time is the real one, for Prune in any process
	return os.Chtimes(path, now, now) == nil
}
