package main

import (
	"io"
	"net"
	"sync/atomic"
)

// counter forwards connections to a registry and counts the bytes sent to it,
// requests included. It stands in the way only where bytes are measured.
type counter struct {
	listener net.Listener
	sent     atomic.Int64
}

// newCounter listens on loopback and forwards to a host:port.
func newCounter(to string) (*counter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go c.forward(conn, to)
		}
	}()
	return c, nil
}

// name is the registry's name for clients: host:port.
func (c *counter) name() string {
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	return "localhost:" + port
}

// megabytes gives what was sent since the last call.
func (c *counter) megabytes() float64 { return float64(c.sent.Swap(0)) / 1e6 }

func (c *counter) Close() error { return c.listener.Close() }

func (c *counter) forward(from net.Conn, to string) {
	defer from.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(from, server) //nolint:errcheck // the client sees a connection that ends
		from.Close()
	}()
	io.Copy(server, io.TeeReader(from, tally{&c.sent})) //nolint:errcheck // the registry sees it
}

// tally counts what is written to it.
type tally struct{ n *atomic.Int64 }

func (t tally) Write(p []byte) (int, error) {
	t.n.Add(int64(len(p)))
	return len(p), nil
}
