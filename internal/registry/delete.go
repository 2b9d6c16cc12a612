package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Tags lists the tags of a repository. One that is not there has none.
func (c *Client) Tags(ctx context.Context, repo name.Repository, auth Auth) ([]string, error) {
	mv, err := c.newMover(ctx, Target{repo.Tag("latest"), auth})
	if err != nil {
		return nil, explain("list tags", repo, mv.Auth, err)
	}
	tags, err := remote.List(repo, mv.options(ctx)...)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	return tags, explain("list tags", repo, mv.Auth, err)
}

// Delete deletes a tag, never the image under it: other tags may have that. One
// that is gone is no error.
func (c *Client) Delete(ctx context.Context, tag name.Tag, auth Auth) error {
	mv, err := c.newMover(ctx, Target{tag, auth})
	if err == nil {
		err = remote.Delete(tag, mv.options(ctx)...)
	}
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return explain("delete tag "+tag.TagStr(), tag.Repository, mv.Auth, err)
}

func isStatus(err error, code int) bool {
	var status *transport.Error
	return errors.As(err, &status) && status.StatusCode == code
}
