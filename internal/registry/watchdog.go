package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// watchdog ends requests on which nothing moves. A large body may take hours,
// as long as it moves.
type watchdog struct {
	next  http.RoundTripper
	limit Timeouts
}

// timeoutError says what was waited for in vain.
type timeoutError struct {
	what string
	d    time.Duration
}

func (e *timeoutError) Error() string { return fmt.Sprintf("%s for %v", e.what, e.d) }

// Timeout makes it a net.Error of the temporary kind.
func (e *timeoutError) Timeout() bool { return true }

// watch is one request's timer. What it waits for changes as the request
// goes on.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	reason atomic.Pointer[timeoutError]
}

func (w *watch) expect(what string, d time.Duration) {
	w.reason.Store(&timeoutError{what, d})
	w.timer.Reset(d)
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// explain gives the reason where the error is only "context canceled".
func (w *watch) explain(err error) error {
	if reason, ok := context.Cause(w.ctx).(*timeoutError); ok && err != nil && err != io.EOF {
		return reason
	}
	return err
}

// RoundTrip sends the request and watches over it until its answer's body is
// closed.
func (d *watchdog) RoundTrip(req *http.Request) (*http.Response, error) {
	w := &watch{}
	w.ctx, w.cancel = context.WithCancelCause(req.Context())
	w.timer = time.AfterFunc(time.Hour, func() { w.cancel(w.reason.Load()) })
	w.expect("no answer", d.limit.Headers)
	out := req.WithContext(w.ctx)
	if req.Body != nil && req.Body != http.NoBody {
		limit := d.limit
		if req.ContentLength < 1<<20 {
			limit.Commit = limit.Headers
		}
		out.Body = &sentBody{req.Body, w, limit, 0}
	}
	resp, err := d.next.RoundTrip(out)
	if err != nil {
		w.stop()
		return nil, w.explain(err)
	}
	w.expect("no data", d.limit.Stall)
	resp.Body = &receivedBody{resp.Body, w, d.limit.Stall, 0}
	return resp, nil
}

// kib is what must move within Timeouts.Stall: a byte a minute is no progress.
const kib = 1024

type sentBody struct {
	io.ReadCloser
	w     *watch
	limit Timeouts
	n     int
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += n
	switch {
	case err != nil:
		b.w.expect("no answer to what was sent", b.limit.Commit)
	case b.n >= kib:
		b.n = 0
		b.w.expect("upload stalled", b.limit.Stall)
	}
	return n, err
}

type receivedBody struct {
	io.ReadCloser
	w     *watch
	stall time.Duration
	n     int
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.n += n; b.n >= kib {
		b.n = 0
		b.w.timer.Reset(b.stall)
	}
	return n, b.w.explain(err)
}

func (b *receivedBody) Close() error {
	b.w.stop()
	return b.ReadCloser.Close()
}
