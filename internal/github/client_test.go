package github_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
	"github.com/imgbake/imgbake-action/internal/secret"
)

var repo = github.Repository{Owner: "o", Name: "r"}

func TestPulls(t *testing.T) {
	s := githubtest.New(t)
	s.AddPull("o/r", githubtest.Pull{Number: 7, HeadRepo: "o/r", HeadRef: "topic", HeadSHA: "abc", BaseRef: "main", BaseSHA: "def", Author: "ann"})
	s.AddPull("o/r", githubtest.Pull{Number: 8, HeadRepo: "fork/r", HeadRef: "main", HeadSHA: "f00", BaseRef: "main"})
	s.AddPull("o/r", githubtest.Pull{Number: 9, HeadRepo: "fork/other", HeadRef: "main", HeadSHA: "f00", BaseRef: "main"})
	s.AddPull("o/r", githubtest.Pull{Number: 10, State: "closed", Merged: true, HeadRef: "gone", HeadSHA: "abc", BaseRef: "main"})
	c := client(t, s, "actions", nil)

	got, err := c.Pull(t.Context(), repo, 7)
	want := github.Pull{Number: 7, State: "open", HeadSHA: "abc", HeadRef: "topic", HeadRepo: "o/r", BaseSHA: "def", BaseRef: "main",
		BaseRepo: "o/r", Author: "ann", URL: "https://github.example/o/r/pull/7"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("pull request 7: %v\n%s", err, diff)
	}
	gone, err := c.Pull(t.Context(), repo, 10)
	if err != nil || !gone.Fork() || !gone.Merged || got.Fork() {
		t.Errorf("pull request 10: %+v, %v", gone, err)
	}
	of, err := c.PullsOfCommit(t.Context(), repo, "abc")
	if err != nil || numbers(of) != "[7 10]" {
		t.Errorf("pull requests of commit abc: %s, %v", numbers(of), err)
	}
	fork := github.Repository{Owner: "fork", Name: "r"}
	of, err = c.OpenPullsOfHead(t.Context(), repo, fork, "main", "f00")
	if err != nil || numbers(of) != "[8]" {
		t.Errorf("open pull requests of fork/r:main: %s, %v", numbers(of), err)
	}
	if of, err = c.OpenPullsOfHead(t.Context(), repo, fork, "main", "abc"); err != nil || of != nil {
		t.Errorf("with another commit: %v, %v", of, err)
	}
	if _, err := c.Pull(t.Context(), repo, 77); !errors.Is(err, github.ErrNotFound) {
		t.Errorf("pull request 77: %v", err)
	}
}

func numbers(pulls []github.Pull) string {
	var out []int
	for _, p := range pulls {
		out = append(out, p.Number)
	}
	return fmt.Sprint(out)
}

func TestPackages(t *testing.T) {
	for _, kind := range []string{"Organization", "User"} {
		t.Run(kind, func(t *testing.T) {
			s := githubtest.New(t)
			s.AddUser(githubtest.User{ID: 3, Login: "acme", Type: kind})
			var ids []int64
			for i := range 120 {
				ids = append(ids, s.AddVersion("acme", "team/web", fmt.Sprintf("sha256:%064d", i), fmt.Sprintf("pr-%d", i)))
			}
			packages, err := client(t, s, "actions", nil).Packages(t.Context(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			got, err := packages.Versions(t.Context(), "team/web")
			if err != nil || len(got) != 120 || got[119].Digest != fmt.Sprintf("sha256:%064d", 119) || !slices.Equal(got[119].Tags, []string{"pr-119"}) {
				t.Fatalf("%d versions, last %+v, %v", len(got), got[len(got)-1:], err)
			}
			if err := packages.Delete(t.Context(), "team/web", ids[5]); err != nil {
				t.Error(err)
			}
			err = packages.Delete(t.Context(), "team/web", ids[5])
			if !errors.Is(err, github.ErrNotFound) || !strings.Contains(err.Error(), "packages: write") || !strings.Contains(err.Error(), "Admin") {
				t.Errorf("what is gone: %v", err)
			}
			if n := len(s.Versions("acme", "team/web")); n != 119 {
				t.Errorf("%d versions are left", n)
			}
			id := s.AddVersion("acme", "one", "sha256:1", "latest")
			if err := packages.Delete(t.Context(), "one", id); err == nil || !strings.Contains(err.Error(), "delete the package instead") {
				t.Errorf("last version: %v", err)
			}
		})
	}
}

func TestWhoami(t *testing.T) {
	s := githubtest.New(t)
	s.AddToken("pat", githubtest.Token{User: githubtest.User{ID: 3, Login: "ann", Type: "User"}})
	bot := github.User{ID: githubtest.ActionsBot.ID, Login: "github-actions[bot]"}
	for _, c := range []struct {
		name  string
		token string
		fault githubtest.Fault
		want  github.User
		err   error
	}{
		{"a person's token", "pat", nil, github.User{ID: 3, Login: "ann", Type: "User"}, nil},
		{"a workflow's token", "actions", nil, bot, nil},
		{"no GraphQL", "actions", githubtest.Page(http.StatusNotFound, "404 page not found"), github.ActionsBot, nil},
		{"a wrong token", "wrong", nil, github.User{}, github.ErrUnauthorized},
	} {
		if c.fault != nil {
			s.Inject("POST /api/graphql", c.fault)
		}
		got, err := client(t, s, c.token, nil).Whoami(t.Context())
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestErrors(t *testing.T) {
	const list = "GET /repos/*/*/issues/*/comments"
	for _, c := range []struct {
		name  string
		fault githubtest.Fault
		kind  error
		want  string
	}{
		{"forbidden", githubtest.Integration, github.ErrForbidden,
			"comments on pull request 7 of o/r: status 403: Resource not accessible by integration; the job lacks a permission: " +
				"write `permissions: {pull-requests: read}` into the workflow (pull requests of forks and of Dependabot get a read-only token whatever it says)"},
		{"unauthorized", githubtest.Status(401, "Bad credentials"), github.ErrUnauthorized,
			"comments on pull request 7 of o/r: status 401: Bad credentials; the token in the input github-token is wrong or has expired"},
		{"not found", githubtest.Status(404, "Not Found"), github.ErrNotFound,
			"comments on pull request 7 of o/r: status 404: Not Found; it is not there, or the token may not see it (pull-requests: read)"},
		{"no such API", githubtest.Page(404, "404 page not found"), github.ErrUnsupported,
			"comments on pull request 7 of o/r: status 404; this server does not offer that API"},
		{"not found on Gitea", giteaNotFound, github.ErrNotFound,
			"comments on pull request 7 of o/r: status 404: issue does not exist; it is not there, or the token may not see it (pull-requests: read)"},
		{"no such method", githubtest.Page(405, ""), github.ErrUnsupported,
			"comments on pull request 7 of o/r: status 405; this server does not offer that API"},
		{"validation", githubtest.Status(422, "Validation\nFailed\x1b[31m"), nil,
			"comments on pull request 7 of o/r: status 422: Validation Failed [31m"},
		{"limit of a day", githubtest.Primary(5 * time.Hour), github.ErrRateLimited,
			"comments on pull request 7 of o/r: rate limit: status 403: API rate limit exceeded for installation ID 1."},
		{"long secondary limit", githubtest.Secondary(3600), github.ErrRateLimited,
			"comments on pull request 7 of o/r: rate limit: status 403: You have exceeded a secondary rate limit. Please wait a few minutes before you try again."},
		{"429 for ever", githubtest.Status(429, "slow down", "Retry-After", "9999"), github.ErrRateLimited,
			"comments on pull request 7 of o/r: rate limit: status 429: slow down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := githubtest.New(t)
			s.Inject(list, c.fault)
			_, err := client(t, s, "actions", nil).Comments(t.Context(), repo, 7)
			if err == nil || err.Error() != c.want || c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if n := len(s.Requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func giteaNotFound(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(w, `{"errors":null,"message":"issue does not exist","url":"https://gitea.example/api/swagger"}`)
}

func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name     string
		fault    githubtest.Fault
		min, max time.Duration
	}{
		{"5xx", githubtest.Status(503, "busy"), time.Second / 2, 2 * time.Second},
		{"5xx with Retry-After", githubtest.Status(503, "busy", "Retry-After", "7"), 7 * time.Second, 7 * time.Second},
		{"no answer", githubtest.Reset, time.Second / 2, 2 * time.Second},
		{"429", githubtest.Status(429, "slow down", "Retry-After", "5"), 5 * time.Second, 5 * time.Second},
		{"secondary limit", githubtest.Secondary(40), 40 * time.Second, 40 * time.Second},
		{"secondary limit without a time", githubtest.Status(403, "You have exceeded a secondary rate limit."), time.Second / 2, 2 * time.Second},
		{"primary limit", githubtest.Primary(90 * time.Second), 91 * time.Second, 91 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := githubtest.New(t)
			s.Inject("GET /repos/*/*/issues/*/comments", c.fault)
			var slept []time.Duration
			_, err := client(t, s, "actions", &slept).Comments(t.Context(), repo, 7)
			if err != nil || len(slept) != 1 || slept[0] < c.min || slept[0] > c.max {
				t.Errorf("slept %v, want once from %v to %v; %v", slept, c.min, c.max, err)
			}
		})
	}
	s := githubtest.New(t)
	s.Inject("GET /repos/*/*/issues/*/comments", slices.Repeat([]githubtest.Fault{githubtest.Status(500, "oops")}, 9)...)
	if _, err := client(t, s, "actions", nil).Comments(t.Context(), repo, 7); err == nil || len(s.Requests()) != 5 {
		t.Errorf("%d requests, %v", len(s.Requests()), err)
	}
}

// What may have been done is not done twice.
func TestCreationIsNotRepeated(t *testing.T) {
	for name, fault := range map[string]githubtest.Fault{
		"status 502": githubtest.After(githubtest.Status(502, "oops")), "no answer": githubtest.After(githubtest.Reset),
	} {
		s := githubtest.New(t)
		s.Inject("POST /repos/*/*/issues/*/comments", fault)
		_, err := client(t, s, "actions", nil).CreateComment(t.Context(), repo, 7, "x")
		if n := len(s.Comments("o/r", 7)); err == nil || n != 1 {
			t.Errorf("%s: %d comments, %v", name, n, err)
		}
	}
}

func TestPermissionsOfPackages(t *testing.T) {
	s := githubtest.New(t)
	s.AddUser(githubtest.User{ID: 3, Login: "acme", Type: "Organization"})
	id := s.AddVersion("acme", "web", "sha256:1")
	s.Inject("DELETE /orgs/*/packages/container/web/versions/*", githubtest.Integration)
	packages, err := client(t, s, "actions", nil).Packages(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	err = packages.Delete(t.Context(), "web", id)
	if !errors.Is(err, github.ErrForbidden) || !strings.Contains(err.Error(), "packages: write") || !strings.Contains(err.Error(), "Admin") {
		t.Errorf("got %v", err)
	}
	s.Gitea = true
	if _, err := packages.Versions(t.Context(), "web"); !errors.Is(err, github.ErrUnsupported) {
		t.Errorf("on Gitea: %v", err)
	}
}

// The token goes nowhere but to the API.
func TestTokenStaysAtHome(t *testing.T) {
	var elsewhere []*http.Request
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere = append(elsewhere, r) }))
	defer evil.Close()
	s := githubtest.New(t)
	s.Inject("GET /repos/*/*/issues/*/comments", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, evil.URL+"/"+r.URL.Path, http.StatusTemporaryRedirect)
	})
	_, err := client(t, s, "actions", nil).Comments(t.Context(), repo, 7)
	if err == nil || !strings.Contains(err.Error(), "not the API") || len(elsewhere) != 0 {
		t.Errorf("got %v and %d requests elsewhere", err, len(elsewhere))
	}
	c, err := github.New(github.Options{BaseURL: s.URL, GraphQLURL: evil.URL, Token: secret.New("actions")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Whoami(t.Context()); err != nil || got != github.ActionsBot {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, r := range elsewhere {
		if r.Header.Get("Authorization") != "" {
			t.Error("token was sent elsewhere")
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, "actions") {
		t.Error("token is printed")
	}
}

func TestNames(t *testing.T) {
	for in, ok := range map[string]bool{"o/r": true, "o-1/r.x_y": true, "": false, "o": false, "o/": false, "/r": false, "o/r/x": false,
		"../r": false, "o/..": false, "o/r?x": false, "o/r#x": false, "o/%2e": false} {
		if got, err := github.ParseRepository(in); (err == nil) != ok || ok && got.String() != in {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, base := range []string{"", "api.github.com", "ftp://x", "https://"} {
		if _, err := github.New(github.Options{BaseURL: base}); err == nil {
			t.Errorf("%q: no error", base)
		}
	}
}
