package plan

import (
	"sync"
	"sync/atomic"
)

// Digest is that of a host file's content, sha256:…, or of a directory's canonical
// listing. It is made when it is first asked for.
type Digest struct {
	make  func() (string, error)
	still func() error
	done  atomic.Bool
}

// Content is what a digest is made of.
type Content interface {
	Digest() (string, error)
	// Still is an error if something else was read of it than the digest is of.
	Still() error
}

// NewDigest is a digest that a function makes once. What still says, if there is
// one, counts whenever the digest is asked for.
func NewDigest(makeIt func() (string, error), still func() error) *Digest {
	d := &Digest{still: still}
	d.make = sync.OnceValues(func() (string, error) {
		defer d.done.Store(true)
		return makeIt()
	})
	return d
}

// Get gives the digest, unless something else was read by now; of nil there is
// none.
func (d *Digest) Get() (string, error) {
	if d == nil {
		return "", nil
	}
	text, err := d.make()
	if err == nil && d.still != nil {
		err = d.still()
	}
	if err != nil {
		return "", err
	}
	return text, nil
}

// Known is the digest if somebody has asked for it, and it could be had.
func (d *Digest) Known() string {
	if d == nil || !d.done.Load() {
		return ""
	}
	text, _ := d.Get()
	return text
}

// MarshalText has it made: what is printed is complete.
func (d *Digest) MarshalText() ([]byte, error) {
	text, err := d.Get()
	return []byte(text), err
}
