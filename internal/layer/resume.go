package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Resume brings Raw and Published to where Publish left them, by the layer and
// the rest that Publish wrote. Either may be nil, for one that is empty. Both
// may come from strangers: what could not have been made from this Tree is an
// error, and then the Tree is as it was. Whether they belong together is for
// the caller to know.
func (t *Tree) Resume(ctx context.Context, published, rest Opener) error {
	raw, pub := overlay{base: t.raw}, overlay{base: t.published}
	r := resumer{busy: map[string]bool{}, buf: make([]byte, 256<<10)}
	for _, part := range []struct {
		name string
		open Opener
		onto []*overlay
	}{{"published layer", published, []*overlay{&raw, &pub}}, {"rest of the layer", rest, []*overlay{&raw}}} {
		if part.open == nil {
			continue
		}
		r.onto = part.onto
		if err := r.read(ctx, part.open); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	t.raw, t.published = raw.index(), pub.index()
	return nil
}

// resumer is one run of Resume.
type resumer struct {
	in   *tarReader
	onto []*overlay
	busy map[string]bool // the directories above what was set
	buf  []byte
	// groups counts link groups: a name may be taken from one and begin
	// another.
	groups int
}

func (r *resumer) read(ctx context.Context, open Opener) (err error) {
	rc, err := open()
	if err != nil {
		return err
	}
	defer func() {
		if closing := rc.Close(); err == nil { // where a verifying reader may complain
			err = closing
		}
	}()
	plain, err := Decompress(rc, BakeLimits())
	if err != nil {
		return err
	}
	defer plain.Close()
	r.in = newTarReader(ctx, plain, BakeLimits())
	if err := r.in.whole(r.one); err != nil {
		return err
	}
	return drain(plain)
}

// drain reads what follows the end of a tar, for readers that verify a digest.
func drain(r io.Reader) error {
	if n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer)); err != nil || n < maxTrailer {
		return err
	}
	return fmt.Errorf("more than %d bytes follow the end of the tar: %w", maxTrailer-1, ErrLimit)
}

const maxTrailer = 1 << 20

// one takes one entry.
func (r *resumer) one(h *tar.Header) error {
	if isRoot(h) {
		e, err := entryOf(h, "")
		if err == nil && len(r.onto) > 1 {
			err = errors.New("the root is never published")
		}
		if err == nil {
			r.onto[0].set(e)
		}
		return err
	}
	p, whiteout, err := strictName(h)
	if err != nil {
		return err
	}
	for _, o := range r.onto {
		if dir, ok := o.lookup(parent(p)); !ok || dir.Type != Dir {
			return fmt.Errorf("tar entry %q has no parent directory", clip(h.Name))
		}
		if _, ok := o.lookup(p); whiteout && !ok {
			return fmt.Errorf("whiteout of %q, which is not there", clip(p))
		}
	}
	if r.busy[p] && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("tar entry %q is in the way of entries before it", clip(h.Name))
	}
	if whiteout {
		return r.delete(p)
	}
	e, err := r.entry(h, p)
	if err != nil {
		return err
	}
	for _, o := range r.onto {
		o.set(e)
	}
	for dir := parent(p); dir != "" && !r.busy[dir]; dir = parent(dir) {
		r.busy[dir] = true
	}
	return nil
}

func (r *resumer) delete(p string) error {
	for _, o := range r.onto {
		if _, ok := o.edits[p]; ok {
			return fmt.Errorf("whiteout of %q, which is new", clip(p))
		}
		o.remove(p)
	}
	return nil
}

// entry is what an entry says, with the hash of its content.
func (r *resumer) entry(h *tar.Header, p string) (Entry, error) {
	if h.Typeflag == tar.TypeLink {
		return r.link(h, p)
	}
	e, err := strictEntry(h, p)
	if err != nil || e.Type != File {
		return e, err
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{r.in}, r.buf); err != nil {
		return e, fmt.Errorf("%q: %w", clip(p), err)
	}
	sum.Sum(e.Digest[:0])
	return e, nil
}

// link is a further name of a file that is new.
func (r *resumer) link(h *tar.Header, p string) (Entry, error) {
	e, ok := r.onto[0].edits[h.Linkname] // so far all have the same edits
	if !ok || e.Type != File || e.Path == p {
		return e, fmt.Errorf("tar entry %q: hard link to %q, which is not new", clip(h.Name), clip(h.Linkname))
	}
	if e.LinkGroup == "" {
		r.groups++
		e.LinkGroup = newGroup + strconv.Itoa(r.groups)
		for _, o := range r.onto {
			o.set(e)
		}
	}
	e.Path = p
	return e, nil
}
