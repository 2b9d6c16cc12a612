package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// relays are two ends that speak to each other, until stop.
func relays(t *testing.T, dial func(string) (io.ReadWriteCloser, error)) (accepting *Relay, stop func()) {
	t.Helper()
	toHost, fromGuest := io.Pipe()
	toGuest, fromHost := io.Pipe()
	guest, host := NewRelay(fromGuest, nil), NewRelay(fromHost, dial)
	var running sync.WaitGroup
	running.Go(func() {
		if err := guest.Run(toGuest); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := host.Run(toHost); err != nil {
			t.Error(err)
		}
	})
	return guest, func() {
		fromGuest.Close()
		fromHost.Close()
		running.Wait()
	}
}

// upper is dialled: it says its name, and then everything in capitals.
func upper(name string) (io.ReadWriteCloser, error) {
	if name == "/nobody" {
		return nil, errors.New("nobody")
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		io.WriteString(far, name+"\n")
		buf := make([]byte, 1000)
		for {
			n, err := far.Read(buf)
			if _, e := far.Write(bytes.ToUpper(buf[:n])); e != nil || err != nil {
				return
			}
		}
	}()
	return near, nil
}

func TestRelay(t *testing.T) {
	accepting, stop := relays(t, upper)
	var clients sync.WaitGroup
	for i := range 8 {
		client, conn := net.Pipe()
		name := fmt.Sprintf("/agent%d", i)
		accepting.Accept(name, conn)
		clients.Go(func() {
			defer client.Close()
			for _, text := range []string{"", "some text", strings.Repeat("long ", 40_000)} {
				go io.WriteString(client, text)
				want := strings.ToUpper(text)
				if text == "" {
					want = name + "\n"
				}
				got := make([]byte, len(want))
				if _, err := io.ReadFull(client, got); err != nil || string(got) != want {
					t.Errorf("%s: %.20q, %v", name, got, err)
					return
				}
			}
		})
	}
	clients.Wait()
	nobody, conn := net.Pipe()
	accepting.Accept("/nobody", conn)
	if _, err := nobody.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("nobody there: %v", err)
	}
	open, conn := net.Pipe()
	accepting.Accept("/agent", conn)
	stop()
	if _, err := io.Copy(io.Discard, open); err != nil {
		t.Errorf("a connection that was open: %v", err)
	}
	late, conn := net.Pipe()
	accepting.Accept("/late", conn)
	if _, err := late.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// Who does not read holds up nobody.
func TestRelayDeaf(t *testing.T) {
	accepting, stop := relays(t, upper)
	defer stop()
	deaf, conn := net.Pipe()
	defer deaf.Close()
	accepting.Accept("/deaf", conn) // is told its name, and does not listen
	client, conn := net.Pipe()
	defer client.Close()
	accepting.Accept("/client", conn)
	got := make([]byte, len("/client\n"))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "/client\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzRelay: whatever the other end says, Run ends with its input.
func FuzzRelay(f *testing.F) {
	var good bytes.Buffer
	from := NewRelay(&good, nil)
	from.send(frameOpen, 1, []byte("/x"))
	from.send(frameData, 1, []byte("data"))
	from.send(frameEnd, 1, nil)
	f.Add(good.Bytes())
	f.Add([]byte{frameData, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{frameData, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewRelay(io.Discard, upper)
		if err := r.Run(bytes.NewReader(data)); err != nil && !strings.HasPrefix(err.Error(), "relay: ") {
			t.Error(err)
		}
		if r.mu.Lock(); len(r.open) != 0 {
			t.Errorf("%d connections are open", len(r.open))
		}
		r.mu.Unlock()
	})
}
