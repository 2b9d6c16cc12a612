package registry

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	maxRedirects = 5
	maxManifest  = 4 << 20
)

// guard is the transport for everything that follows from talking to one
// registry: the registry itself, its token server, where it redirects to. It
// refuses what a registry must not make us do.
type guard struct {
	host     string   // of the registry, with its port
	realms   []string // hosts that may see the credentials beside it
	insecure map[string]bool
	agent    string
	strict   http.RoundTripper // checks certificates
	lax      http.RoundTripper // does not; nil unless the registry is listed as insecure
	fence    *fence
	door     *door
	close    func()
}

func newGuard(c *Client, host string) *guard {
	g := &guard{
		host: host, realms: c.opts.Realms[host], insecure: c.insecure,
		agent: "imgbake/" + c.opts.Version,
		door:  newDoor(host, c.insecure[host]),
		fence: &fence{registry: hostname(host), proxies: c.proxies.addrs(), lookup: c.opts.Lookup, dial: c.opts.Dial},
	}
	strict := newTransport(c, g.fence, &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12})
	g.strict, g.close = &watchdog{strict, c.opts.Timeouts}, strict.CloseIdleConnections
	if c.insecure[host] {
		lax := newTransport(c, g.fence, &tls.Config{InsecureSkipVerify: true}) // asked for, for this host alone
		g.lax, g.close = &watchdog{lax, c.opts.Timeouts}, func() { strict.CloseIdleConnections(); lax.CloseIdleConnections() }
	}
	return g
}

func newTransport(c *Client, f *fence, config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 c.proxies.forRequest,
		DialContext:           f.dialContext,
		TLSClientConfig:       config,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // digests are of the bytes as sent
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        64 << 10,
	}
}

// RoundTrip checks a request, sends a copy of it, and caps the answer.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.check(req); err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Header.Set("User-Agent", g.agent)
	if !g.own(req) && req.Response != nil {
		out.Header.Del("Authorization")
	}
	// Every try gets a body of its own; the one in req is never read.
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, &bodyError{err}
		}
		out.Body = body
	}
	base := g.strict
	if g.lax != nil && g.own(req) {
		base = g.lax
	}
	resp, err := base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if strings.Contains(req.URL.Path, "/manifests/") {
		if resp.ContentLength > maxManifest && req.Method == http.MethodGet {
			resp.Body.Close()
			return nil, errManifestTooBig
		}
		resp.Body = &cappedBody{resp.Body, maxManifest}
	}
	return resp, nil
}

var errManifestTooBig = &RefusedError{Text: fmt.Sprintf("the manifest is larger than %d MiB", maxManifest>>20)}

// check refuses endless redirects, plain http, credentials for strangers and
// addresses no registry has business with.
func (g *guard) check(req *http.Request) error {
	if n := redirects(req); n > maxRedirects {
		return &RefusedError{Text: fmt.Sprintf("more than %d redirects, the last to %s", maxRedirects, req.URL.Host)}
	}
	if err := g.checkScheme(req); err != nil {
		return err
	}
	if g.own(req) {
		return nil
	}
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := g.fence.check(req.Context(), req.URL.Host, ip); err != nil {
			return err
		}
	}
	if !carriesCredentials(req) || g.trusts(hostname(req.URL.Host)) {
		return nil
	}
	if req.Response != nil && req.Method == http.MethodGet {
		return nil // a redirect: RoundTrip takes the credentials out
	}
	return &RefusedError{
		Text: fmt.Sprintf("the registry wants its credentials sent to %s, which is not part of it", req.URL.Host),
		Hint: fmt.Sprintf("if that is its token server, allow it with --registry-realm %s=%s", g.host, hostname(req.URL.Host)),
	}
}

func (g *guard) checkScheme(req *http.Request) error {
	if req.URL.Scheme != "http" {
		return nil
	}
	if prev := req.Response; prev != nil && prev.Request != nil && prev.Request.URL.Scheme == "https" {
		return &RefusedError{Text: fmt.Sprintf("redirect from https to http://%s", req.URL.Host)}
	}
	if isLoopbackHost(hostname(req.URL.Host)) || g.insecure[req.URL.Host] {
		return nil
	}
	return &RefusedError{
		Text: fmt.Sprintf("plain http to %s", req.URL.Host),
		Hint: "allow it for this registry with --insecure-registry " + req.URL.Host,
		http: true,
	}
}

// own tells whether the request goes to the registry itself.
func (g *guard) own(req *http.Request) bool {
	return withPort(req.URL.Host, req.URL.Scheme) == withPort(g.host, req.URL.Scheme)
}

// trusts tells whether a token server may see the registry's credentials.
func (g *guard) trusts(realm string) bool {
	if sameSite(hostname(g.host), realm) {
		return true
	}
	for _, known := range append(tokenServers[hostname(g.host)], g.realms...) {
		if strings.EqualFold(realm, known) {
			return true
		}
	}
	return false
}

// tokenServers are those of well-known registries that live on another site.
var tokenServers = map[string][]string{
	"index.docker.io":         {"auth.docker.io"},
	"registry.hub.docker.com": {"auth.docker.io"},
}

// carriesCredentials also knows the token request by form, which has them in
// its body.
func carriesCredentials(req *http.Request) bool {
	return req.Header.Get("Authorization") != "" ||
		req.Method == http.MethodPost && strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

func redirects(req *http.Request) int {
	n := 0
	for r := req.Response; r != nil && r.Request != nil; r = r.Request.Response {
		n++
	}
	return n
}

// cappedBody fails where io.LimitReader would quietly end.
type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errManifestTooBig
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, errManifestTooBig
	}
	return n, err
}
