package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Put unpacks a tar below the directory dst as a machine's Put does. When it
// comes to what takes a kernel, it has done what came before, and returns the
// rest of the tar, to be unpacked at the root of a live tree that Replay has
// brought to where this one is. If dst itself is such a thing, nothing of r is
// read, and the error is one for Beyond.
func (d *Draft) Put(ctx context.Context, dst string, r io.Reader) (rest io.ReadCloser, err error) {
	p := drafting{
		Draft: d, ctx: ctx, dst: strings.Trim(path.Join("/", dst), "/"),
		in: tar.NewReader(bufio.NewReaderSize(r, tarBuffer)), from: r, buf: make([]byte, tarBuffer),
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	for {
		h, err := p.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.entry(h)
		}
		if errors.Is(err, errBeyond) {
			return p.rest(h), nil
		}
		if err != nil {
			return nil, err
		}
	}
	if !p.finish() {
		return p.rest(nil), nil
	}
	return nil, p.drain()
}

// drafting is one run of Put.
type drafting struct {
	*Draft
	ctx  context.Context
	dst  string
	made bool // dst was not there before
	in   *tar.Reader
	from io.Reader // what in reads
	buf  []byte
	dirs []*tar.Header // directories of the tar, by their real paths: their times are set last
}

// enter finds or makes the directory that the tar goes to.
func (p *drafting) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left || len(p.dst) > maxPath {
		return errBeyond
	}
	p.touched = true
	_, missing, err := p.resolve(p.dst)
	if err != nil {
		return err
	}
	p.made = len(missing) > 0
	_, err = p.directory(p.dst)
	return err
}

// finish gives directories the times that the tar says.
func (p *drafting) finish() (done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, dir := range slices.Backward(p.dirs) {
		p.setTime(dir.Name, unixTime(dir))
	}
	return !p.left
}

// next is the next entry, with names as seen from the root. What the tar says of
// dst counts only if it was not there.
func (p *drafting) next() (*tar.Header, error) {
	for {
		if p.ctx.Err() != nil {
			return nil, context.Cause(p.ctx)
		}
		h, err := p.in.Next()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("reading the tar: %w", err)
		}
		name, err := cleanName(h.Name)
		if err == nil && h.Typeflag == tar.TypeLink {
			var to string
			to, err = cleanName(h.Linkname)
			h.Linkname = below(p.dst, to)
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader || name == "" && !p.made {
			continue
		}
		h.Name = strings.TrimSuffix(below(p.dst, name), "/")
		return h, nil
	}
}

// drain reads what follows the end of the tar.
func (p *drafting) drain() error {
	_, err := io.Copy(io.Discard, p.from)
	return err
}

func (p *drafting) entry(h *tar.Header) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := path.Base(h.Name)
	if p.left || len(name) > maxName || len(h.Name) > maxPath || len(h.Linkname) > maxPath || strings.HasPrefix(name, whiteoutPrefix) ||
		hasXattrs(h) || isSparse(h) || min(h.Uid, h.Gid) < 0 || max(h.Uid, h.Gid) > p.maxID {
		return errBeyond
	}
	dir, err := p.directory(parent(h.Name))
	if err != nil {
		return err
	}
	e := Entry{Path: below(dir, name), Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: unixTime(h)}
	was, _ := p.tree.lookup(e.Path)
	if p.skip.skips(e.Path) || was.Type == Symlink && e.Path != h.Name && h.Typeflag != tar.TypeDir { // the way may lead by what is replaced
		return errBeyond
	}
	switch h.Typeflag {
	case tar.TypeDir:
		e.Type = Dir
		return p.dir(h, e)
	case tar.TypeReg:
		e.Type, e.Size = File, h.Size
		return p.file(e)
	case tar.TypeLink:
		return p.link(h, e)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return errBeyond
		}
		e.Type, e.Mode, e.Linkname = Symlink, 0o777, h.Linkname
		if err := p.replace(e); err != nil {
			return err
		}
		_, err = p.hand(e, nil)
		return err
	}
	return errBeyond
}

// What Linux takes (limits.h), less the ends of strings.
const (
	maxName = 255
	maxPath = 4000 // as seen from the root of the machine, which may not be that of the kernel
)

func hasXattrs(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, xattrRecord) {
			return true
		}
	}
	return false
}

func unixTime(h *tar.Header) int64 {
	if h.ModTime.IsZero() {
		return 0
	}
	return h.ModTime.Unix()
}

// dir makes a directory, or gives one its attributes.
func (p *drafting) dir(h *tar.Header, e Entry) error {
	was, there := p.tree.lookup(e.Path)
	if there && was.Type == Symlink {
		real, missing, err := p.resolve(e.Path)
		if err != nil || len(missing) > 0 {
			return errBeyond
		}
		e.Path = real
		was, _ = p.tree.lookup(real)
	}
	switch {
	case !there || was.Type != Dir:
		if err := p.replace(e); err != nil {
			return err
		}
	case len(was.Xattrs) > 0: // an ACL holds a part of the mode
		return errBeyond
	default:
		p.tree.set(e)
	}
	if _, err := p.hand(e, nil); err != nil {
		return err
	}
	late := *h
	late.Name = e.Path
	p.dirs = append(p.dirs, &late)
	return nil
}

func (p *drafting) file(e Entry) error {
	if err := p.check(e); err != nil { // before its content is read
		return err
	}
	at, err := p.keep(e)
	if err != nil {
		return err
	}
	if err := p.replace(e); err != nil {
		return err
	}
	p.files[e.Path] = at
	return nil
}

// keep keeps a file's content: in the layer, if that is written already, or else
// in the scratch file.
func (p *drafting) keep(e Entry) (*content, error) {
	taken, err := p.hand(e, p.in)
	if err != nil {
		return nil, err
	}
	if taken {
		return &content{offset: p.follower.to.start}, nil
	}
	at := &content{offset: p.end}
	if _, err := io.CopyBuffer(scratchWriter{p.Draft}, struct{ io.Reader }{p.in}, p.buf); err != nil {
		return nil, fmt.Errorf("%q: %w", clip(e.Path), err)
	}
	return at, nil
}

// scratchWriter writes to the end of the contents: what is small, together.
type scratchWriter struct{ *Draft }

func (w scratchWriter) Write(b []byte) (int, error) {
	if len(w.unsaved)+len(b) > tarBuffer {
		if err := w.save(); err != nil {
			return 0, err
		}
	}
	if len(b) < tarBuffer {
		w.unsaved = append(w.unsaved, b...)
	} else if _, err := w.scratch.WriteAt(b, w.end); err != nil {
		return 0, err
	}
	w.end += int64(len(b))
	return len(b), nil
}

// save writes what the scratch file lacks.
func (d *Draft) save() error {
	_, err := d.scratch.WriteAt(d.unsaved, d.end-int64(len(d.unsaved)))
	if err == nil {
		d.unsaved = d.unsaved[:0]
	}
	return err
}

// failedReader gives an error only.
type failedReader struct{ err error }

func (f failedReader) Read([]byte) (int, error) { return 0, f.err }

// link gives a file of the draft a further name.
func (p *drafting) link(h *tar.Header, e Entry) error {
	if h.Linkname == h.Name {
		return nil
	}
	dir, missing, err := p.resolve(parent(h.Linkname))
	if err != nil {
		return err
	}
	to := below(dir, path.Base(h.Linkname))
	at := p.files[to]
	if len(missing) > 0 || at == nil || to == e.Path {
		return errBeyond
	}
	linked := p.tree.edits[to]
	linked.Path = e.Path
	p.lose() // the first name would have had to be marked
	if err := p.replace(linked); err != nil {
		return err
	}
	p.files[e.Path] = at
	return nil
}

// rest is what is left of the tar, from the entry h on; nil: none. The directories of the
// tar come once more at its end, for their times.
func (p *drafting) rest(h *tar.Header) io.ReadCloser {
	out, in := io.Pipe()
	go func() { in.CloseWithError(p.copyRest(h, in)) }()
	return out
}

func (p *drafting) copyRest(h *tar.Header, w io.Writer) error {
	out := newTarWriter(w)
	var err error
	if h == nil {
		err = io.EOF
	}
	for ; err == nil; h, err = p.next() {
		h.Format = tar.FormatPAX
		if err := out.header(h); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{p.in}, p.buf); err != nil {
			return err
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	for _, dir := range p.dirs {
		if err := out.header(dir); err != nil {
			return err
		}
	}
	return errors.Join(p.drain(), out.Close())
}
