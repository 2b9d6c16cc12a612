package guest

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// The kinds of frame. A frame is its kind, the connection's number, the length
// of the data, and the data.
const (
	frameOpen = 'o' // a connection to what the data names
	frameMore = 'm' // send the next data: a connection never has more than one frame on its way
	frameData = 'd'
	frameEnd  = 'e' // one side has ended the connection

	frameHead = 1 + 4 + 4
	maxFrame  = 32 << 10
)

// Relay carries connections over one stream, to dial at its other end. It is
// safe for concurrent use.
type Relay struct {
	dial func(name string) (io.ReadWriteCloser, error)

	writing sync.Mutex
	w       io.Writer

	mu    sync.Mutex
	next  uint32
	ended bool
	open  map[uint32]*relayed
}

// relayed is a connection. Its channels hold one and are closed when it is over.
type relayed struct {
	conn io.ReadWriteCloser
	data chan []byte   // on its way to the connection
	more chan struct{} // the other end wants what comes from it
}

// NewRelay writes to w. dial is asked for what the other end accepted; nil: it
// accepts nothing.
func NewRelay(w io.Writer, dial func(name string) (io.ReadWriteCloser, error)) *Relay {
	return &Relay{dial: dial, w: w, open: map[uint32]*relayed{}}
}

// Accept carries a connection that somebody made to a name.
func (r *Relay) Accept(name string, conn io.ReadWriteCloser) {
	r.mu.Lock()
	r.next++
	id := r.next
	r.mu.Unlock()
	if r.carry(id, conn) {
		_ = r.send(frameOpen, id, []byte(name))
	}
}

// Run takes what comes from the other end, until that ends, be it within a frame.
// It then closes every connection.
func (r *Relay) Run(in io.Reader) error {
	defer r.close()
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return unlessEnd(err)
		}
		id, length := binary.BigEndian.Uint32(head[1:]), binary.BigEndian.Uint32(head[5:])
		if length > maxFrame {
			return fmt.Errorf("relay: a frame of %d bytes", length)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(in, data); err != nil {
			return unlessEnd(err)
		}
		switch head[0] {
		case frameOpen:
			go r.connect(id, string(data))
		case frameMore:
			r.wish(id)
		case frameData:
			r.deliver(id, data)
		case frameEnd:
			r.finish(id)
		default:
			return fmt.Errorf("relay: a frame of kind %q", head[0])
		}
	}
}

func unlessEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func (r *Relay) connect(id uint32, name string) {
	if r.dial != nil {
		if conn, err := r.dial(name); err == nil && r.carry(id, conn) {
			r.wish(id)
			_ = r.send(frameMore, id, nil)
			return
		}
	}
	_ = r.send(frameEnd, id, nil)
}

// carry copies both ways until one side ends.
func (r *Relay) carry(id uint32, conn io.ReadWriteCloser) bool {
	c := &relayed{conn, make(chan []byte, 1), make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.open[id] != nil {
		conn.Close()
		return false
	}
	r.open[id] = c
	go func() {
		defer conn.Close()
		for data := range c.data {
			if _, err := conn.Write(data); err != nil || r.send(frameMore, id, nil) != nil {
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, maxFrame)
		for range c.more {
			n, err := io.ReadAtLeast(conn, buf, 1)
			if err != nil || r.send(frameData, id, buf[:n]) != nil {
				break
			}
		}
		_ = r.send(frameEnd, id, nil)
		r.finish(id)
	}()
	return true
}

// deliver hands data to a connection. One that gets more than it asked for ends.
func (r *Relay) deliver(id uint32, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.open[id]
	if c == nil {
		return
	}
	select {
	case c.data <- data:
	default:
		r.drop(id)
	}
}

func (r *Relay) wish(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.open[id]
	if c == nil {
		return
	}
	select {
	case c.more <- struct{}{}:
	default:
		r.drop(id)
	}
}

// finish ends a connection once it has got what is on its way.
func (r *Relay) finish(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(id)
}

func (r *Relay) drop(id uint32) {
	if c := r.open[id]; c != nil {
		delete(r.open, id)
		close(c.data)
		close(c.more)
	}
}

func (r *Relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for id, c := range r.open {
		r.drop(id)
		c.conn.Close()
	}
}

func (r *Relay) send(kind byte, id uint32, data []byte) error {
	frame := make([]byte, frameHead, frameHead+len(data))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], id)
	binary.BigEndian.PutUint32(frame[5:], uint32(len(data)))
	r.writing.Lock()
	defer r.writing.Unlock()
	_, err := r.w.Write(append(frame, data...))
	return err
}
