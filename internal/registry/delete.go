package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	pageSize  = 1000    // tags asked for at a time
	maxTags   = 100_000 // of a repository
	maxListed = 4 << 20 // bytes of one page of tags or referrers
)

// editor reads and deletes what one repository holds.
type editor struct {
	c    *Client
	repo name.Repository
	auth Auth
	http *http.Client
}

// edit signs in for deleting. A registry whose tokens know no such right gives
// one for pushing.
func (c *Client) edit(ctx context.Context, repo name.Repository, auth Auth) (*editor, error) {
	auth, err := c.authOr(ctx, repo, auth)
	if err != nil {
		return nil, err
	}
	rt, err := c.session(ctx, repo, auth, repo.Scope(transport.PushScope), repo.Scope(transport.DeleteScope))
	return &editor{c, repo, auth, &http.Client{Transport: rt}}, explain("sign in to", repo, auth, err)
}

// send asks for a path of the repository and nothing else. The caller closes
// the body.
func (e *editor) send(ctx context.Context, method, path string, accept ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, endpoint(e.repo, path), nil)
	if err != nil {
		return nil, err
	}
	if len(accept) > 0 {
		req.Header.Set("Accept", strings.Join(accept, ","))
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusAccepted, http.StatusNoContent); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// read decodes an answer, and returns the query of the page after it.
func (e *editor) read(ctx context.Context, path string, into any, accept ...string) (next string, err error) {
	resp, err := e.send(ctx, http.MethodGet, path, accept...)
	if err != nil {
		return "", err
	}
	defer discard(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxListed+1))
	if err != nil {
		return "", err
	}
	if len(body) > maxListed {
		return "", &RefusedError{Text: fmt.Sprintf("an answer of more than %d MiB", maxListed>>20)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	return nextQuery(resp.Header.Get("Link")), nil
}

// nextQuery takes from a Link header the query alone: the next page is never on
// another path.
func nextQuery(link string) string {
	target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
	if !ok || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
		return ""
	}
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.RawQuery
}

// tags lists the tags. A repository that is not there has none. Not every
// registry that stops after a page says that there are more.
func (e *editor) tags(ctx context.Context) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for query := fmt.Sprintf("n=%d", pageSize); query != ""; {
		var page struct{ Tags []string }
		next, err := e.read(ctx, "tags/list?"+query, &page)
		if isStatus(err, http.StatusNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		before := len(all)
		for _, tag := range page.Tags {
			if !seen[tag] {
				seen[tag], all = true, append(all, tag)
			}
		}
		if len(all) > maxTags {
			return nil, &RefusedError{Text: fmt.Sprintf("more than %d tags", maxTags)}
		}
		switch query = next; {
		case len(all) == before:
			return all, nil
		case query == "" && len(page.Tags) >= pageSize:
			query = fmt.Sprintf("n=%d&last=%s", pageSize, url.QueryEscape(page.Tags[len(page.Tags)-1]))
		}
	}
	return all, nil
}

// delete deletes a manifest by its digest, or a tag. One that is gone is no
// error.
func (e *editor) delete(ctx context.Context, reference string) error {
	resp, err := e.send(ctx, http.MethodDelete, "manifests/"+reference)
	if err == nil {
		discard(resp)
	}
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return explain("delete from", e.repo, e.auth, err)
}

// isStatus tells whether an error is an answer of one of some status codes.
func isStatus(err error, codes ...int) bool {
	var status *transport.Error
	return errors.As(err, &status) && slices.Contains(codes, status.StatusCode)
}
