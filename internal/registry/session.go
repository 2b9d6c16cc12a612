package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// door is what is known of how a registry is spoken to. It is learned from the
// answers to requests that are made anyway, where that is possible.
type door struct {
	host    string
	schemes []string // to try, in order

	mu        sync.Mutex
	scheme    string   // "": not known yet
	asked     bool     // whether it wants a sign-in
	challenge []string // what it answers to who is not signed in; nil: nothing
}

// newDoor allows plain http only where it is asked for, and on this machine.
func newDoor(host string, insecure bool) *door {
	if insecure || isLoopbackHost(hostname(host)) {
		return &door{host: host, schemes: []string{"https", "http"}}
	}
	return &door{host: host, scheme: "https"}
}

func (d *door) learnScheme(scheme string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.scheme = scheme
}

// toTry are the schemes that may be the right one.
func (d *door) toTry() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.scheme != "" {
		return []string{d.scheme}
	}
	return d.schemes
}

// known tells whether the registry has been seen to want a sign-in or not.
func (d *door) known() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// learn takes the challenge from an answer, and tells whether there was one.
func (d *door) learn(resp *http.Response) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = true
	if resp.StatusCode == http.StatusUnauthorized {
		d.challenge = resp.Header.Values("WWW-Authenticate")
	}
	return len(d.challenge) > 0
}

// wantsToken tells whether the registry gives tokens, also to the anonymous.
func (d *door) wantsToken() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.challenge {
		if strings.HasPrefix(strings.ToLower(c), "bearer") {
			return true
		}
	}
	return false
}

// greeting is what the registry would answer to GET /v2/.
func (d *door) greeting(req *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.scheme != "" && req.URL.Scheme != d.scheme {
		return nil, http.ErrSchemeMismatch
	}
	resp := &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}
	if len(d.challenge) > 0 {
		resp.StatusCode = http.StatusUnauthorized
		resp.Header["Www-Authenticate"] = d.challenge
	}
	return resp, nil
}

// schemer sends the registry's own requests over the scheme it speaks. It
// finds that out with the first one.
type schemer struct {
	next http.RoundTripper
	door *door
	own  func(*http.Request) bool
}

// RoundTrip sends the request, and once more over http if https is not spoken.
func (s *schemer) RoundTrip(req *http.Request) (*http.Response, error) {
	if !s.own(req) {
		return s.next.RoundTrip(req)
	}
	schemes := s.door.toTry()
	var resp *http.Response
	var err error
	for _, scheme := range schemes {
		out := req.Clone(req.Context())
		out.URL.Scheme = scheme
		resp, err = s.next.RoundTrip(out)
		if err == nil {
			s.door.learnScheme(scheme)
		}
		if err == nil || untrusted(err) || req.Context().Err() != nil {
			break
		}
		if errors.Is(err, http.ErrSchemeMismatch) && len(schemes) > 1 {
			s.door.learnScheme("http")
		}
	}
	return resp, err
}

// session sends requests to a registry, signed in for some scopes once the
// registry asks for that.
type session struct {
	base   http.RoundTripper
	own    func(*http.Request) bool
	door   *door
	auth   authn.Authenticator
	scopes []string // the first one is needed, the others are for mounts
	locks  keyLocks
	signed http.RoundTripper // nil: not yet; guarded by locks
}

// RoundTrip sends the request. Without credentials it is sent as it is first:
// what is public is asked for with one request.
func (s *session) RoundTrip(req *http.Request) (*http.Response, error) {
	if !s.own(req) {
		return s.base.RoundTrip(req)
	}
	rt, err := s.transport(req.Context())
	if err != nil {
		return nil, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil || rt != s.base || resp.StatusCode != http.StatusUnauthorized || !s.door.learn(resp) || !s.door.wantsToken() {
		return resp, err
	}
	discard(resp)
	if rt, err = s.transport(req.Context()); err != nil {
		return nil, err
	}
	return rt.RoundTrip(req)
}

// transport is the base as long as no sign-in is needed.
func (s *session) transport(ctx context.Context) (http.RoundTripper, error) {
	unlock, err := s.locks.lock(ctx, "")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if s.signed != nil {
		return s.signed, nil
	}
	if !s.door.known() {
		if s.auth == authn.Anonymous {
			return s.base, nil
		}
		// A registry that shows some things to everybody may hide the rest
		// from who does not sign in, instead of asking for it.
		if err := s.ping(ctx); err != nil {
			return nil, err
		}
	}
	if s.auth == authn.Anonymous && !s.door.wantsToken() {
		return s.base, nil
	}
	s.signed, err = s.signIn(ctx)
	return s.signed, err
}

// ping asks how to sign in.
func (s *session) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.door.host+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: s.base}).Do(req)
	if err != nil {
		return err
	}
	defer discard(resp)
	if err := transport.CheckError(resp, http.StatusOK, http.StatusUnauthorized); err != nil {
		return err
	}
	s.door.learn(resp)
	return nil
}

// signIn exchanges the credentials for a token, if the registry works with
// tokens. Where no token is given for all scopes, the needed one must do.
func (s *session) signIn(ctx context.Context) (http.RoundTripper, error) {
	registry, err := name.NewRegistry(s.door.host, name.Insecure) // only so that the greeter is asked about http, too
	if err != nil {
		return nil, err
	}
	greeted := &greeter{s.base, s.own, s.door}
	rt, err := transport.NewWithContext(ctx, registry, s.auth, greeted, s.scopes)
	var status *transport.Error
	if len(s.scopes) > 1 && errors.As(err, &status) && (status.StatusCode == http.StatusForbidden || status.StatusCode == http.StatusUnauthorized) {
		return transport.NewWithContext(ctx, registry, s.auth, greeted, s.scopes[:1])
	}
	return rt, err
}

// greeter answers GET /v2/ from what is known.
type greeter struct {
	next http.RoundTripper
	own  func(*http.Request) bool
	door *door
}

// RoundTrip sends all other requests.
func (g *greeter) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/v2/" || !g.own(req) {
		return g.next.RoundTrip(req)
	}
	return g.door.greeting(req)
}

// discard ends with an answer so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}
