package store

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// codec compresses the blocks of a stream, each by itself. Layers of the same
// content get the same bytes on every machine: the block size is fixed, and blocks
// do not know how many are compressed at a time. It is safe for concurrent use.
type codec interface {
	blockSize() int
	header() []byte
	// compress appends the block's piece of the stream to b.packed.
	compress(b *press) error
	// trailer ends a stream of that CRC-32 and size modulo 2^32.
	trailer(crc, size uint32) []byte
}

// codec of a compression; that of gzip where none is named.
func (p *presses) codec(c bake.Compression) codec {
	if c == bake.Zstd {
		return &p.zstd
	}
	return &p.gzip
}

const (
	gzipLevel = 5 // of a Debian 1 % more bytes than 6, in six sevenths of its time
	gzipBlock = 1 << 20
	gzipReach = 32 << 10 // how far back a match can lie, also in the block before
)

// gzipCodec makes one gzip member (RFC 1952) of all blocks.
type gzipCodec struct {
	mu      sync.Mutex
	writers []*flate.Writer // to be used again, the last one first: a processor may still have it at hand
}

func (*gzipCodec) blockSize() int { return gzipBlock }

// header has neither name nor time nor operating system.
func (*gzipCodec) header() []byte { return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff} }

func (*gzipCodec) trailer(crc, size uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, crc), size)
}

// compress makes a piece of a deflate stream that ends at a byte.
func (c *gzipCodec) compress(b *press) (err error) {
	c.mu.Lock()
	w := pop(&c.writers)
	c.mu.Unlock()
	if w == nil {
		if w, err = flate.NewWriter(&b.packed, gzipLevel); err != nil {
			return err
		}
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writers = append(c.writers, w)
	}()
	w.ResetDict(&b.packed, b.dict)
	if _, err := w.Write(b.plain); err != nil {
		return err
	}
	if b.last {
		return w.Close()
	}
	return w.Flush()
}

// zstdBlock is large since nothing is found across blocks: of a Debian 1 MiB gives
// 5 % more bytes.
const zstdBlock = 2 << 20

// zstdCodec makes a zstd frame (RFC 8878) of each block.
type zstdCodec struct{ encoder func() (*zstd.Encoder, error) }

// newZstdCodec is for so many blocks at a time.
func newZstdCodec(jobs int) zstdCodec {
	return zstdCodec{sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(jobs), zstd.WithZeroFrames(true))
	})}
}

func (*zstdCodec) blockSize() int { return zstdBlock }

func (*zstdCodec) header() []byte { return nil }

func (*zstdCodec) trailer(_, _ uint32) []byte { return nil }

func (c *zstdCodec) compress(b *press) error {
	encoder, err := c.encoder()
	if err != nil {
		return err
	}
	_, err = b.packed.Write(encoder.EncodeAll(b.plain, b.packed.AvailableBuffer()))
	return err
}
