package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// reads is what a run has read of the inputs in a folder, by whomever. So a file is
// not read once more for its digest; and where something else is read than before,
// for a digest or by a step, the digest and what steps did cannot be told to belong
// together.
type reads struct {
	mu      sync.Mutex
	wanted  map[string]int // inputs: how many digests of each nobody has asked for yet
	seen    map[string]*seen
	links   map[string]string // their targets
	changed map[string]bool   // what was not always the same; true: a directory came or went
}

// seen is a file or directory as it was first.
type seen struct {
	state
	content string // of a file its digest, once it is known; of a directory its names
	hashing bool
}

// state is what changes when a file does, but for what a network file system may
// answer anew each time, such as inode numbers.
type state struct {
	size         int64
	mode         fs.FileMode // as the system has it
	mtime, ctime int64
}

func stateOf(stat unix.Stat_t) state {
	return state{stat.Size, fs.FileMode(stat.Mode), stat.Mtim.Nano(), stat.Ctim.Nano()}
}

// want has an input's files noted, and hashed as they are read until its digest is
// made.
func (r *reads) want(input string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted == nil {
		r.wanted, r.seen = map[string]int{}, map[string]*seen{}
		r.links, r.changed = map[string]string{}, map[string]bool{}
	}
	r.wanted[input]++
}

// made is told when an input's digest is.
func (r *reads) made(input string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted[input]--
}

// input reports whether a path is, or is below, an input, and whether a digest of
// one is still to be made.
func (r *reads) input(name string) (is, wanted bool) {
	for {
		n, found := r.wanted[name]
		is, wanted = is || found, wanted || n > 0
		if wanted || name == "." {
			return is, wanted
		}
		name = path.Dir(name)
	}
}

// note compares what is at a path with what was there first.
func (r *reads) note(name string, now state) *seen {
	s := r.seen[name]
	if s == nil {
		s = &seen{state: now}
		r.seen[name] = s
	}
	if s.state != now {
		r.change(name, false)
	}
	return s
}

func (r *reads) change(name string, dir bool) { r.changed[name] = r.changed[name] || dir }

// opened notes a file, and has its reader make its digest where one is wanted and
// nobody has it or makes it.
func (r *reads) opened(f *plainFile) {
	if s, wanted := r.watch(f); wanted {
		f.ear = r.listen(s)
	}
}

// watch notes a file that is of an input, also when it will be closed.
func (r *reads) watch(f *plainFile) (s *seen, wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	is, wanted := r.input(f.Name)
	if !is {
		return nil, false
	}
	f.reads = r
	return r.note(f.Name, stateOf(f.stat)), wanted
}

func (r *reads) listen(s *seen) *ear {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.content != "" || s.hashing {
		return nil
	}
	s.hashing = true
	return &ear{Hash: sha256.New(), reads: r, seen: s}
}

// again looks at what was seen before, and reports whether it is the same, and
// always was.
func (r *reads) again(name string, now state) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(name, now)
	_, changed := r.changed[name]
	return !changed
}

// hashed keeps the digest of a file that was read to its end.
func (r *reads) hashed(s *seen, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.content == "" {
		s.content = digest
	}
}

// listed notes what is in a directory. Only the names that are not in both lists, or
// are of another type, have changed: an input may leave them out.
func (r *reads) listed(dir string, list []fs.DirEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is, _ := r.input(dir); !is {
		return
	}
	_, again := r.seen[dir]
	s, now := r.note(dir, state{mode: unix.S_IFDIR}), namesOf(list)
	switch {
	case !again:
		s.content = now
	case s.mode == unix.S_IFDIR && s.content != now:
		for name, isDir := range differing(s.content, now) {
			r.change(path.Join(dir, name), isDir)
		}
	}
}

// namesOf is a directory's entries as one text: types and names.
func namesOf(list []fs.DirEntry) string {
	var b strings.Builder
	for _, d := range list {
		b.WriteString(kind(d.Type()) + " " + d.Name() + "/")
	}
	return b.String()
}

func kind(mode fs.FileMode) string { return strconv.FormatUint(uint64(mode), 36) }

// differing are the names of entries that one of two directories has, and the other
// has not, and whether one is a directory's.
func differing(one, other string) map[string]bool {
	names := map[string]bool{}
	count := map[string]int{}
	for entry := range strings.SplitSeq(one, "/") {
		count[entry]++
	}
	for entry := range strings.SplitSeq(other, "/") {
		count[entry]--
	}
	for entry, n := range count {
		if n != 0 {
			of, name, _ := strings.Cut(entry, " ")
			names[name] = names[name] || of == kind(fs.ModeDir)
		}
	}
	return names
}

// linked notes where a link leads to.
func (r *reads) linked(name, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is, _ := r.input(name); !is {
		return
	}
	if was, again := r.links[name]; again && was != target {
		r.change(name, false)
	}
	r.links[name] = target
}

// at is what is known of a path.
func (r *reads) at(name string) (seen, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[name]
	if s == nil {
		return seen{}, false
	}
	return *s, true
}

// changes are the paths that were not always the same.
func (r *reads) changes() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.changed)
}

// ear hashes a file as it is read.
type ear struct {
	hash.Hash
	reads *reads
	seen  *seen
	size  int64
}

// take takes what was read.
func (e *ear) take(p []byte, err error) {
	e.Write(p) // never fails (hash.Hash)
	e.size += int64(len(p))
	if err == io.EOF && e.size == e.seen.size {
		e.reads.hashed(e.seen, sumOf(e.Hash))
	}
}

// close leaves what was not read to its end to the next reader.
func (e *ear) close() {
	e.reads.mu.Lock()
	defer e.reads.mu.Unlock()
	e.seen.hashing = false
}

func sumOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

func changedError(path string) error { return fmt.Errorf("%s changed while it was baked", path) }
