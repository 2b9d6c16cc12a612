// Package registrytest is a container registry that misbehaves on demand, for
// tests: a real one in this process, with faults in front of it.
package registrytest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Server is a registry on a loopback port. Its Host says localhost, since
// token realms by IP address are refused.
type Server struct {
	Host string // localhost:PORT
	URL  string // http://localhost:PORT
	HTTP *httptest.Server

	mu       sync.Mutex
	faults   []*rule
	requests []Request
	known    map[string]bool // repository@digest of the blobs uploaded
}

// Request is one request as the server saw it.
type Request struct {
	Method, Path, Query string
	Header              http.Header
	Received            int64 // bytes of the body that were read
}

// String is the method and path, and whether a query mounts.
func (r Request) String() string {
	if strings.Contains(r.Query, "mount=") {
		return r.Method + " " + r.Path + "?mount"
	}
	return r.Method + " " + r.Path
}

// Fault answers a request in place of the registry, which is next.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Match tells whether a fault concerns a request.
type Match func(*http.Request) bool

type rule struct {
	match Match
	fault Fault
	left  int // times; negative: always
}

// New starts a registry that ends with the test.
func New(t testing.TB) *Server { return start(t, (*httptest.Server).Start) }

// NewTLS starts a registry that speaks https, with the certificate of
// Server.HTTP.
func NewTLS(t testing.TB) *Server { return start(t, (*httptest.Server).StartTLS) }

func start(t testing.TB, run func(*httptest.Server)) *Server {
	s := &Server{known: map[string]bool{}}
	quiet := log.New(io.Discard, "", 0)
	s.HTTP = httptest.NewUnstartedServer(s.handler(registry.New(registry.Logger(quiet))))
	s.HTTP.Config.ErrorLog = quiet
	run(s.HTTP)
	t.Cleanup(s.HTTP.Close)
	u, _ := url.Parse(s.HTTP.URL)
	s.Host = "localhost:" + u.Port()
	s.URL = u.Scheme + "://" + s.Host
	return s
}

// On makes the next times requests that match meet the fault, all if times is
// negative. Of several rules the first that is not used up applies.
func (s *Server) On(match Match, times int, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &rule{match, fault, times})
}

// Heal takes all faults away.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Requests lists what came in so far and forgets it.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.requests
	s.requests = nil
	return got
}

// handler records, lets the faults have their turn, and makes blobs belong to
// repositories, which the registry behind it does not.
func (s *Server) handler(next http.Handler) http.Handler {
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, next) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(r.Context()) // a copy: net/http looks at the body of its own
		body := &countingBody{ReadCloser: r.Body}
		r.Body = body
		defer func() { s.record(r, body.n) }() // also when a fault breaks the connection off
		if fault := s.find(r); fault != nil {
			fault(w, r, inner)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

func (s *Server) record(r *http.Request, received int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), received})
}

func (s *Server) find(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rule := range s.faults {
		if rule.left != 0 && rule.match(r) {
			if rule.left > 0 {
				rule.left--
			}
			return rule.fault
		}
	}
	return nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	repo, digest := blobOf(r)
	query := r.URL.Query()
	switch {
	case repo == "":
	case r.Method == http.MethodHead && !s.has(repo, digest):
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodPost && query.Get("mount") != "" && s.has(query.Get("from"), query.Get("mount")):
		s.add(repo, query.Get("mount"))
		w.Header().Set("Location", "/v2/"+repo+"/blobs/"+query.Get("mount"))
		w.WriteHeader(http.StatusCreated)
		return
	}
	status := &statusWriter{ResponseWriter: w}
	next.ServeHTTP(status, r)
	if r.Method == http.MethodPut && repo != "" && status.code == http.StatusCreated {
		s.add(repo, query.Get("digest"))
	}
}

func (s *Server) has(repo, digest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[repo+"@"+digest]
}

func (s *Server) add(repo, digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[repo+"@"+digest] = true
}

// blobOf splits /v2/REPO/blobs/...; repo is empty for other paths.
func blobOf(r *http.Request) (repo, digest string) {
	repo, digest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	if !ok {
		return "", ""
	}
	return repo, digest
}

type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Any matches every request, the ping included.
func Any(*http.Request) bool { return true }

// Is matches by method and a part of the path, each empty for any.
func Is(method, part string) Match {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part)
	}
}

// Blob matches reading a blob.
func Blob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:")
}

// Manifest matches reading a manifest.
func Manifest(r *http.Request) bool { return Is(http.MethodGet, "/manifests/")(r) }

// Upload matches the request that sends a blob.
func Upload(r *http.Request) bool { return Is(http.MethodPut, "/blobs/uploads/")(r) }
