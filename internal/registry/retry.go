package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxRetryAfter is the longest wait a registry may ask for. Beyond it, as
	// with a daily quota, the error is better news.
	maxRetryAfter = 2 * time.Minute
)

// policy says when to try again.
type policy struct {
	retries int
	sleep   func(context.Context, time.Duration) error
	notify  func(string)
}

// do calls try until it succeeds, fails for good, or was called often enough.
// The last answer is returned as it is, also one of status 429 or 500.
func (p policy) do(ctx context.Context, what string, try func() (*http.Response, error)) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := try()
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		why, wait := tryAgain(n, resp, err)
		if why == "" || n >= p.retries || wait > maxRetryAfter {
			return resp, err
		}
		if resp != nil {
			discard(resp)
		}
		p.notify(fmt.Sprintf("%s: %s; trying again in %v (%d of %d)", what, why, wait.Round(100*time.Millisecond), n+1, p.retries))
		if err := p.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// tryAgain tells whether an outcome is worth another try, why, and after how
// long.
func tryAgain(n int, resp *http.Response, err error) (why string, wait time.Duration) {
	wait = min(firstWait<<n, maxWait)
	wait = wait/2 + rand.N(wait) // half to one and a half: many clients must not come back at once
	switch {
	case err != nil:
		if !temporary(err) {
			return "", 0
		}
		return bareText(err), wait
	case resp != nil && temporaryStatus[resp.StatusCode]:
		return fmt.Sprintf("status %d", resp.StatusCode), max(retryAfter(resp.Header), wait)
	}
	return "", 0
}

var temporaryStatus = map[int]bool{
	http.StatusRequestTimeout: true, http.StatusTooManyRequests: true, http.StatusInternalServerError: true,
	http.StatusBadGateway: true, http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
	499: true, 520: true, 521: true, 522: true, 523: true, 524: true, // nginx and Cloudflare
}

// retryAfter reads seconds or a date. The date is compared with the server's
// own clock, not ours.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), 1<<20)) * time.Second
	}
	at, err := http.ParseTime(value)
	now, nowErr := http.ParseTime(h.Get("Date"))
	if err != nil || nowErr != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

// temporary tells lost and refused connections from errors that will come
// again.
func temporary(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled), permanent(err):
		return false
	case lacksBlob(err):
		return true
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return true
	case errors.As(err, &timeout) && timeout.Timeout(), errors.As(err, &op):
		return true
	}
	text := err.Error() // net/http does not export these
	return strings.Contains(text, "http2: ") || strings.Contains(text, "stream error") || strings.Contains(text, "server closed idle connection")
}

func permanent(err error) bool {
	var refused *RefusedError
	var body *bodyError
	var tried *triedError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &refused) || errors.As(err, &body) || errors.As(err, &tried) ||
		errors.As(err, &alert) || untrusted(err) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
}

// onceKey marks the context of a request that must not be repeated as it is:
// an upload, whose session is spent after one try.
type onceKey struct{}

// retrier repeats requests, and goes on with answers that break off.
type retrier struct {
	next   http.RoundTripper
	policy policy
	host   string
}

// RoundTrip sends the request, as often as the policy says.
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(onceKey{}) != nil || req.Body != nil && req.GetBody == nil {
		return r.next.RoundTrip(req)
	}
	resp, err := r.policy.do(req.Context(), r.host, func() (*http.Response, error) { return r.next.RoundTrip(req) })
	if err == nil && req.Method == http.MethodGet && resp.StatusCode == http.StatusOK && resp.ContentLength > 0 {
		resp.Body = &resumingBody{ReadCloser: resp.Body, r: r, req: req, size: resp.ContentLength}
	}
	return resp, err
}

// resumingBody asks for the rest when a body breaks off. Whoever reads it
// checks the digest.
type resumingBody struct {
	io.ReadCloser
	r      *retrier
	req    *http.Request
	size   int64
	offset int64
	tries  int
}

func (b *resumingBody) Read(p []byte) (int, error) {
	for {
		n, err := b.ReadCloser.Read(p)
		b.offset += int64(n)
		if n > 0 || err == nil || err == io.EOF || !temporary(err) || b.tries >= b.r.policy.retries {
			return n, err
		}
		if again := b.reopen(err); again != nil {
			return 0, err
		}
	}
}

// reopen waits and asks for what is missing. A server that knows no ranges
// sends everything again; what is known of it is skipped.
func (b *resumingBody) reopen(cause error) error {
	b.ReadCloser.Close()
	ctx := b.req.Context()
	_, wait := tryAgain(b.tries, nil, cause)
	b.tries++
	b.r.policy.notify(fmt.Sprintf("%s: %s after %d bytes; going on from there", b.r.host, bareText(cause), b.offset))
	if err := b.r.policy.sleep(ctx, wait); err != nil {
		return err
	}
	req := b.req.Clone(ctx)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.offset, b.size-1))
	resp, err := b.r.policy.do(ctx, b.r.host, func() (*http.Response, error) { return b.r.next.RoundTrip(req) }) //nolint:bodyclose // the caller's body continues in this one
	if err != nil {
		return err
	}
	b.ReadCloser = resp.Body
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.offset)):
		return nil
	case resp.StatusCode == http.StatusOK:
		_, err := io.CopyN(io.Discard, resp.Body, b.offset)
		return err
	}
	return fmt.Errorf("status %d to a range request", resp.StatusCode)
}
