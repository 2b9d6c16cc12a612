package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"
)

// Tree is what a bake's tree became, twice: complete (raw), and as it is
// published, without noise. It is not safe for concurrent use.
type Tree struct {
	raw, published *Index
}

// NewTree starts at the base image's tree.
func NewTree(base *Index) *Tree { return &Tree{raw: base, published: base} }

// Raw is the complete tree so far: the base of the next Delta.
func (t *Tree) Raw() *Index { return t.raw }

// Published is the tree of the layers published so far.
func (t *Tree) Published() *Index { return t.published }

// Policy says how a delta becomes a published layer.
type Policy struct {
	Epoch   time.Time // later modification times become this
	Keep    []string  // patterns (with **) of noise to keep, with all below what they match
	Limits  Limits    // of the delta
	TempDir string    // for the rare file that must wait; empty: the system's
	// Rest, when not nil, gets what the layer lacks of the delta, as a layer
	// too: the tree before, then the published layer, then the rest make
	// exactly the tree after. See Resume.
	Rest io.Writer
}

// Result says what Publish did.
type Result struct {
	Entries   int      // in the layer, whiteouts included
	Removed   []string // noise left out, sorted; one line for many files of one directory
	Empty     bool     // nothing to publish: the layer must not be used
	RestEmpty bool     // the layer lacks nothing: the rest need not be kept
}

// Publish reads a delta that Delta made against Raw, checks it (its maker may
// be hostile), and writes the layer to publish. Times later than the epoch
// become the epoch in Raw too; what did not change keeps its time: Settle
// carries that over to the live tree. On an error the Tree is as it was.
func (t *Tree) Publish(ctx context.Context, delta io.Reader, policy Policy, w io.Writer) (Result, error) {
	p, err := t.Begin(policy, w)
	if err != nil {
		return Result{}, err
	}
	defer p.Close()
	in := newTarReader(ctx, delta, policy.Limits)
	if err := in.whole(func(h *tar.Header) error { return p.one(h, in) }); err != nil {
		return Result{}, fmt.Errorf("delta: %w", err)
	}
	return p.End()
}

// Publication is a layer that is being published: one run of Publish, or what a
// Draft hands on while it is put into. Close it at its end.
type Publication struct {
	tree     *Tree
	limits   Limits
	out      *layerWriter
	rest     *layerWriter
	noise    *noise
	epoch    int64
	tempDir  string
	raw, pub overlay
	removed  removals
	waiting  map[string]*os.File // contents of dropped files by path, for a further name
	firsts   map[string]string   // link group -> its first published name
	previous string              // path of the entry before
	started  bool
	start    int64 // where in the layer the content of its last file is
	sum      hash.Hash
	buf      []byte
}

// Begin starts a layer of what becomes of the tree, written to w. The tree is as
// it was until the layer ends.
func (t *Tree) Begin(policy Policy, w io.Writer) (*Publication, error) {
	noise, err := newNoise(policy.Keep)
	if err != nil {
		return nil, err
	}
	if policy.Rest == nil {
		policy.Rest = io.Discard
	}
	p := &Publication{
		tree: t, limits: policy.Limits, noise: noise, epoch: policy.Epoch.Unix(), tempDir: policy.TempDir,
		raw: overlay{base: t.raw}, pub: overlay{base: t.published},
		removed: removals{}, waiting: map[string]*os.File{}, firsts: map[string]string{}, sum: sha256.New(), buf: make([]byte, 256<<10),
	}
	p.out, p.rest = newLayerWriter(w, p.epoch, &p.pub), newLayerWriter(policy.Rest, p.epoch, &p.raw)
	return p, nil
}

// End ends the layer; the tree is the one after it.
func (p *Publication) End() (Result, error) {
	if err := p.out.Close(); err != nil {
		return Result{}, fmt.Errorf("write layer: %w", err)
	}
	if err := p.rest.Close(); err != nil {
		return Result{}, fmt.Errorf("write rest of the layer: %w", err)
	}
	p.tree.raw, p.tree.published = p.raw.index(), p.pub.index()
	return Result{
		Entries: p.out.entries, Removed: p.removed.list(), Empty: p.out.entries == 0, RestEmpty: p.rest.entries == 0,
	}, nil
}

// Close gives up what was needed for it.
func (p *Publication) Close() {
	for _, f := range p.waiting {
		f.Close()
	}
}

// one takes one entry of the delta. It goes to the layer as it is, or to the
// rest, or, in another form, to both.
func (p *Publication) one(h *tar.Header, content io.Reader) error {
	if isRoot(h) && !p.started {
		p.started = true
		e, err := entryOf(h, "")
		if err != nil {
			return err
		}
		e.ModTime = p.clamp(e.ModTime)
		p.raw.set(e) // the root belongs to the engine
		return p.rest.entry(e, "")
	}
	target, whiteout, err := strictName(h)
	if err != nil {
		return err
	}
	if err := p.next(target); err != nil {
		return fmt.Errorf("tar entry %q %w", clip(h.Name), err)
	}
	switch {
	case whiteout:
		return p.delete(target)
	case h.Typeflag == tar.TypeLink:
		return p.link(h, target)
	}
	e, err := strictEntry(h, target)
	if err != nil {
		return err
	}
	return p.entry(e, h.PAXRecords[linkedRecord] != "", content)
}

// next checks that a path is behind the one before, and has a directory.
func (p *Publication) next(path string) error {
	if p.started && path <= p.previous {
		return errors.New("is not in order")
	}
	p.started, p.previous = true, path
	if dir, ok := p.raw.lookup(parent(path)); !ok || dir.Type != Dir {
		return errors.New("has no parent directory")
	}
	return nil
}

// entry takes what is no deletion and no further name.
func (p *Publication) entry(e Entry, linked bool, content io.Reader) error {
	e.ModTime = p.clamp(e.ModTime)
	if e.Type == File {
		return p.file(e, linked, content)
	}
	p.raw.set(e)
	return p.plain(e)
}

func isRoot(h *tar.Header) bool {
	return h.Typeflag == tar.TypeDir && strings.TrimSuffix(h.Name, "/") == "."
}

// strictName is the path that an entry of a tar of our own is about.
func strictName(h *tar.Header) (target string, whiteout bool, err error) {
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if !validPath(name) {
		return "", false, fmt.Errorf("tar entry %q: path is not clean", clip(h.Name))
	}
	target, opaque, whiteout := whiteoutOf(name)
	if !whiteout {
		target = name
	}
	if opaque || !validPath(target) {
		return "", false, fmt.Errorf("tar entry %q is not in order", clip(h.Name))
	}
	return target, whiteout, nil
}

// strictEntry is an entry of a tar of our own, but for hard links.
func strictEntry(h *tar.Header, path string) (Entry, error) {
	e, err := entryOf(h, path)
	switch {
	case err != nil:
		return Entry{}, err
	case isSparse(h):
		return Entry{}, fmt.Errorf("tar entry %q is sparse", clip(h.Name))
	case e.isWhiteout():
		return Entry{}, fmt.Errorf("tar entry %q: device 0:0 is a whiteout of overlayfs", clip(h.Name))
	}
	return e, nil
}

func (p *Publication) delete(path string) error {
	if _, ok := p.raw.lookup(path); !ok {
		return fmt.Errorf("whiteout of %q, which is not there", clip(path))
	}
	p.raw.remove(path)
	if r := p.noise.rule(path); r != nil && r.Action == Ignore {
		return p.rest.whiteout(path)
	}
	if _, ok := p.pub.lookup(path); !ok {
		return p.rest.whiteout(path)
	}
	p.pub.remove(path)
	if err := p.ownParents(path); err != nil {
		return err
	}
	return p.out.whiteout(path)
}

// plain publishes what has no content.
func (p *Publication) plain(e Entry) error {
	if r := p.noise.verdict(e); r != nil {
		p.removed.add(r, e.Path)
		return p.rest.entry(e, "")
	}
	if e.Type == Dir && !p.hasDir(e.Path) {
		return p.write(e, "")
	}
	return p.unlessSame(e)
}

// unlessSame writes what has no content to the layer, or to the rest when
// layers before, without noise, made the same.
func (p *Publication) unlessSame(e Entry) error {
	if was, ok := p.pub.lookup(e.Path); ok && was.same(e) {
		return p.rest.entry(e, "")
	}
	return p.write(e, "")
}

// hasDir reports whether there is a directory at a path both in the published
// tree and in a complete one that the layer, as far as it is, is applied to.
func (p *Publication) hasDir(path string) bool {
	if e, ok := p.pub.edits[path]; ok {
		return e.Type == Dir
	}
	pub, ok := p.pub.lookup(path)
	before, was := p.raw.base.Lookup(path)
	return ok && was && pub.Type == Dir && before.Type == Dir
}

// file publishes a regular file.
func (p *Publication) file(e Entry, linked bool, content io.Reader) error {
	r := p.noise.verdict(e)
	if r != nil && r.Action == Truncate && !linked && e.Size == 0 {
		e.Digest = sha256.Sum256(nil)
		p.raw.set(e)
		return p.unlessSame(e)
	}
	to := []io.Writer{p.out}
	if r == nil {
		if err := p.write(e, ""); err != nil {
			return err
		}
		p.start = p.out.out.n
	} else {
		if err := p.rest.entry(e, ""); err != nil {
			return err
		}
		to[0] = p.rest
		if linked {
			f, err := p.wait(e.Path)
			if err != nil {
				return err
			}
			to = append(to, f)
		}
	}
	p.sum.Reset()
	if _, err := io.CopyBuffer(io.MultiWriter(append(to, p.sum)...), struct{ io.Reader }{content}, p.buf); err != nil {
		return fmt.Errorf("%q: %w", clip(e.Path), err)
	}
	p.sum.Sum(e.Digest[:0])
	p.raw.set(e)
	if r == nil {
		p.pub.set(e)
		p.firsts[e.Path] = e.Path
		return nil
	}
	p.removed.add(r, e.Path)
	if r.Action == Truncate && !linked {
		return p.truncated(e)
	}
	return nil
}

// truncated publishes a file without its content.
func (p *Publication) truncated(e Entry) error {
	e.Size, e.Digest = 0, sha256.Sum256(nil)
	if was, ok := p.pub.lookup(e.Path); ok && was.same(e) {
		return nil
	}
	return p.write(e, "")
}

// wait makes an unnamed file for the content of a dropped file that has other
// names, which may be published.
func (p *Publication) wait(path string) (*os.File, error) {
	f, err := os.CreateTemp(p.tempDir, "imgbake-link-")
	if err != nil {
		return nil, err
	}
	p.waiting[path] = f
	return f, os.Remove(f.Name())
}

// link publishes a further name of a file of this delta.
func (p *Publication) link(h *tar.Header, path string) error {
	first, ok := p.raw.edits[h.Linkname]
	if !ok || first.Type != File || first.Path >= path {
		return fmt.Errorf("tar entry %q: hard link to %q, which is not in the delta", clip(h.Name), clip(h.Linkname))
	}
	if first.LinkGroup == "" {
		first.LinkGroup = newGroup + first.Path
		p.raw.set(first)
	}
	e := first
	e.Path = path
	p.raw.set(e)
	group := first.LinkGroup[len(newGroup):]
	r := p.noise.verdict(e)
	to, ok := p.firsts[group]
	if r != nil || to != group { // the rest has all names of a file that it has the content of
		if err := p.rest.entry(e, group); err != nil {
			return err
		}
	}
	switch {
	case r != nil:
		p.removed.add(r, path)
		return nil
	case !ok:
		return p.adopt(e, group)
	}
	published := p.pub.edits[to]
	published.LinkGroup = first.LinkGroup
	p.pub.set(published)
	return p.write(e, to)
}

// adopt publishes a file under the first of its names that is no noise.
func (p *Publication) adopt(e Entry, group string) error {
	f := p.waiting[group]
	if f == nil {
		return fmt.Errorf("hard link %q to a file that was not marked as linked", clip(e.Path))
	}
	p.firsts[group] = e.Path
	if err := p.write(e, ""); err != nil {
		return err
	}
	_, err := io.CopyBuffer(p.out, io.NewSectionReader(f, 0, e.Size), p.buf)
	return err
}

// write writes an entry after the directories above it that are not published
// yet, because they are noise.
func (p *Publication) write(e Entry, link string) error {
	for dir := range above(e.Path) {
		if p.hasDir(dir) {
			continue
		}
		d, _ := p.raw.lookup(dir)
		d.ModTime = p.clamp(d.ModTime)
		p.raw.set(d)
		p.pub.set(d)
		if err := p.out.entry(d, ""); err != nil {
			return err
		}
	}
	p.pub.set(e)
	if err := p.ownParents(e.Path); err != nil {
		return err
	}
	return p.out.entry(e, link)
}

// ownParents names in the rest those directories above a path that the layer is
// about to name, and that are others in the complete tree.
func (p *Publication) ownParents(path string) error {
	for dir := range above(path) {
		if p.out.named[dir] {
			continue
		}
		raw, _ := p.raw.lookup(dir)
		raw.ModTime = p.epoch
		p.raw.set(raw)
		if pub, ok := p.pub.lookup(dir); !ok || !pub.same(raw) {
			if err := p.rest.name(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// clamp bounds a time from both sides: extractors disagree about times before
// 1970.
func (p *Publication) clamp(t int64) int64 { return max(0, min(t, p.epoch)) }
