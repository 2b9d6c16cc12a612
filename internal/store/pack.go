package store

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// presses compress blocks, for all layers that a store is taking: only so many
// at a time, however many layers there are.
type presses struct {
	room  chan struct{} // taken by a block from when it is full until it is written
	cores chan struct{} // taken while a block is compressed
	gzip  gzipCodec
	zstd  zstdCodec

	mu     sync.Mutex
	blocks []*press // to be used again, the last one first
}

// smallBlock is more than what layers of a few small files have.
const smallBlock = 64 << 10

// maxPresses is enough to compress a layer as fast as one processor hashes it, and
// bounds the memory of a machine with more processors.
const maxPresses = 16

func newPresses() *presses {
	n := min(runtime.GOMAXPROCS(0), maxPresses)
	return &presses{room: make(chan struct{}, 2*n+2), cores: make(chan struct{}, n), zstd: newZstdCodec(n)}
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

// fill adds to a block. All but the smallest get the size of a full one at once:
// memory that is used for the first time is dear.
func (b *press) fill(data []byte, size int) {
	if need := len(b.plain) + len(data); need > smallBlock && need > cap(b.plain) {
		b.plain = append(make([]byte, 0, size), b.plain...)
	}
	b.plain = append(b.plain, data...)
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

// compress compresses a block when there is a core for it.
func (p *presses) compress(c codec, b *press) {
	defer b.ready.Done()
	p.cores <- struct{}{}
	defer func() { <-p.cores }()
	b.err = c.compress(b)
}

// packer is a compressed stream in the making. Hashing what comes in, compressing
// it, and writing and hashing what goes out run beside each other.
type packer struct {
	presses *presses
	codec   codec
	out     io.Writer
	block   *press // being filled; nil: none
	tail    []byte // the end of the block before

	hashing, writing chan *press // in the order of the stream
	stages           sync.WaitGroup
	sent             int64 // bytes of the plain stream that were passed on
	plain, packed    hash.Hash
	crc              uint32
	failed           atomic.Pointer[error]
}

func newPacker(p *presses, c codec, out io.Writer) *packer {
	return &packer{presses: p, codec: c, out: out, plain: sha256.New(), packed: sha256.New()}
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
		n := min(len(data), p.codec.blockSize()-len(p.block.plain))
		p.block.fill(data[:n], p.codec.blockSize())
		data = data[n:]
		written += n
		if len(p.block.plain) == p.codec.blockSize() {
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
	p.sent += int64(len(b.plain))
	b.dict = b.before[:copy(b.before[:], p.tail)]
	p.tail = append(p.tail[:0], b.plain[max(0, len(b.plain)-gzipReach):]...)
	b.ready.Add(2)
	p.presses.room <- struct{}{}
	p.hashing <- b
	go p.presses.compress(p.codec, b)
	p.writing <- b
}

func (p *packer) start() {
	p.hashing, p.writing = make(chan *press, cap(p.presses.room)), make(chan *press, cap(p.presses.room))
	p.stages.Go(func() {
		for b := range p.hashing {
			p.plain.Write(b.plain)
			p.crc = crc32.Update(p.crc, crc32.IEEETable, b.plain)
			b.ready.Done()
		}
	})
	if p.sent == 0 {
		p.emit(p.codec.header())
	}
	p.stages.Go(func() {
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

// emit writes and hashes a piece of the compressed stream.
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
	p.emit(p.codec.trailer(p.crc, uint32(p.sent))) //nolint:gosec // modulo 2^32, as gzip has it
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
	p.settle()
}

// settle waits until all full blocks are hashed and written.
func (p *packer) settle() {
	if p.hashing != nil {
		close(p.hashing)
		close(p.writing)
		p.stages.Wait()
		p.hashing, p.writing = nil, nil
	}
}
