// Package githubtest is a GitHub API for tests. It keeps pull requests,
// comments, reactions and container packages, and checks every request and
// every answer against the description of the API that GitHub publishes.
package githubtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// User is an account.
type User struct {
	ID    int64
	Login string
	Type  string // User, Organization or Bot
}

// ActionsBot is the account of a workflow's token.
var ActionsBot = User{41898282, "github-actions[bot]", "Bot"}

// Token is what a token may do.
type Token struct {
	User     User
	App      bool // an installation token: GET /user is forbidden to it
	ReadOnly bool // as in the pull request of a fork
}

// Comment is a comment on a pull request.
type Comment struct {
	ID     int64
	Author User
	Body   string
}

// Pull is a pull request.
type Pull struct {
	Number           int
	State            string // open if empty
	Merged           bool
	HeadRepo         string // empty: deleted
	HeadRef, HeadSHA string
	BaseRef, BaseSHA string
	Author           string
}

// Version is a version of a container package.
type Version struct {
	ID     int64
	Digest string
	Tags   []string
}

type lock struct {
	id      int64
	user    User
	content string
	created time.Time
}

// Server is the API. Its methods may be called while it serves.
type Server struct {
	URL        string // for GITHUB_API_URL
	GraphQLURL string
	// Unchecked leaves out the comparison with the description. For tests that
	// make very many requests, after others have made the same ones.
	Unchecked bool
	// Gitea leaves out what Gitea does not have.
	Gitea bool

	t       testing.TB
	handler http.Handler
	spec    *spec

	mu        sync.Mutex
	now       time.Time
	lastID    int64
	tokens    map[string]Token
	users     map[string]User
	pulls     map[string][]Pull
	comments  map[string][]Comment // by repo#number
	reactions map[int64][]lock     // by comment
	packages  map[string][]Version
	faults    []injected
	requests  []string
}

// New starts a server that ends with the test. It lies below /api/v3, as on an
// Enterprise server, so that a client cannot get along with a path of its own.
// The token "actions" is that of a workflow.
func New(t testing.TB) *Server {
	t.Helper()
	s := InProcess(t)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL, s.GraphQLURL = server.URL+"/api/v3", server.URL+"/api/graphql"
	return s
}

// InProcess makes a server without a network: use it as the client's
// transport.
func InProcess(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		t: t, spec: load(t), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), lastID: 100,
		tokens: map[string]Token{"actions": {User: ActionsBot, App: true}},
		users:  map[string]User{}, pulls: map[string][]Pull{}, comments: map[string][]Comment{},
		reactions: map[int64][]lock{}, packages: map[string][]Version{},
	}
	s.handler = s.routes()
	s.URL, s.GraphQLURL = "https://github.test/api/v3", "https://github.test/api/graphql"
	return s
}

// RoundTrip implements http.RoundTripper.
func (s *Server) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() != nil {
			resp, err = nil, io.ErrUnexpectedEOF // Reset
		}
	}()
	in := httptest.NewRequest(r.Method, r.URL.String(), r.Body).WithContext(r.Context())
	in.Header = r.Header.Clone()
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, in)
	resp = answer.Result()
	resp.Request = r
	return resp, nil
}

// AddToken says what a token is.
func (s *Server) AddToken(token string, is Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = is
}

// AddUser makes an account known.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Login] = u
}

// AddPull makes a pull request in a repository, owner/name.
func (s *Server) AddPull(repo string, p Pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls[repo] = append(s.pulls[repo], p)
}

// AddComment makes a comment and returns its number.
func (s *Server) AddComment(repo string, number int, author User, body string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addComment(thread(repo, number), author, body).ID
}

func (s *Server) addComment(thread string, author User, body string) Comment {
	c := Comment{s.nextID(), author, body}
	s.comments[thread] = append(s.comments[thread], c)
	return c
}

// Comments are the comments on a pull request, oldest first.
func (s *Server) Comments(repo string, number int) []Comment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.comments[thread(repo, number)])
}

// React makes a reaction of an account to a comment.
func (s *Server) React(comment int64, u User, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reactions[comment] = append(s.reactions[comment], lock{s.nextID(), u, content, s.now})
}

// Reactions counts the reactions to a comment.
func (s *Server) Reactions(comment int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reactions[comment])
}

// AddVersion makes a version of a package of an owner.
func (s *Server) AddVersion(owner, name, digest string, tags ...string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := Version{s.nextID(), digest, tags}
	s.packages[owner+"/"+name] = append(s.packages[owner+"/"+name], v)
	return v.ID
}

// Versions are the versions of a package.
func (s *Server) Versions(owner, name string) []Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.packages[owner+"/"+name])
}

// Requests lists what was asked for so far: "GET /repos/o/r/pulls?page=2".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Pass lets time go by on the server's clock.
func (s *Server) Pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// State tells apart what the server keeps, as text.
func (s *Server) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.comments, s.reactions)
}

func (s *Server) nextID() int64 {
	s.lastID++
	return s.lastID
}

func thread(repo string, number int) string { return fmt.Sprintf("%s#%d", repo, number) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	what := r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/api/v3")
	s.requests = append(s.requests, what)
	w.Header().Set("Date", s.now.Format(http.TimeFormat))
	fault := s.takeFault(what)
	s.mu.Unlock()
	if fault != nil {
		fault(w, r, s.handler)
		return
	}
	s.handler.ServeHTTP(w, r)
}
