package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// Draft is a tree that tars are put into while no file system holds it: what a
// step that copies files needs, and no machine. It gives the bytes that Delta
// gives of the same tars unpacked in a live tree. What it cannot do exactly as a
// kernel would, it leaves to one. It is safe for concurrent use.
type Draft struct {
	mu      sync.Mutex // for as long as one entry takes: who writes a tar may have to ask something in between
	left    bool
	tree    overlay
	files   map[string]*content // of the files put, by path; names of one file share it
	now     int64               // the time of what changes by itself: made or entered directories
	skip    skipper
	scratch *os.File
	end     int64 // of the scratch file

	last struct{ said, real string } // the directory of the entry before, most often also of the next
}

// content is where a file's bytes are in the scratch file.
type content struct{ offset int64 }

// errBeyond says that an entry takes a kernel: it is an error there, or touches
// what only one knows, such as mounts, ACLs and capabilities.
var errBeyond = errors.New("not without a file system")

// NewDraft starts at a tree. Directories that get a time by themselves get that
// of now, Unix seconds. Skip are paths that a machine has mounts at. The scratch
// file holds contents; it is closed, and best has no name any more.
func NewDraft(base *Index, now int64, skip []string, scratch *os.File) *Draft {
	return &Draft{tree: overlay{base: base}, files: map[string]*content{}, now: max(now, 0), skip: newSkipper(skip), scratch: scratch}
}

// Leave makes the draft one that takes no more: what is put is the rest, as if
// it took a kernel.
func (d *Draft) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = true
}

// Close gives up the scratch file, when nothing is put any more.
func (d *Draft) Close() error { return d.scratch.Close() }

// Empty reports whether nothing was put.
func (d *Draft) Empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tree.edits) == 0
}

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
	if p.left {
		return errBeyond
	}
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
		hasXattrs(h) || isSparse(h) || h.Uid < 0 || h.Gid < 0 {
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
		return p.replace(e)
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
	late := *h
	late.Name = e.Path
	p.dirs = append(p.dirs, &late)
	return nil
}

func (p *drafting) file(e Entry) error {
	if err := p.check(e); err != nil { // before its content is read
		return err
	}
	at := &content{offset: p.end}
	if _, err := io.CopyBuffer(&scratchWriter{p.Draft}, struct{ io.Reader }{p.in}, p.buf); err != nil {
		return fmt.Errorf("%q: %w", clip(e.Path), err)
	}
	if err := p.replace(e); err != nil {
		return err
	}
	p.files[e.Path] = at
	return nil
}

// scratchWriter writes to the end of the scratch file.
type scratchWriter struct{ *Draft }

func (w *scratchWriter) Write(b []byte) (int, error) {
	n, err := w.scratch.WriteAt(b, w.end)
	w.end += int64(n)
	return n, err
}

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
	if err := p.replace(linked); err != nil {
		return err
	}
	p.files[e.Path] = at
	return nil
}

// check tells whether an entry can be put where it is said to.
func (d *Draft) check(e Entry) error {
	was, there := d.tree.lookup(e.Path)
	if there && (was.Type == Dir || was.LinkGroup != "") { // a kernel refuses, or the others of the group change
		return errBeyond
	}
	if dir, _ := d.tree.lookup(parent(e.Path)); dir.Xattrs[defaultACL] != "" {
		return errBeyond
	}
	return nil
}

const defaultACL = "system.posix_acl_default"

// replace puts an entry in the place of what is there.
func (d *Draft) replace(e Entry) error {
	if err := d.check(e); err != nil {
		return err
	}
	if was, _ := d.tree.lookup(e.Path); was.Type == Symlink || e.Type != File {
		d.last.said = "" // it may lead elsewhere now
	}
	delete(d.files, e.Path)
	d.tree.set(e)
	d.entered(parent(e.Path))
	return nil
}

// entered gives a directory that something was made in the time of that.
func (d *Draft) entered(dir string) { d.setTime(dir, d.now) }

// setTime sets the time of a directory that differs from the one in the base.
func (d *Draft) setTime(dir string, t int64) {
	if e, ok := d.tree.edits[dir]; ok {
		e.ModTime = t
		d.tree.edits[dir] = e
	}
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
		maps.DeleteFunc(h.PAXRecords, func(key, _ string) bool { return strings.HasPrefix(key, sparseRecord) }) // its content comes without holes
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

// directory finds a directory by the path that leads there, or makes it with
// those above it. It makes nothing when it finds what takes a kernel.
func (d *Draft) directory(said string) (string, error) {
	if said == d.last.said && said != "" {
		return d.last.real, nil
	}
	real, missing, err := d.resolve(said)
	if err != nil {
		return "", err
	}
	for i, name := range missing {
		if i == 0 {
			above, _ := d.tree.lookup(real)
			if above.Mode&0o2000 != 0 || above.Xattrs[defaultACL] != "" {
				return "", errBeyond // it would inherit from the one above
			}
		}
		real = below(real, name)
		d.tree.set(Entry{Path: real, Type: Dir, Mode: 0o755, ModTime: d.now})
		d.entered(parent(real))
	}
	d.last.said, d.last.real = said, real
	return real, nil
}

// maxFollowed is how many symbolic links a kernel follows (path_resolution(7)).
const maxFollowed = 40

// resolve finds the directory that a path leads to: the real path of what is
// there, and the names that are missing below it.
func (d *Draft) resolve(said string) (real string, missing []string, err error) {
	todo := strings.Split(said, "/")
	links, inLink := 0, 0 // inLink of todo's names come from a link
	for ; len(todo) > 0; inLink = max(0, inLink-1) {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			real = parent(real)
			continue
		}
		p := below(real, name)
		e, ok := d.tree.lookup(p)
		switch {
		case d.skip.skips(p) || !ok && inLink > 0:
			return "", nil, errBeyond
		case !ok:
			missing = append([]string{name}, todo...)
			return real, missing, d.plain(real, missing)
		case e.Type == Dir:
			real = p
		case e.Type == Symlink && links < maxFollowed:
			links++
			if strings.HasPrefix(e.Linkname, "/") {
				real = ""
			}
			target := strings.Split(e.Linkname, "/")
			todo = append(target, todo...)
			inLink += len(target) + 1 // and this one
		default:
			return "", nil, errBeyond
		}
	}
	return real, nil, nil
}

// plain reports whether directories can be made as they are named.
func (d *Draft) plain(dir string, names []string) error {
	for _, name := range names {
		dir = below(dir, name)
		if name == "" || name == "." || name == ".." || len(name) > maxName || strings.HasPrefix(name, whiteoutPrefix) || d.skip.skips(dir) {
			return errBeyond
		}
	}
	return nil
}

// Lookup finds what a path leads to; a symbolic link at its end is followed if
// a slash stands behind it. It is false for what is not there, and an error for
// what only a kernel can tell.
func (d *Draft) Lookup(name string) (e Entry, there bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clean := strings.Trim(path.Join("/", name), "/")
	if clean == "" || strings.HasSuffix(name, "/") {
		real, missing, err := d.resolve(clean)
		e, _ = d.tree.lookup(real)
		return e, err == nil && len(missing) == 0, err
	}
	dir, missing, err := d.resolve(parent(clean))
	if err != nil || len(missing) > 0 {
		return Entry{}, false, err
	}
	p := below(dir, path.Base(clean))
	if d.skip.skips(p) {
		return Entry{}, false, errBeyond
	}
	e, there = d.tree.lookup(p)
	return e, there, nil
}

// Open opens a file that was put, from its start; nil: it was not.
func (d *Draft) Open(e Entry) io.Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content(e)
}

func (d *Draft) content(e Entry) io.Reader {
	at := d.files[e.Path]
	if at == nil {
		return nil
	}
	return io.NewSectionReader(d.scratch, at.offset, e.Size)
}

// Delta writes the difference to the tree that the draft started at, or was last
// rebased to.
func (d *Draft) Delta(ctx context.Context, w io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return writeDelta(ctx, d.changed(), d.tree.base, DeltaOptions{}, w)
}

// changed is what was put, as a tree to compare.
func (d *Draft) changed() *tree {
	first := map[*content]string{} // of the names of a file
	count := map[*content]int{}
	paths := slices.Sorted(maps.Keys(d.tree.edits))
	for _, p := range paths {
		if at := d.files[p]; at != nil {
			if count[at]++; count[at] == 1 {
				first[at] = p
			}
		}
	}
	t := &tree{partial: true, close: func() {}, nodes: make([]node, len(paths))}
	for i, p := range paths {
		t.nodes[i].Entry = d.tree.edits[p]
		if at := d.files[p]; at != nil && count[at] > 1 {
			t.nodes[i].LinkGroup = first[at]
		}
	}
	t.open = func(n *node) (io.ReadCloser, error) { return io.NopCloser(d.content(n.Entry)), nil }
	return t
}

// Rebase makes the tree, in which all that was put is, the one that the draft
// starts at.
func (d *Draft) Rebase(base *Index) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tree = overlay{base: base}
	clear(d.files)
	d.last.said = ""
	d.end = 0
	return d.scratch.Truncate(0)
}

// Replay writes a tar that makes of a live tree, as the draft started at it,
// what the draft is.
func (d *Draft) Replay(w io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.changed()
	out := deltaWriter{tarWriter: newTarWriter(w), ctx: context.Background(), tree: t, base: d.tree.base, buf: make([]byte, 1<<20)}
	for i := range t.nodes {
		if err := out.node(&t.nodes[i]); err != nil {
			return err
		}
	}
	return out.Close()
}

// Beyond reports whether an error of Lookup says that a kernel has to be asked.
func Beyond(err error) bool { return errors.Is(err, errBeyond) }
