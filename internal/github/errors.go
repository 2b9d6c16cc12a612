package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	gh "github.com/google/go-github/v60/github"
)

// What an Error may be, for errors.Is.
var (
	// ErrUnauthorized is a token that is refused whatever it asks for.
	ErrUnauthorized = errors.New("token refused")
	// ErrForbidden is a token without the permission.
	ErrForbidden = errors.New("permission missing")
	// ErrRateLimited is a limit that does not end soon.
	ErrRateLimited = errors.New("rate limit")
	// ErrNotFound is a thing that is not there, or that the token may not see.
	ErrNotFound = errors.New("not found")
	// ErrUnsupported is an API that this server lacks, as Gitea and Forgejo lack
	// some of GitHub's.
	ErrUnsupported = errors.New("not offered by this server")
)

// Error is an answer other than success.
type Error struct {
	Doing   string // what was being done: "comment on pull request 7 of o/r"
	Status  int
	Message string // the server's own words
	Need    string // the workflow's line that grants it: "pull-requests: write"
	Kind    error  // one of the above, or nil
	Cause   error  // go-github's
}

// Error says what was refused and what to write into the workflow.
func (e *Error) Error() string {
	said := fmt.Sprintf("%s: status %d", e.Doing, e.Status)
	if e.Message != "" {
		said += ": " + e.Message
	}
	switch e.Kind {
	case ErrUnauthorized:
		return said + "; the token in the input github-token is wrong or has expired"
	case ErrForbidden:
		return said + "; the job lacks a permission: write `permissions: {" + e.Need + "}` into the workflow" +
			" (" + e.reservation() + ")"
	case ErrNotFound:
		said += "; it is not there, or the token may not see it (" + e.Need + ")"
		if strings.HasPrefix(e.Need, "packages:") {
			said += "; " + e.reservation()
		}
		return said
	case ErrUnsupported:
		return said + "; this server does not offer that API"
	}
	return said
}

// reservation is why the permission may not do.
func (e *Error) reservation() string {
	if strings.HasPrefix(e.Need, "packages:") {
		return "the repository also needs the role Admin on the package: see its settings, Manage Actions access"
	}
	return "pull requests of forks and of Dependabot get a read-only token whatever it says"
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	out := []error{e.Cause}
	if e.Kind != nil {
		out = append(out, e.Kind)
	}
	return out
}

// call names one operation for its errors.
type call struct {
	doing string
	need  string
}

// fail makes an Error of what go-github returned.
func (c call) fail(err error) error {
	var answer *gh.ErrorResponse
	var primary *gh.RateLimitError
	var secondary *gh.AbuseRateLimitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &primary):
		return c.error(primary.Response, primary.Message, "", err)
	case errors.As(err, &secondary):
		return c.error(secondary.Response, secondary.Message, "", err)
	case errors.As(err, &answer):
		return c.error(answer.Response, withDetails(answer), answer.DocumentationURL, err)
	}
	return fmt.Errorf("%s: %w", c.doing, err)
}

func (c call) error(resp *http.Response, message, docs string, cause error) error {
	e := &Error{Doing: c.doing, Need: c.need, Status: resp.StatusCode, Message: clean(message), Cause: cause}
	e.Kind = kind(resp, message, docs)
	if e.Kind == ErrRateLimited {
		e.Doing += ": rate limit"
	}
	return e
}

func kind(resp *http.Response, message, docs string) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return ErrUnauthorized
	case http.StatusTooManyRequests:
		return ErrRateLimited
	case http.StatusForbidden:
		if limited(resp) || strings.Contains(strings.ToLower(message), "rate limit") {
			return ErrRateLimited
		}
		return ErrForbidden
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return ErrUnsupported
	case http.StatusNotFound:
		// GitHub's errors all name a page of its documentation, and Gitea's of
		// objects a URL. A route that is unknown answers in plain text.
		if message == "" && docs == "" {
			return ErrUnsupported
		}
		return ErrNotFound
	}
	return nil
}

// withDetails adds to a message the details that GitHub gives with 422.
func withDetails(r *gh.ErrorResponse) string {
	said := []string{r.Message}
	for _, d := range r.Errors {
		if text := strings.TrimSpace(strings.Join([]string{d.Field, d.Code, d.Message}, " ")); text != "" {
			said = append(said, text)
		}
	}
	return strings.Join(said, ": ")
}

// clean makes a server's words one line of bounded length.
func clean(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}
