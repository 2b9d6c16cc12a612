// Package github is the client of GitHub's REST API, and of what Gitea and
// Forgejo speak of it: pull requests, comments and container packages.
//
// Errors say what the workflow lacks. The one comment that many jobs write at
// once is in upsert.go.
package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/imgbake/imgbake-action/internal/secret"
)

// Options say how to reach the API.
type Options struct {
	BaseURL    string       // GITHUB_API_URL; there is no default
	GraphQLURL string       // GITHUB_GRAPHQL_URL; may be empty
	Token      secret.Value // sent to the host of BaseURL only
	UserAgent  string
	Retries    int               // tries after the first; 0 means 4
	Transport  http.RoundTripper // nil means a transport with timeouts

	// Sleep waits, or returns the context's error. It is called between tries.
	Sleep func(context.Context, time.Duration) error
	// Notify, if set, is told why a request is tried again.
	Notify func(string)
}

// Client calls the API. It is safe for concurrent use.
type Client struct {
	rest    *gh.Client
	graphql string
	sleep   func(context.Context, time.Duration) error
	notify  func(string)
}

// Repository is a repository by its full name.
type Repository struct{ Owner, Name string }

// String is the name as GitHub writes it: owner/name.
func (r Repository) String() string { return r.Owner + "/" + r.Name }

// ParseRepository reads owner/name.
func ParseRepository(s string) (Repository, error) {
	owner, name, ok := strings.Cut(s, "/")
	if !ok || !plainName(owner) || !plainName(name) {
		return Repository{}, fmt.Errorf("repository %q: want owner/name", s)
	}
	return Repository{owner, name}, nil
}

// plainName tells a name that can be put into a path as it is.
func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// New makes a client.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("address of the GitHub API %q: want a URL such as https://api.github.com", o.BaseURL)
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	rest := gh.NewClient(&http.Client{Transport: newTransport(o, base), CheckRedirect: sameHost(base)})
	rest.BaseURL = base
	rest.UserAgent = o.UserAgent
	return &Client{rest: rest, graphql: o.GraphQLURL, sleep: o.Sleep, notify: o.Notify}, nil
}

// sameHost refuses to follow a redirect off the API's own host.
func sameHost(base *url.URL) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != base.Scheme || r.URL.Host != base.Host {
			return fmt.Errorf("redirected to %s, which is not the API", r.URL.Redacted())
		}
		if len(via) > 5 {
			return fmt.Errorf("redirected more than %d times", 5)
		}
		return nil
	}
}

// maxPages bounds a list: ten thousand entries.
const maxPages = 100

// list collects the pages of a list.
func list[T any](call call, page func(gh.ListOptions) ([]T, *gh.Response, error)) ([]T, error) {
	var all []T
	next := 1
	for n := 0; n < maxPages; n++ {
		items, resp, err := page(gh.ListOptions{Page: next, PerPage: 100})
		if err != nil {
			return nil, call.fail(err)
		}
		all = append(all, items...)
		if resp.NextPage <= next {
			return all, nil
		}
		next = resp.NextPage
	}
	return nil, call.fail(fmt.Errorf("more than %d pages", maxPages))
}
