package layer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

const (
	indexMagic = "imgbake tree 1\n" // the number is the version
	// No index in use is near these; they bound what a hostile one allocates.
	maxIndexEntries = 4_000_000
	maxIndexString  = 64 << 10
	maxIndexPath    = 4096
	maxIndexPaths   = 512 << 20 // bytes of all paths, as they share prefixes
)

// Encode writes the index in a compact, versioned form: paths as what differs
// from the path before, numbers as varints.
func (x *Index) Encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	_, _ = b.WriteString(indexMagic) // Flush returns the first error
	buf := binary.AppendUvarint(nil, uint64(len(x.entries)))
	previous := ""
	for _, e := range x.entries {
		_, _ = b.Write(buf)
		buf = appendEntry(buf[:0], e, previous)
		previous = e.Path
	}
	_, _ = b.Write(buf)
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write tree index: %w", err)
	}
	return nil
}

func appendEntry(buf []byte, e Entry, previous string) []byte {
	str := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	shared := 0
	for shared < len(previous) && shared < len(e.Path) && previous[shared] == e.Path[shared] {
		shared++
	}
	buf = binary.AppendUvarint(buf, uint64(shared))
	str(e.Path[shared:])
	buf = append(buf, byte(e.Type))
	buf = binary.AppendUvarint(buf, uint64(e.Mode))
	buf = binary.AppendUvarint(buf, uint64(e.UID))
	buf = binary.AppendUvarint(buf, uint64(e.GID))
	buf = binary.AppendVarint(buf, e.ModTime)
	switch e.Type {
	case File:
		buf = binary.AppendUvarint(buf, uint64(e.Size))
		buf = append(buf, e.Digest[:]...)
		str(e.LinkGroup)
	case Symlink:
		str(e.Linkname)
	case Char, Block:
		buf = binary.AppendUvarint(buf, uint64(e.DevMajor))
		buf = binary.AppendUvarint(buf, uint64(e.DevMinor))
	}
	buf = binary.AppendUvarint(buf, uint64(len(e.Xattrs)))
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		str(k)
		str(e.Xattrs[k])
	}
	return buf
}

// DecodeIndex reads what Encode wrote. The input may be hostile.
func DecodeIndex(r io.Reader) (*Index, error) {
	d := decoder{r: bufio.NewReaderSize(r, 64<<10)}
	magic := make([]byte, len(indexMagic))
	d.full(magic)
	if d.err == nil && string(magic) != indexMagic {
		return nil, errors.New("read tree index: not an index of this version")
	}
	n := d.number(maxIndexEntries)
	var entries []Entry // grows with what is really there
	previous := ""
	for range n {
		e := d.entry(previous)
		if d.err != nil {
			break
		}
		entries = append(entries, e)
		previous = e.Path
	}
	if d.err != nil {
		return nil, fmt.Errorf("read tree index: %w", d.err)
	}
	x, err := checkedIndex(entries)
	if err != nil {
		return nil, fmt.Errorf("read tree index: %w", err)
	}
	if n == 0 {
		return nil, errors.New("read tree index: index without a root directory")
	}
	return x, nil
}

// decoder reads until the first error and then gives zero values.
type decoder struct {
	r     *bufio.Reader
	paths int // bytes so far
	err   error
}

func (d *decoder) full(p []byte) {
	if d.err != nil {
		return
	}
	if _, err := io.ReadFull(d.r, p); err != nil {
		d.err = unexpected(err)
	}
}

func (d *decoder) number(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err == nil && n > limit {
		err = fmt.Errorf("number %d is over %d", n, limit)
	}
	if err != nil {
		d.err = unexpected(err)
		return 0
	}
	return n
}

func (d *decoder) time() int64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(d.r)
	if err != nil {
		d.err = unexpected(err)
	}
	return n
}

func (d *decoder) str() string {
	p := make([]byte, d.number(maxIndexString))
	d.full(p)
	return string(p)
}

func (d *decoder) entry(previous string) Entry {
	shared := d.number(uint64(len(previous)))
	e := Entry{Path: previous[:shared] + d.str()}
	if d.paths += len(e.Path); d.err == nil && (len(e.Path) > maxIndexPath || d.paths > maxIndexPaths) {
		d.err = fmt.Errorf("paths are too long")
	}
	var kind [1]byte
	d.full(kind[:])
	e.Type = Type(kind[0])
	e.Mode = uint32(d.number(0o7777))
	e.UID, e.GID = int(d.number(1<<32-1)), int(d.number(1<<32-1))
	e.ModTime = d.time()
	switch e.Type {
	case File:
		e.Size = int64(d.number(1<<63 - 1))
		d.full(e.Digest[:])
		e.LinkGroup = d.str()
	case Symlink:
		e.Linkname = d.str()
	case Char, Block:
		e.DevMajor, e.DevMinor = int64(d.number(1<<32)), int64(d.number(1<<32))
	case Dir, Fifo:
	default:
		if d.err == nil {
			d.err = fmt.Errorf("entry %q: unknown type %d", e.Path, e.Type)
		}
	}
	if n := d.number(1000); n > 0 {
		e.Xattrs = make(map[string]string)
		for range n {
			if k := d.str(); d.err == nil {
				e.Xattrs[k] = d.str()
			}
		}
	}
	return e
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
