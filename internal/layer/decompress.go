package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	zstdWindow  = 128 << 20
	ratioGrace  = 64 << 20 // plain bytes before the ratio counts
	headerBytes = 4
)

// Decompress detects gzip and zstd and gives the plain stream, bounded by
// limits.
func Decompress(r io.Reader, limits Limits) (io.ReadCloser, error) {
	limits = limits.withDefaults()
	in := &countingReader{r: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	magic, err := buffered.Peek(headerBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b := &boundedReader{in: in, limits: limits, close: func() {}}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		b.plain, b.what = z, "gzip"
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		b.plain, b.what, b.close = z, "zstd", z.Close
	default:
		b.plain, b.limits.Ratio = buffered, 1<<30
	}
	return b, nil
}

// boundedReader stops at a decompression bomb.
type boundedReader struct {
	plain  io.Reader
	what   string
	close  func()
	in     *countingReader
	out    int64
	limits Limits
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.plain.Read(p)
	b.out += int64(n)
	switch {
	case b.out > b.limits.Bytes+b.limits.Bytes/8: // headers come on top of content
		return n, fmt.Errorf("%d bytes: %w", b.out, ErrLimit)
	case b.out > ratioGrace && b.out/max(1, b.in.n) > b.limits.Ratio:
		return n, fmt.Errorf("%d bytes out of %d bytes of %s: %w", b.out, b.in.n, b.what, ErrLimit)
	case err != nil && err != io.EOF && b.what != "":
		return n, fmt.Errorf("%s: %w", b.what, err)
	}
	return n, err
}

func (b *boundedReader) Close() error {
	b.close()
	return nil
}
