package plan

import (
	"sync"
	"sync/atomic"
)

// Digest is that of a host file's content, sha256:…, or of a directory's canonical
// listing. It is made when it is first asked for.
type Digest struct {
	make func() (string, error)
	done atomic.Bool
}

// NewDigest is a digest that the function makes.
func NewDigest(makeIt func() (string, error)) *Digest {
	d := &Digest{}
	d.make = sync.OnceValues(func() (string, error) {
		defer d.done.Store(true)
		return makeIt()
	})
	return d
}

// Get gives the digest; of nil there is none.
func (d *Digest) Get() (string, error) {
	if d == nil {
		return "", nil
	}
	return d.make()
}

// Known is the digest if somebody has asked for it, and it could be had.
func (d *Digest) Known() string {
	if d == nil || !d.done.Load() {
		return ""
	}
	text, err := d.make()
	if err != nil {
		return ""
	}
	return text
}

// MarshalText has it made: what is printed is complete.
func (d *Digest) MarshalText() ([]byte, error) {
	text, err := d.Get()
	return []byte(text), err
}
