package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// reads is what a bake has read of a folder, kept while there are digests to be
// made of it: a file is then not read once more for its digest, and one that has
// changed since it was baked is noticed.
type reads struct {
	mu     sync.Mutex
	wanted int // digests that nobody has asked for yet
	seen   map[string]*seen
}

// seen is a file or directory as it was when it was opened first.
type seen struct {
	stat    unix.Stat_t
	digest  string // of a file that was read to its end
	hashing bool
	changed bool // it was another one when it was opened again
}

// digest is one that is made later, of what is read until then too.
func (r *reads) digest(makeIt func() (string, error)) func() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted++
	return func() (string, error) {
		defer r.made()
		return makeIt()
	}
}

func (r *reads) made() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted--; r.wanted == 0 {
		r.seen = nil
	}
}

// note keeps what is at a path; nil when nobody wants to know.
func (r *reads) note(path string, stat unix.Stat_t) *seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted == 0 {
		return nil
	}
	s := r.seen[path]
	if s == nil {
		if r.seen == nil {
			r.seen = map[string]*seen{}
		}
		s = &seen{stat: stat}
		r.seen[path] = s
	}
	s.changed = s.changed || s.stat != stat
	return s
}

// hear lets a file's reader make its digest, unless there is one or another
// reader does.
func (r *reads) hear(f *plainFile) {
	s := r.note(f.Name, f.stat)
	if s == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.digest == "" && !s.hashing && !s.changed {
		s.hashing = true
		f.ear = &ear{Hash: sha256.New(), reads: r, seen: s}
	}
}

// at is what is known of a path.
func (r *reads) at(path string) (seen, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[path]
	if s == nil {
		return seen{}, false
	}
	return *s, true
}

// same reports the first of directories, just listed, that had other names in it
// when it was listed for a bake.
func (r *reads) same(dirs []string) error {
	for _, dir := range dirs {
		if s, _ := r.at(dir); s.changed {
			return changedError(dir)
		}
	}
	return nil
}

// ear hashes a file as it is read.
type ear struct {
	hash.Hash
	reads *reads
	seen  *seen
	size  int64
}

// hear takes what was read.
func (e *ear) hear(p []byte, err error) {
	e.Write(p) // never fails (hash.Hash)
	e.size += int64(len(p))
	if err == io.EOF && e.size == e.seen.stat.Size {
		e.reads.mu.Lock()
		defer e.reads.mu.Unlock()
		e.seen.digest = sumOf(e.Hash)
	}
}

// close leaves what was not read to its end to the next reader.
func (e *ear) close() {
	e.reads.mu.Lock()
	defer e.reads.mu.Unlock()
	e.seen.hashing = false
}

func sumOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// lasting is what of a stat stays while nobody changes the file: reading it may
// change when it was used, and writing it back how many blocks it has.
func lasting(stat unix.Stat_t) unix.Stat_t {
	stat.Atim, stat.Blocks = unix.Timespec{}, 0
	return stat
}

func changedError(path string) error { return fmt.Errorf("%s changed while it was baked", path) }
