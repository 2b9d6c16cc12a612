package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
)

// Layers of the same content get the same bytes on every machine: the block
// size is fixed, and blocks do not know how many are compressed at a time.
const (
	gzipLevel = 5 // of a Debian 1 % more bytes than 6, in six sevenths of its time
	gzipBlock = 1 << 20
	gzipReach = 32 << 10 // how far back a match can lie, also in the block before
)

// gzipHeader has neither name nor time nor operating system.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// presses compress blocks, for all layers that a store is taking: only so many
// at a time, however many layers there are.
type presses struct {
	room  chan struct{} // taken by a block from when it is full until it is written
	cores chan struct{} // taken while a block is compressed

	mu      sync.Mutex
	blocks  []*press        // to be used again, the last one first: a processor may still
	writers []*flate.Writer // have it at hand
}

func newPresses() *presses {
	n := runtime.GOMAXPROCS(0)
	return &presses{room: make(chan struct{}, 2*n+2), cores: make(chan struct{}, n)}
}

// press is a block that is being compressed.
type press struct {
	plain  []byte
	before [gzipReach]byte // the end of the block before
	dict   []byte          // what is used of it
	packed bytes.Buffer
	ready  sync.WaitGroup // hashed and compressed
	last   bool
	err    error
}

func (p *presses) take() *press {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := pop(&p.blocks)
	if b == nil {
		b = &press{}
	}
	return b
}

func pop[T any](list *[]*T) *T {
	last := len(*list) - 1
	if last < 0 {
		return nil
	}
	x := (*list)[last]
	*list = (*list)[:last]
	return x
}

func (p *presses) giveBack(b *press) {
	b.plain, b.dict, b.last, b.err = b.plain[:0], nil, false, nil
	b.packed.Reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blocks) < cap(p.room) {
		p.blocks = append(p.blocks, b)
	}
}

// compress makes of a block a piece of a deflate stream that ends at a byte.
func (p *presses) compress(b *press) {
	defer b.ready.Done()
	p.cores <- struct{}{}
	defer func() { <-p.cores }()
	p.mu.Lock()
	w := pop(&p.writers)
	p.mu.Unlock()
	if w == nil {
		if w, b.err = flate.NewWriter(&b.packed, gzipLevel); b.err != nil {
			return
		}
	}
	b.err = b.into(w)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writers = append(p.writers, w)
}

func (b *press) into(w *flate.Writer) error {
	w.ResetDict(&b.packed, b.dict)
	if _, err := w.Write(b.plain); err != nil {
		return err
	}
	if b.last {
		return w.Close()
	}
	return w.Flush()
}

// packer is a gzip stream in the making. Hashing what comes in, compressing
// it, and writing and hashing what goes out run beside each other.
type packer struct {
	presses *presses
	out     io.Writer
	block   *press // being filled; nil: none
	tail    []byte // the end of the block before

	hashing, writing chan *press // in the order of the stream
	stages           sync.WaitGroup
	plain, packed    hash.Hash
	crc              uint32
	size             uint32 // of the plain stream, modulo 2^32, as gzip has it
	failed           atomic.Pointer[error]
}

func newPacker(p *presses, out io.Writer) *packer {
	return &packer{presses: p, out: out, plain: sha256.New(), packed: sha256.New()}
}

func (p *packer) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		if err := p.failed.Load(); err != nil {
			return written, *err
		}
		if p.block == nil {
			p.block = p.presses.take()
		}
		n := min(len(data), gzipBlock-len(p.block.plain))
		p.block.plain = append(p.block.plain, data[:n]...)
		data = data[n:]
		written += n
		if len(p.block.plain) == gzipBlock {
			p.send(false)
		}
	}
	return written, nil
}

// send passes the block on to all stages.
func (p *packer) send(last bool) {
	if p.hashing == nil {
		p.start()
	}
	b := p.block
	p.block = nil
	if b == nil {
		b = p.presses.take()
	}
	b.last = last
	b.dict = b.before[:copy(b.before[:], p.tail)]
	p.tail = append(p.tail[:0], b.plain[max(0, len(b.plain)-gzipReach):]...)
	b.ready.Add(2)
	p.presses.room <- struct{}{}
	p.hashing <- b
	go p.presses.compress(b)
	p.writing <- b
}

func (p *packer) start() {
	p.hashing, p.writing = make(chan *press, cap(p.presses.room)), make(chan *press, cap(p.presses.room))
	p.stages.Go(func() {
		for b := range p.hashing {
			p.plain.Write(b.plain)
			p.crc = crc32.Update(p.crc, crc32.IEEETable, b.plain)
			p.size += uint32(len(b.plain)) //nolint:gosec // modulo 2^32
			b.ready.Done()
		}
	})
	p.stages.Go(func() {
		p.emit(gzipHeader)
		for b := range p.writing {
			b.ready.Wait()
			if b.err != nil {
				p.fail(b.err)
			}
			p.emit(b.packed.Bytes())
			p.presses.giveBack(b)
			<-p.presses.room
		}
	})
}

// emit writes and hashes a piece of the gzip stream.
func (p *packer) emit(piece []byte) {
	if p.failed.Load() != nil {
		return
	}
	if _, err := p.out.Write(piece); err != nil {
		p.fail(err)
	}
	p.packed.Write(piece)
}

func (p *packer) fail(err error) { p.failed.CompareAndSwap(nil, &err) }

// finish ends the stream; what was written is then hashed and compressed.
func (p *packer) finish() error {
	p.send(true)
	p.stop()
	p.emit(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, p.crc), p.size))
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// stop ends the stages. It may be called again.
func (p *packer) stop() {
	if p.block != nil {
		p.presses.giveBack(p.block)
		p.block = nil
	}
	if p.hashing != nil {
		close(p.hashing)
		close(p.writing)
		p.stages.Wait()
		p.hashing, p.writing = nil, nil
	}
}
