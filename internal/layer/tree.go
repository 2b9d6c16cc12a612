package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
}

// Result says what Publish did.
type Result struct {
	Entries int      // in the layer, whiteouts included
	Removed []string // noise left out, sorted; one line for many files of one directory
	Empty   bool     // nothing to publish: the layer must not be used
}

// Publish reads a delta that Delta made against Raw, checks it (its maker may
// be hostile), and writes the layer to publish. On an error the Tree is as it
// was.
func (t *Tree) Publish(ctx context.Context, delta io.Reader, policy Policy, w io.Writer) (Result, error) {
	noise, err := newNoise(policy.Keep)
	if err != nil {
		return Result{}, err
	}
	counted := &countingReader{r: delta}
	p := &publisher{
		in: newTarReader(ctx, counted, policy.Limits), out: newTarWriter(w), noise: noise,
		epoch: policy.Epoch.Unix(), tempDir: policy.TempDir,
		raw: overlay{base: t.raw}, pub: overlay{base: t.published},
		removed: removals{}, waiting: map[string]*os.File{}, firsts: map[string]string{}, buf: make([]byte, 256<<10),
	}
	defer p.close()
	end := int64(0)
	for {
		h, err := p.in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Result{}, fmt.Errorf("delta: %w", err)
		}
		end = counted.n + (h.Size+511)&^511
		if err := p.one(h); err != nil {
			return Result{}, fmt.Errorf("delta: %w", err)
		}
	}
	if counted.n < end+1024 { // the tar package takes a missing end for an end
		return Result{}, fmt.Errorf("delta: read tar after %d entries: %w", p.in.entries, io.ErrUnexpectedEOF)
	}
	if err := p.out.Close(); err != nil {
		return Result{}, fmt.Errorf("write layer: %w", err)
	}
	t.raw, t.published = p.raw.index(), p.pub.index()
	return Result{Entries: p.out.entries, Removed: p.removed.list(), Empty: p.out.entries == 0}, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// publisher is one run of Publish.
type publisher struct {
	in       *tarReader
	out      *tarWriter
	noise    *noise
	epoch    int64
	tempDir  string
	raw, pub overlay
	removed  removals
	waiting  map[string]*os.File // contents of dropped files by path, for a further name
	firsts   map[string]string   // link group -> its first published name
	previous string              // path of the entry before
	started  bool
	buf      []byte
}

func (p *publisher) close() {
	for _, f := range p.waiting {
		f.Close()
	}
}

// one takes one entry of the delta.
func (p *publisher) one(h *tar.Header) error {
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if name == "." && h.Typeflag == tar.TypeDir && !p.started {
		p.started = true
		e, err := entryOf(h, "")
		p.raw.set(e) // the root belongs to the engine
		return err
	}
	if !validPath(name) {
		return fmt.Errorf("tar entry %q: path is not clean", clip(h.Name))
	}
	gone, opaque, whiteout := whiteoutOf(name)
	target := name
	if whiteout {
		target = gone
	}
	if opaque || !validPath(target) || p.started && target <= p.previous {
		return fmt.Errorf("tar entry %q is not in order", clip(h.Name))
	}
	p.started, p.previous = true, target
	if dir, ok := p.raw.lookup(parent(target)); !ok || dir.Type != Dir {
		return fmt.Errorf("tar entry %q has no parent directory", clip(h.Name))
	}
	switch {
	case whiteout:
		return p.delete(target)
	case h.Typeflag == tar.TypeLink:
		return p.link(h, target)
	}
	e, err := entryOf(h, target)
	if err != nil {
		return err
	}
	if isSparse(h) {
		return fmt.Errorf("tar entry %q is sparse", clip(h.Name))
	}
	if e.Type == File {
		return p.file(e, h.PAXRecords[linkedRecord] != "")
	}
	p.raw.set(e)
	return p.plain(e)
}

func (p *publisher) delete(path string) error {
	if _, ok := p.raw.lookup(path); !ok {
		return fmt.Errorf("whiteout of %q, which is not there", clip(path))
	}
	p.raw.remove(path)
	if r := p.noise.rule(path); r != nil && r.Action == Ignore {
		return nil
	}
	if _, ok := p.pub.lookup(path); !ok {
		return nil
	}
	p.pub.remove(path)
	return p.out.whiteout(path)
}

// plain publishes what has no content.
func (p *publisher) plain(e Entry) error {
	if r := p.noise.verdict(e); r != nil {
		p.removed.add(r, e.Path)
		return nil
	}
	e.ModTime = p.clamp(e.ModTime)
	if was, ok := p.pub.lookup(e.Path); ok && was.same(e) {
		return nil
	}
	return p.write(e, "")
}

// file publishes a regular file, whose content follows in the delta.
func (p *publisher) file(e Entry, linked bool) error {
	r := p.noise.verdict(e)
	sum := sha256.New()
	to := io.Writer(sum)
	if r == nil {
		published := e
		published.ModTime = p.clamp(e.ModTime)
		if err := p.write(published, ""); err != nil {
			return err
		}
		to = io.MultiWriter(p.out, sum)
	} else if linked {
		f, err := p.wait(e.Path)
		if err != nil {
			return err
		}
		to = io.MultiWriter(f, sum)
	}
	if _, err := io.CopyBuffer(to, struct{ io.Reader }{p.in}, p.buf); err != nil {
		return fmt.Errorf("%q: %w", clip(e.Path), err)
	}
	sum.Sum(e.Digest[:0])
	p.raw.set(e)
	switch {
	case r == nil:
		e.ModTime = p.clamp(e.ModTime)
		p.pub.set(e)
		p.firsts[e.Path] = e.Path
	case r.Action == Truncate && !linked:
		return p.truncated(e, r)
	default:
		p.removed.add(r, e.Path)
	}
	return nil
}

// truncated publishes a file without its content.
func (p *publisher) truncated(e Entry, r *Rule) error {
	if e.Size > 0 {
		p.removed.add(r, e.Path)
	}
	e.Size, e.Digest, e.ModTime = 0, sha256.Sum256(nil), p.clamp(e.ModTime)
	if was, ok := p.pub.lookup(e.Path); ok && was.same(e) {
		return nil
	}
	return p.write(e, "")
}

// wait makes an unnamed file for the content of a dropped file that has other
// names, which may be published.
func (p *publisher) wait(path string) (*os.File, error) {
	f, err := os.CreateTemp(p.tempDir, "imgbake-link-")
	if err != nil {
		return nil, err
	}
	p.waiting[path] = f
	return f, os.Remove(f.Name())
}

// link publishes a further name of a file of this delta.
func (p *publisher) link(h *tar.Header, path string) error {
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
	if r := p.noise.verdict(e); r != nil {
		p.removed.add(r, path)
		return nil
	}
	e.ModTime = p.clamp(e.ModTime)
	if to, ok := p.firsts[first.LinkGroup[len(newGroup):]]; ok {
		published := p.pub.edits[to]
		published.LinkGroup = first.LinkGroup
		p.pub.set(published)
		return p.write(e, to)
	}
	return p.adopt(e, first.LinkGroup[len(newGroup):])
}

// adopt publishes a file under the first of its names that is no noise.
func (p *publisher) adopt(e Entry, group string) error {
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
func (p *publisher) write(e Entry, link string) error {
	for i := range e.Path {
		if e.Path[i] != '/' {
			continue
		}
		dir := e.Path[:i]
		if was, ok := p.pub.lookup(dir); ok && was.Type == Dir {
			continue
		}
		d, _ := p.raw.lookup(dir)
		d.ModTime = p.clamp(d.ModTime)
		p.pub.set(d)
		if err := p.out.entry(d, ""); err != nil {
			return err
		}
	}
	p.pub.set(e)
	return p.out.entry(e, link)
}

// clamp bounds a time from both sides: extractors disagree about times before
// 1970.
func (p *publisher) clamp(t int64) int64 { return max(0, min(t, p.epoch)) }

// newGroup marks the name of a link group until the index is made, so that it
// cannot be taken for one of the base.
const newGroup = "\x00"

// overlay is an index with edits on top.
type overlay struct {
	base  *Index
	edits map[string]Entry
	gone  map[string]bool
}

func (o *overlay) lookup(p string) (Entry, bool) {
	if e, ok := o.edits[p]; ok {
		return e, true
	}
	if anyAbove(o.gone, p) {
		return Entry{}, false
	}
	return o.base.Lookup(p)
}

func (o *overlay) set(e Entry) {
	if was, ok := o.lookup(e.Path); ok && was.Type == Dir && e.Type != Dir {
		o.remove(e.Path)
	}
	if o.edits == nil {
		o.edits = map[string]Entry{}
	}
	o.edits[e.Path] = e
}

func (o *overlay) remove(p string) {
	if o.gone == nil {
		o.gone = map[string]bool{}
	}
	o.gone[p] = true
}

// index is the base with the edits.
func (o *overlay) index() *Index { return o.base.with(o.edits, o.gone) }
