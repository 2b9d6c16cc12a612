package registry

import (
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/secret"
)

// Auth signs in to a registry. The zero value is anonymous.
type Auth struct {
	Username string
	Password secret.Value
	Token    secret.Value // an identity token, to be exchanged for access tokens; used instead of the others
}

// IsZero reports whether there are no credentials.
func (a Auth) IsZero() bool { return a == Auth{} }

func (a Auth) authenticator() authn.Authenticator {
	if a.IsZero() {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: a.Username, Password: a.Password.Reveal(), IdentityToken: a.Token.Reveal(),
	})
}

// Auth finds the credentials for a repository: those of Options first, then
// the docker config and its credential helpers. The zero Auth means that
// there are none.
func (c *Client) Auth(ctx context.Context, repo name.Repository) (Auth, error) {
	if auth, ok := c.opts.Auth[repo.RegistryStr()]; ok {
		return auth, nil
	}
	return c.docker.auth(ctx, repo)
}

// authOr returns auth, or what Auth finds when it is zero.
func (c *Client) authOr(ctx context.Context, repo name.Repository, auth Auth) (Auth, error) {
	if !auth.IsZero() {
		return auth, nil
	}
	return c.Auth(ctx, repo)
}
