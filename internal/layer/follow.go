package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"maps"
	"slices"
)

// follower hands on to a publication what is put into a draft, while it is put.
// What comes in the order of a layer, and is not touched again, need not be read
// again for it.
type follower struct {
	to     *Publication
	before []string // directories that the draft made by itself at its start, sorted; still to come
	used   tally
	sum    hash.Hash
	buf    []byte
	lost   bool // what was put is no layer as it came
}

// Follow hands on what is put from now on, into the tree that the publication
// starts at. It reports whether that will do: nothing was put yet.
func (d *Draft) Follow(p *Publication) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.touched || d.left || p.tree.raw != d.tree.base {
		return false
	}
	d.follower = &follower{
		to: p, before: slices.Sorted(maps.Keys(d.tree.edits)), sum: sha256.New(), used: tally{limits: p.limits.withDefaults()},
	}
	return true
}

// Followed ends that. It reports whether the publication has all that Delta
// gives, and may end. If not, it is of no use.
func (d *Draft) Followed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.follower
	d.follower = nil
	if f == nil {
		return false
	}
	for ; len(f.before) > 0; f.before = f.before[1:] {
		d.handOne(f, d.tree.edits[f.before[0]], nil, 0)
	}
	return !f.lost && bytes.Equal(f.sum.Sum(nil), d.sum(f))
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
// The content of a file is at the offset.
func (d *Draft) hand(e Entry, content io.Reader, offset int64) {
	f := d.follower
	if f == nil || f.lost {
		return
	}
	for ; len(f.before) > 0 && f.before[0] <= e.Path; f.before = f.before[1:] {
		if f.before[0] != e.Path {
			d.handOne(f, d.tree.edits[f.before[0]], nil, 0)
		}
	}
	for p := range above(e.Path) {
		if dir, made := d.tree.edits[p]; made && f.to.raw.edits[p].Type != Dir {
			d.handOne(f, dir, nil, 0)
		}
	}
	d.handOne(f, e, content, offset)
}

func (d *Draft) handOne(f *follower, e Entry, content io.Reader, offset int64) {
	b, was := d.tree.base.Lookup(e.Path)
	switch {
	case f.lost:
	case !was || !e.sameMetadata(b):
		f.lost = f.take(e, content) != nil || f.to.rest.entries > 0 // the rest is not written
		f.note(e, offset)
	case e.Type == File:
		f.lost = true // only its content tells whether it changed
	}
}

// take gives the publication an entry, within the limits of a delta. What is over
// them is an error that Publish tells.
func (f *follower) take(e Entry, content io.Reader) error {
	name := e.Path
	if e.Type == Dir {
		name += "/" // as in a tar
	}
	err := f.used.check(&tar.Header{Name: name, Linkname: e.Linkname, Size: e.Size, Uid: e.UID, Gid: e.GID})
	if err == nil {
		err = f.to.next(e.Path)
	}
	if err == nil {
		err = f.to.entry(e, false, content)
	}
	return err
}

// lose gives following up.
func (d *Draft) lose() {
	if d.follower != nil {
		d.follower.lost = true
	}
}
