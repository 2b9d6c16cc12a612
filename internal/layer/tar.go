package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	xattrRecord    = "SCHILY.xattr."
	sparseRecord   = "GNU.sparse."
	// linkedRecord marks, in a delta, a file that has further names.
	linkedRecord = "IMGBAKE.linked"
)

// Limits bound what is read from a stranger's tar. A zero field is its
// default.
type Limits struct {
	Bytes   int64 // of content; 20 GiB
	Ratio   int64 // of plain to compressed bytes, after the first 64 MiB; 200
	Entries int   // 2,000,000
	Path    int   // bytes of a path; 4096
	Depth   int   // components of a path; 255
	Xattrs  int   // bytes of an entry's xattrs; 64 KiB
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	set(&l.Entries, 2_000_000)
	set(&l.Path, 4096)
	set(&l.Depth, 255)
	set(&l.Xattrs, 64<<10)
	if l.Bytes == 0 {
		l.Bytes = 20 << 30
	}
	if l.Ratio == 0 {
		l.Ratio = 200
	}
	return l
}

// BakeLimits are for layers that steps run on, or made. Steps may fill the disk
// and take their time as well: no size is too large, nor, since zstd makes four bytes
// of 128 KiB of zeros, any ratio.
func BakeLimits() Limits { return Limits{Bytes: 1 << 60, Ratio: 1 << 60} }

// ErrLimit is what an error wraps when a tar is larger than Limits allow.
var ErrLimit = errors.New("over the limit")

// tarReader reads a stranger's tar within limits.
type tarReader struct {
	*tar.Reader
	tally
	ctx context.Context
	in  *countingReader
}

// tally is how much of what limits allow is used.
type tally struct {
	limits  Limits
	entries int
	bytes   int64
}

func newTarReader(ctx context.Context, r io.Reader, limits Limits) *tarReader {
	in := &countingReader{r: bufio.NewReaderSize(r, tarBuffer)}
	return &tarReader{Reader: tar.NewReader(in), tally: tally{limits: limits.withDefaults()}, ctx: ctx, in: in}
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

// whole visits the entries of a tar of our own, which has an end: the tar
// package takes a missing one for an end.
func (t *tarReader) whole(visit func(*tar.Header) error) error {
	end := int64(0)
	for {
		h, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		end = t.in.n + (h.Size+511)&^511
		if err := visit(h); err != nil {
			return err
		}
	}
	if t.in.n < end+1024 {
		return fmt.Errorf("read tar after %d entries: %w", t.entries, io.ErrUnexpectedEOF)
	}
	return nil
}

// next is the next entry that stands for a file, or io.EOF.
func (t *tarReader) next() (*tar.Header, error) {
	for {
		if err := t.ctx.Err(); err != nil {
			return nil, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("read tar after %d entries: %w", t.entries, err)
		}
		if err := t.check(h); err != nil {
			return nil, fmt.Errorf("tar entry %q: %w", clip(h.Name), err)
		}
		if h.Typeflag != tar.TypeXGlobalHeader {
			return h, nil
		}
	}
}

// check counts an entry.
func (t *tally) check(h *tar.Header) error {
	l := t.limits
	t.entries++
	t.bytes += h.Size
	xattrs := 0
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, xattrRecord) {
			xattrs += len(k) + len(v)
		}
	}
	switch {
	case t.entries > l.Entries:
		return fmt.Errorf("%d entries: %w", t.entries, ErrLimit)
	case h.Size < 0 || t.bytes < 0 || t.bytes > l.Bytes:
		return fmt.Errorf("%d bytes of content, of %d at most: %w", t.bytes, l.Bytes, ErrLimit)
	case len(h.Name) > l.Path || len(h.Linkname) > l.Path:
		return fmt.Errorf("path of %d bytes: %w", max(len(h.Name), len(h.Linkname)), ErrLimit)
	case strings.Count(h.Name, "/") > l.Depth:
		return fmt.Errorf("path of %d components: %w", strings.Count(h.Name, "/"), ErrLimit)
	case xattrs > l.Xattrs:
		return fmt.Errorf("%d bytes of xattrs: %w", xattrs, ErrLimit)
	case strings.IndexByte(h.Name, 0) >= 0 || strings.IndexByte(h.Linkname, 0) >= 0:
		return errors.New("name with a NUL byte")
	case h.Uid < 0 || h.Gid < 0 || h.Uid > 1<<32-1 || h.Gid > 1<<32-1:
		return fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	case h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 1<<32-1 || h.Devminor > 1<<32-1:
		return fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// isSparse tells entries whose content in the tar is shorter than their size.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, sparseRecord) {
			return true
		}
	}
	return false
}

// cleanName is the path that a tar entry's name means, as clean as an Entry's.
// A name that leads out of the root is an error.
func cleanName(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("tar entry %q leads out of the root", clip(name))
	}
	if p == "." {
		return "", nil
	}
	return p, nil
}

var tarTypes = map[byte]Type{
	tar.TypeReg: File, tar.TypeLink: File, tar.TypeGNUSparse: File, tar.TypeCont: File,
	tar.TypeDir: Dir, tar.TypeSymlink: Symlink,
	tar.TypeChar: Char, tar.TypeBlock: Block, tar.TypeFifo: Fifo,
}

// entryOf is what a header says of the entry at a clean path; of a hard link,
// not yet what it links to.
func entryOf(h *tar.Header, p string) (Entry, error) {
	kind, ok := tarTypes[h.Typeflag]
	if !ok {
		return Entry{}, fmt.Errorf("tar entry %q: unknown type %q", clip(h.Name), h.Typeflag)
	}
	e := Entry{Path: p, Type: kind, Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.Unix()}
	switch kind {
	case File:
		e.Size = h.Size
	case Symlink:
		e.Linkname, e.Mode = h.Linkname, 0o777
	case Char, Block:
		e.DevMajor, e.DevMinor = h.Devmajor, h.Devminor
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrRecord); ok && recordedXattr(name) {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = v
		}
	}
	return e, nil
}

// recordedXattr tells the extended attributes that belong to a tree from the
// bookkeeping of a file system or a machine's security policy.
func recordedXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") &&
		!strings.HasPrefix(name, "user.fuseoverlayfs.") && !strings.HasPrefix(name, "user.containers.")
}

// tarWriter writes entries canonically. It is complete once it is closed.
type tarWriter struct {
	*tar.Writer
	out     *counter
	entries int
}

// counter counts what is written.
type counter struct {
	to *bufio.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// tarBuffer makes one large read or write of many small ones.
const tarBuffer = 128 << 10

func newTarWriter(w io.Writer) *tarWriter {
	out := &counter{to: bufio.NewWriterSize(w, tarBuffer)}
	return &tarWriter{Writer: tar.NewWriter(out), out: out}
}

// Close ends the tar.
func (t *tarWriter) Close() error {
	if err := t.Writer.Close(); err != nil {
		return err
	}
	return t.flush()
}

// flush writes what is still in memory.
func (t *tarWriter) flush() error { return t.out.to.Flush() }

// entry writes an entry's header; for a File the content is to follow. With
// link set it is a hard link to that path.
func (t *tarWriter) entry(e Entry, link string) error {
	return t.header(headerOf(e, link))
}

func (t *tarWriter) whiteout(p string) error {
	dir, base := path.Split(p)
	return t.header(&tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
}

func (t *tarWriter) header(h *tar.Header) error {
	t.entries++
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("write tar entry %q: %w", h.Name, err)
	}
	return nil
}

var typeflags = [...]byte{File: tar.TypeReg, Dir: tar.TypeDir, Symlink: tar.TypeSymlink, Char: tar.TypeChar, Block: tar.TypeBlock, Fifo: tar.TypeFifo}

func headerOf(e Entry, link string) *tar.Header {
	h := &tar.Header{
		Typeflag: typeflags[e.Type], Name: e.Path, Linkname: e.Linkname, Size: e.Size,
		Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, ModTime: time.Unix(e.ModTime, 0),
		Devmajor: e.DevMajor, Devminor: e.DevMinor, Format: tar.FormatPAX,
	}
	if e.Type == Dir {
		h.Name += "/"
		if e.Path == "" {
			h.Name = "./"
		}
	}
	if link != "" {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, link, 0
		return h // the first name carries the xattrs
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
		for k, v := range e.Xattrs {
			h.PAXRecords[xattrRecord+k] = v
		}
	}
	return h
}

// whiteoutOf splits a clean path that marks a deletion. For an opaque marker
// gone is the directory.
func whiteoutOf(p string) (gone string, opaque, ok bool) {
	dir, base := path.Split(p)
	switch {
	case base == opaqueName:
		return parent(p), true, true
	case strings.HasPrefix(base, whiteoutPrefix):
		return dir + base[len(whiteoutPrefix):], false, true
	}
	return "", false, false
}
