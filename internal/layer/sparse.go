package layer

import (
	"bytes"
	"errors"
	"io"
)

// holeBlock is what a file system has blocks of: a block of zeros is not
// written.
const holeBlock = 4096

// copySparse copies content of a size into a new file, with holes for blocks
// of zeros.
func copySparse(f openFile, r io.Reader, size int64, buf []byte) error {
	at, end := int64(0), int64(0) // of what was read, and of what was written
	for {
		n, err := fill(r, buf[:len(buf)&^(holeBlock-1)])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for data, start := nextData(buf[:n], 0); len(data) > 0; data, start = nextData(buf[:n], start+len(data)) {
			if err := f.writeAt(data, at+int64(start)); err != nil {
				return err
			}
			end = at + int64(start+len(data))
		}
		at += int64(n)
	}
	if at < size {
		return io.ErrUnexpectedEOF
	}
	if end < at {
		return f.truncate(at)
	}
	return nil
}

// fill reads until the buffer is full or nothing is left: unlike ReadFull it
// tells a file's end from that of a tar that was cut short.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

var zeroBlock [holeBlock]byte

// nextData finds the next run of blocks that are not all zeros.
func nextData(b []byte, start int) (data []byte, at int) {
	isZero := func(i int) bool {
		block := b[i:min(i+holeBlock, len(b))]
		return bytes.Equal(block, zeroBlock[:len(block)])
	}
	for start < len(b) && isZero(start) {
		start += holeBlock
	}
	if start >= len(b) {
		return nil, len(b)
	}
	end := start + holeBlock
	for end < len(b) && !isZero(end) {
		end += holeBlock
	}
	return b[start:min(end, len(b))], start
}
