package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// Cached finds what PutCached kept. A damaged value counts as none.
func (s *Store) Cached(kind, key string) ([]byte, bool) {
	path := s.cachePath(kind, key)
	data, err := os.ReadFile(path)
	if err != nil || len(data) < sha256.Size {
		return nil, false
	}
	sum, value := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(value); !bytes.Equal(sum, want[:]) {
		return nil, false
	}
	touch(path)
	return value, true
}

// PutCached keeps a value of a kind, a short word. A later value of the key
// replaces it.
func (s *Store) PutCached(kind, key string, value []byte) error {
	if old, ok := s.Cached(kind, key); ok && bytes.Equal(old, value) {
		return nil
	}
	path := s.cachePath(kind, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return s.fault("write cache", err)
	}
	sum := sha256.Sum256(value)
	if err := s.putFile(path, append(sum[:], value...), false); err != nil {
		return s.fault("write cache", err)
	}
	return nil
}

func (s *Store) cachePath(kind, key string) string {
	sum := sha256.Sum256([]byte(key))
	return s.path("cache", strings.ReplaceAll(filepath.Base(kind), ".", "_"), hex.EncodeToString(sum[:]))
}
