package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error says what was tried with which repository and why it did not work.
type Error struct {
	Op     string // pull, push, tag 1.2
	Repo   string // ghcr.io/acme/web
	Status int    // of the answer; 0: there was none
	Text   string // the cause, for people
	Hint   string // what to do about it; may be empty
	Err    error
}

// Error renders the error on one line, the hint in parentheses.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %s", e.Op, e.Repo, e.Text)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// RefusedError is something that a registry asks for and imgbake does not do.
type RefusedError struct {
	Text string
	Hint string
	http bool // plain http, which is only tried where https did not work
}

// Error says what is refused.
func (e *RefusedError) Error() string { return "refused: " + e.Text }

// bodyError is an error of our own side of an upload: the layer cannot be
// read.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// explain makes an Error of what a request failed with. One that is an Error
// already, or a cancelled context, stays as it is.
func explain(op string, repo name.Repository, auth Auth, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Op: op, Repo: repo.Name(), Err: err}
	var status *transport.Error
	if errors.As(err, &status) && !untrusted(err) { // over http a server of https says no more than 400
		e.Status = status.StatusCode
		e.Text, e.Hint = explainStatus(status, repo, auth)
		return e
	}
	e.Text, e.Hint = explainConnection(err, repo.RegistryStr())
	return e
}

func explainStatus(err *transport.Error, repo name.Repository, auth Auth) (text, hint string) {
	host := repo.RegistryStr()
	text = fmt.Sprintf("%d %s", err.StatusCode, strings.ToLower(http.StatusText(err.StatusCode)))
	if req := err.Request; req != nil && req.URL.Host != host {
		text += " from " + req.URL.Host
	}
	for _, d := range err.Errors {
		text += ": " + printable(strings.ToLower(string(d.Code)+" "+d.Message))
	}
	switch err.StatusCode {
	case http.StatusUnauthorized:
		hint = fmt.Sprintf("the registry does not accept the credentials of user %q", auth.Username)
		if auth.IsZero() {
			hint = fmt.Sprintf("no credentials for %s: give --registry-auth %s=USER:PASSWORD or run docker login %s", host, host, host)
		}
	case http.StatusForbidden:
		hint = "the credentials do not allow this: check the permissions on " + repo.Name()
	case http.StatusNotFound:
		hint = "there is no such repository, tag or digest, or it is not visible with these credentials"
	case http.StatusMethodNotAllowed:
		if err.Request != nil && err.Request.Method == http.MethodDelete {
			hint = "this registry does not delete: where it is your own, allow it (REGISTRY_STORAGE_DELETE_ENABLED=true for distribution's registry)"
		}
	case http.StatusRequestEntityTooLarge:
		hint = "the upload is too large for the proxy in front of the registry: raise its limit (client_max_body_size in nginx)"
	case http.StatusTooManyRequests:
		hint = "the registry limits the rate: sign in, use a mirror, or come back later"
	}
	return text, hint
}

func explainConnection(err error, host string) (text, hint string) {
	var refused *RefusedError
	var dns *net.DNSError
	switch {
	case untrusted(err):
		return "the certificate of " + host + " cannot be verified: " + bareText(err), "give its authority with --registry-ca FILE"
	case errors.Is(err, http.ErrSchemeMismatch):
		return host + " speaks http, not https", "allow that for this registry with --insecure-registry " + host
	case errors.As(err, &refused):
		return refused.Error(), refused.Hint
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host: " + dns.Name, "check the name of the registry"
	}
	return bareText(err), ""
}

// untrusted tells whether the server's certificate was not accepted.
func untrusted(err error) bool {
	var authority x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &authority) || errors.As(err, &verify)
}

// bareText is the text of an error without URLs: they can hold a signature or
// a token.
func bareText(err error) string {
	text := err.Error()
	var u *url.Error
	for cause := err; errors.As(cause, &u); cause = u.Err {
		text = strings.Replace(text, u.Error(), u.Err.Error(), 1)
	}
	return printable(text)
}

// printable makes a foreign text one short line without control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > 300 {
		s = string(runes[:300]) + "..."
	}
	return strings.TrimSpace(s)
}
