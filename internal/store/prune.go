package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrInUse is what the error of Prune wraps while another process, or another
// Store of this one, uses the store.
var ErrInUse = errors.New("in use")

type usedFile struct {
	path string
	size int64
	used time.Time
}

// Prune removes what was not used for longer than age, and then the longest
// unused until at most maxBytes are left; zero means no limit. It tells how
// many bytes are free now.
func (s *Store) Prune(maxBytes int64, age time.Duration) (freed int64, err error) {
	err = s.locked(func() error {
		if reap(s.path("tmp")) > 1 { // this one is alive
			return ErrInUse
		}
		freed, err = s.prune(maxBytes, age)
		return err
	})
	if err != nil {
		return freed, s.fault("prune store", err)
	}
	return freed, nil
}

func (s *Store) prune(maxBytes int64, age time.Duration) (freed int64, err error) {
	files, total, err := s.usedFiles()
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		old := age > 0 && time.Since(f.used) > age
		if !old && (maxBytes <= 0 || total <= maxBytes) {
			break // the others were used later
		}
		if err := os.Remove(f.path); err != nil {
			return freed, err
		}
		total -= f.size
		freed += f.size
	}
	return freed, s.editIndexLocked(func(list []v1.Descriptor) []v1.Descriptor {
		return slices.DeleteFunc(list, func(d v1.Descriptor) bool {
			path, err := s.blobPath(d.Digest)
			if err != nil {
				return true
			}
			_, err = os.Stat(path)
			return errors.Is(err, fs.ErrNotExist)
		})
	})
}

// usedFiles lists blobs and cached values, the longest unused first.
func (s *Store) usedFiles() (files []usedFile, total int64, err error) {
	for _, dir := range []string{s.path("blobs"), s.path("cache")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				files = append(files, usedFile{path, info.Size(), info.ModTime()})
				total += info.Size()
			}
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(files, func(a, b usedFile) int { return a.used.Compare(b.used) })
	return files, total, nil
}
