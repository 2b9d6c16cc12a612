package github

import (
	"context"
	"errors"
	"net/http"
	"strings"

	gh "github.com/google/go-github/v60/github"
)

// User is an account: a person, an organization or an app.
type User struct {
	ID    int64 // 0 if unknown
	Login string
	Type  string // User, Organization or Bot
}

// ActionsBot is the account of the token that a workflow is given.
var ActionsBot = User{Login: "github-actions[bot]", Type: "Bot"}

// Is reports whether two accounts are the same: by number where both have one.
// A name that belongs to an app is not that of a person who took it.
func (u User) Is(other User) bool {
	if u.ID != 0 && other.ID != 0 {
		return u.ID == other.ID
	}
	return u.Login != "" && strings.EqualFold(u.Login, other.Login)
}

// Whoami is the account the token belongs to. Installation tokens, such as the
// one of a workflow, may not ask REST for it; GraphQL tells them. Where neither
// answers it is ActionsBot, so that the comments of others are left alone.
func (c *Client) Whoami(ctx context.Context) (User, error) {
	got, _, err := c.rest.Users.Get(ctx, "")
	if err == nil {
		return newUser(got), nil
	}
	err = call{"account of the token", "contents: read"}.fail(err)
	if !errors.Is(err, ErrForbidden) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnsupported) {
		return User{}, err
	}
	if u, err := c.viewer(ctx); err == nil && u.Login != "" {
		return u, nil
	} else if ctx.Err() != nil {
		return User{}, ctx.Err()
	}
	return ActionsBot, nil
}

func (c *Client) viewer(ctx context.Context) (User, error) {
	if c.graphql == "" {
		return User{}, nil
	}
	req, err := c.rest.NewRequest(http.MethodPost, c.graphql, map[string]string{"query": "query { viewer { login databaseId } }"})
	if err != nil {
		return User{}, err
	}
	var answer struct {
		Data struct {
			Viewer struct {
				Login      string `json:"login"`
				DatabaseID int64  `json:"databaseId"`
			} `json:"viewer"`
		} `json:"data"`
	}
	if _, err := c.rest.Do(ctx, req, &answer); err != nil {
		return User{}, err
	}
	v := answer.Data.Viewer
	return User{ID: v.DatabaseID, Login: v.Login}, nil
}

func newUser(u *gh.User) User {
	return User{ID: u.GetID(), Login: u.GetLogin(), Type: u.GetType()}
}
