package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"maps"
	"slices"
)

// follower hands on to a publication what is put into a draft, while it is put.
// What comes in the order of a layer, and is not touched again, need not be kept
// anywhere else.
type follower struct {
	to     *Publication
	plain  func(io.Writer) (int64, error)
	before []string // directories that the draft made by itself at its start, sorted; still to come
	used   tally
	sum    hash.Hash
	buf    []byte
	lost   bool // what was put is no layer as it came
}

// Follow hands on what is put from now on, into the tree that the publication
// starts at. Should contents be asked for, plain writes the layer's tar as far as
// it is, and returns how many bytes that is. It reports whether that will do: nothing was put yet.
func (d *Draft) Follow(p *Publication, plain func(io.Writer) (int64, error)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.touched || d.left || p.tree.raw != d.tree.base {
		return false
	}
	d.follower = &follower{
		to: p, plain: plain, before: slices.Sorted(maps.Keys(d.tree.edits)), sum: sha256.New(), used: tally{limits: p.limits.withDefaults()},
	}
	return true
}

// Followed ends that. It reports whether the publication has all that Delta
// gives, and may end. If not, it is of no use.
func (d *Draft) Followed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.follower
	if f == nil {
		return false
	}
	for _, p := range f.before {
		_, _ = d.handOne(f, d.tree.edits[p], nil) // an error is that it is lost
	}
	if !f.lost && !bytes.Equal(f.sum.Sum(nil), d.sum(f)) {
		d.lose()
	}
	d.follower = nil
	if !f.lost {
		d.without(errors.New("its content was in a layer that could not be written"))
	}
	return !f.lost
}

// sum is what the follower's would be, had it been handed all as it is now.
func (d *Draft) sum(f *follower) []byte {
	now := &follower{to: f.to, sum: sha256.New()}
	for _, p := range slices.Sorted(maps.Keys(d.tree.edits)) {
		e := d.tree.edits[p]
		if b, was := d.tree.base.Lookup(p); was && e.sameMetadata(b) && e.Type != File {
			continue
		}
		var offset int64
		if at := d.files[p]; at != nil {
			offset = at.offset
		}
		now.note(e, offset)
	}
	return now.sum.Sum(nil)
}

// note adds an entry to what was handed on. A time that the layer will not tell
// does not count.
func (f *follower) note(e Entry, offset int64) {
	e.ModTime = f.to.clamp(e.ModTime)
	f.buf = binary.AppendVarint(appendEntry(f.buf[:0], e, ""), offset)
	_, _ = f.sum.Write(f.buf)
}

// hand hands an entry on, after the directories it is in, as far as they are new.
// It reports whether the layer has it now, and the content of a file with it.
func (d *Draft) hand(e Entry, content io.Reader) (bool, error) {
	f := d.follower
	if f == nil || f.lost {
		return false, nil
	}
	for ; len(f.before) > 0 && f.before[0] <= e.Path; f.before = f.before[1:] {
		if f.before[0] == e.Path {
			continue
		}
		if _, err := d.handOne(f, d.tree.edits[f.before[0]], nil); err != nil {
			return false, err
		}
	}
	for p := range above(e.Path) {
		if dir, made := d.tree.edits[p]; made && f.to.raw.edits[p].Type != Dir {
			if _, err := d.handOne(f, dir, nil); err != nil {
				return false, err
			}
		}
	}
	return d.handOne(f, e, content)
}

func (d *Draft) handOne(f *follower, e Entry, content io.Reader) (bool, error) {
	b, was := d.tree.base.Lookup(e.Path)
	if f.lost || was && e.sameMetadata(b) {
		if e.Type == File {
			d.lose() // only its content tells whether it changed
		}
		return false, nil
	}
	if !f.takes(e) {
		d.lose()
		return false, nil
	}
	err := f.to.entry(e, false, content)
	var offset int64
	if e.Type == File {
		offset = f.to.start
	}
	f.note(e, offset)
	if err != nil || f.to.rest.entries > 0 { // the rest is not written
		d.lose()
	}
	return err == nil, err
}

// takes reports whether an entry is one that the publication takes now, within
// the limits of a delta. What is over them is an error that Publish tells.
func (f *follower) takes(e Entry) bool {
	name := e.Path
	if e.Type == Dir {
		name += "/" // as in a tar
	}
	return f.used.check(&tar.Header{Name: name, Linkname: e.Linkname, Size: e.Size, Uid: e.UID, Gid: e.GID}) == nil &&
		f.to.next(e.Path) == nil && (e.Type != File || f.to.noise.verdict(e) == nil)
}

// lose gives following up: contents that only the layer has come to the scratch
// file, where they are at the same place.
func (d *Draft) lose() {
	if f := d.follower; f != nil && !f.lost {
		f.lost = true
		err := f.to.out.flush()
		if err == nil {
			d.end, err = f.plain(io.NewOffsetWriter(d.scratch, 0))
		}
		if err != nil {
			d.end = 0
			d.without(err)
		}
	}
}

// without says why there are no contents of the files put so far. Those that are put
// from now on, perhaps the same ones again, have theirs.
func (d *Draft) without(err error) {
	for _, at := range d.files {
		at.err = err
	}
}
