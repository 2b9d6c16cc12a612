// Package registry is the one transport to container registries: sign-in with
// fences around the credentials, retries, proxies, certificate authorities and
// mirrors. It pulls images lazily and pushes them by digest first and by tag
// last. The wire protocol of reading and the token handshake are those of
// go-containerregistry, which runs on top of the transport made here.
package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Options say how to reach registries. The zero value works for public ones.
// Hosts are written as in a reference: ghcr.io, docker.io, localhost:5000.
type Options struct {
	Version  string              // of imgbake, for the User-Agent
	Getenv   func(string) string // nil: no environment, so no proxy and no docker config
	Auth     map[string]Auth     // credentials by host; they win over the docker config
	CAFiles  []string            // PEM files of further certificate authorities
	Mirrors  map[string][]string // by host: hosts to pull from first
	Insecure []string            // hosts that may be spoken to over http, or with a certificate nobody checks
	Realms   map[string][]string // by host: further token servers that may see its credentials
	Retries  int                 // tries after the first; 0 means 4, negative none
	Jobs     int                 // blobs pushed at a time; 0 means 5
	Timeouts Timeouts            // zero fields have defaults
	Places   Places              // where blobs are; nil: what this client sees
	Notify   func(string)        // takes one-line notes, such as "trying again"; may be nil
	Sleep    func(context.Context, time.Duration) error
	Lookup   func(context.Context, string) ([]netip.Addr, error)               // nil: the system's resolver
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network; addr is an IP address
}

// Timeouts bound the waiting for a registry.
type Timeouts struct {
	Headers time.Duration // from the request to the answer's headers; 30 s
	Stall   time.Duration // without a KiB moving in a body; 60 s
	Commit  time.Duration // from the end of an upload to its answer; 5 min
}

// Client talks to registries. It is safe for concurrent use. Close it to give
// its connections back.
type Client struct {
	opts     Options
	docker   *dockerConfig
	roots    *x509.CertPool
	proxies  proxies
	insecure map[string]bool
	policy   policy

	mu       sync.Mutex
	guards   map[string]*guard
	sessions map[string]http.RoundTripper
	locks    keyLocks
}

// New makes a client. It reads the CA files and the docker config; credential
// helpers are asked when they are needed.
func New(o Options) (*Client, error) {
	setDefaults(&o)
	docker, err := loadDockerConfig(o.Getenv)
	if err != nil {
		return nil, err
	}
	roots, err := certPool(o.CAFiles)
	if err != nil {
		return nil, err
	}
	proxies, err := proxiesFrom(o.Getenv)
	if err != nil {
		return nil, err
	}
	c := &Client{
		opts: o, docker: docker, roots: roots, proxies: proxies,
		insecure: map[string]bool{},
		policy:   policy{retries: o.Retries, sleep: o.Sleep, notify: o.Notify},
		guards:   map[string]*guard{},
		sessions: map[string]http.RoundTripper{},
	}
	for _, host := range o.Insecure {
		c.insecure[canonicalHost(host)] = true
	}
	return c, nil
}

func setDefaults(o *Options) {
	o.Auth, o.Mirrors, o.Realms = canonicalKeys(o.Auth), canonicalKeys(o.Mirrors), canonicalKeys(o.Realms)
	o.Version = cmp.Or(o.Version, "dev")
	o.Jobs = cmp.Or(o.Jobs, 5)
	o.Retries = max(0, cmp.Or(o.Retries, 4))
	o.Timeouts.Headers = cmp.Or(o.Timeouts.Headers, 30*time.Second)
	o.Timeouts.Stall = cmp.Or(o.Timeouts.Stall, 60*time.Second)
	o.Timeouts.Commit = cmp.Or(o.Timeouts.Commit, 5*time.Minute)
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Places == nil {
		o.Places = &memory{last: map[string]string{}}
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
}

// Close closes the idle connections. The client works on after it.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.guards {
		g.close()
	}
}

// session returns a transport to the repository's registry that signs in for
// the scopes when it must. Sessions are kept: one handshake serves many
// requests. Nothing is sent before the first of them.
func (c *Client) session(ctx context.Context, repo name.Repository, auth Auth, scopes ...string) (http.RoundTripper, error) {
	host := repo.RegistryStr()
	key := sessionKey(host, auth, scopes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if rt, ok := c.sessions[key]; ok {
		return rt, nil
	}
	g := c.guard(host)
	s := &session{
		base: &retrier{next: &schemer{g, g.door, g.own}, policy: c.policy, host: host},
		own:  g.own, door: g.door, auth: auth.authenticator(), scopes: scopes,
	}
	// As go-containerregistry wants it: greeted, and not signed in once more.
	rt, err := transport.NewWithContext(ctx, repo.Registry, authn.Anonymous, &greeter{s, g.own, &door{}}, nil)
	if err == nil {
		c.sessions[key] = rt
	}
	return rt, err
}

// sessionKey holds a hash of the credentials, not the credentials.
func sessionKey(host string, auth Auth, scopes []string) string {
	who := sha256.Sum256([]byte(auth.Username + "\x00" + auth.Password.Reveal() + "\x00" + auth.Token.Reveal()))
	return fmt.Sprintf("%s %x %s", host, who, strings.Join(slices.Sorted(slices.Values(scopes)), " "))
}

// guard is the fenced transport to a registry. The client is locked.
func (c *Client) guard(host string) *guard {
	g, ok := c.guards[host]
	if !ok {
		g = newGuard(c, host)
		c.guards[host] = g
	}
	return g
}

// certPool returns the system's authorities and those of the files, or nil
// for the system's alone.
func certPool(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("registry CA: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("registry CA %s: no PEM certificate in it", file)
		}
	}
	return pool, nil
}

// canonicalHost gives Docker Hub, which has several names, the one that
// references carry.
func canonicalHost(host string) string {
	host = strings.ToLower(host)
	switch host {
	case "docker.io", "registry-1.docker.io", "index.docker.io":
		return name.DefaultRegistry
	}
	return host
}

func canonicalKeys[T any](in map[string]T) map[string]T {
	out := make(map[string]T, len(in))
	for host, v := range in {
		out[canonicalHost(host)] = v
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
