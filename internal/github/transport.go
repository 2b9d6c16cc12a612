package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	firstWait = time.Second
	maxWait   = 30 * time.Second
	// maxAsked is the longest wait a server may ask for. Beyond it, as when the
	// hour's requests are used up, the error is better news.
	maxAsked = 2 * time.Minute
	// maxBody bounds an answer.
	maxBody = 32 << 20
)

// transport adds the token, and tries again what is worth it.
type transport struct {
	next    http.RoundTripper
	base    *url.URL
	options Options
}

func newTransport(o Options, base *url.URL) http.RoundTripper {
	next := o.Transport
	if next == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = 30 * time.Second
		next = t
	}
	return &transport{next: next, base: base, options: o}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		resp, err := t.next.RoundTrip(t.prepare(r, body))
		if r.Context().Err() != nil {
			closeBody(resp)
			return nil, r.Context().Err()
		}
		if resp != nil {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, maxBody), resp.Body}
		}
		why, wait := tryAgain(n, r.Method, resp, err)
		if why == "" || n >= t.options.Retries || wait > maxAsked {
			return resp, err
		}
		closeBody(resp)
		t.options.Notify(fmt.Sprintf("%s %s: %s; trying again in %v (%d of %d)", r.Method, r.URL.Path, why, wait.Round(100*time.Millisecond), n+1, t.options.Retries))
		if err := t.options.Sleep(r.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// prepare is the request for one try. The token goes to the API's host and to
// no other.
func (t *transport) prepare(r *http.Request, body []byte) *http.Request {
	c := r.Clone(r.Context())
	if body != nil {
		c.Body = io.NopCloser(bytes.NewReader(body))
	}
	if !t.options.Token.IsZero() && c.URL.Scheme == t.base.Scheme && c.URL.Host == t.base.Host {
		c.Header.Set("Authorization", "Bearer "+t.options.Token.Reveal())
	}
	return c
}

func bodyOf(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

func closeBody(resp *http.Response) {
	if resp != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		resp.Body.Close()
	}
}

// tryAgain tells whether an outcome is worth another try, why, and after how
// long. A POST whose answer was lost is not sent twice: who sends it looks
// what became of it.
func tryAgain(n int, method string, resp *http.Response, err error) (why string, wait time.Duration) {
	wait = min(firstWait<<n, maxWait)
	wait = wait/2 + rand.N(wait) // half to one and a half: the jobs of a matrix must not come back at once
	switch {
	case err != nil:
		if method == http.MethodPost || errors.Is(err, context.Canceled) {
			return "", 0
		}
		return err.Error(), wait
	case limited(resp):
		return "rate limit", max(wait, asked(resp))
	case temporaryStatus[resp.StatusCode] && method != http.MethodPost:
		return fmt.Sprintf("status %d", resp.StatusCode), max(wait, asked(resp))
	}
	return "", 0
}

var temporaryStatus = map[int]bool{
	http.StatusRequestTimeout: true, http.StatusInternalServerError: true, http.StatusBadGateway: true,
	http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
}

// limited tells an answer that means "later", in the three ways GitHub says it.
func limited(resp *http.Response) bool {
	if resp.StatusCode == http.StatusTooManyRequests {
		return true
	}
	if resp.StatusCode != http.StatusForbidden {
		return false
	}
	if resp.Header.Get("Retry-After") != "" || resp.Header.Get("X-Ratelimit-Remaining") == "0" {
		return true
	}
	return strings.Contains(strings.ToLower(peekMessage(resp)), "secondary rate limit")
}

// peekMessage reads an error's message and leaves the body as it was.
func peekMessage(resp *http.Response) string {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
	var said struct{ Message string }
	_ = json.Unmarshal(data, &said)
	return said.Message
}

// asked is the wait a server asks for: in seconds, or until its clock shows
// a time.
func asked(resp *http.Response) time.Duration {
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		return time.Duration(min(s, 1<<20)) * time.Second
	}
	reset, err := strconv.ParseInt(resp.Header.Get("X-Ratelimit-Reset"), 10, 64)
	now, errNow := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || errNow != nil || resp.Header.Get("X-Ratelimit-Remaining") != "0" {
		return 0
	}
	return min(max(time.Unix(reset, 0).Sub(now)+time.Second, 0), 1<<20*time.Second)
}
