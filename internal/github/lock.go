package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// lockContent is the reaction that is the lock: somebody is looking at it.
const lockContent = "eyes"

// lock waits for the lock on a comment. A nil unlock without an error means to
// look again: the comment is gone. Where there are no reactions to be had it
// gives a lock that locks nothing.
func (u *upsert) lock(ctx context.Context, comment int64) (unlock func(), err error) {
	for n := range lockPatience {
		got, err := u.client.react(ctx, u.Repository, comment)
		switch {
		case errors.Is(err, ErrForbidden), errors.Is(err, ErrUnsupported):
			u.client.notify("comment is written without a lock: " + err.Error())
			return u.settleDown(ctx), nil
		case errors.Is(err, ErrNotFound):
			return nil, nil
		case err != nil:
			if err := u.bearable(ctx, err); err != nil {
				return nil, err
			}
			continue
		case got.created:
			return func() { u.unlock(ctx, comment, got.ID) }, nil
		case got.age > lease: // its holder is dead
			u.unlock(ctx, comment, got.ID)
			continue
		}
		if err := u.pause(ctx, time.Second<<min(n, 3)); err != nil {
			return nil, err
		}
	}
	u.client.notify(fmt.Sprintf("comment %d stays locked by another job; it is written all the same", comment))
	return u.settleDown(ctx), nil
}

// settleDown is the unlock where there was no lock: others get the time to
// write, so that the look after it sees what they have overwritten.
func (u *upsert) settleDown(ctx context.Context) func() {
	return func() { _ = u.pause(ctx, settle) }
}

// unlock takes one reaction away. By its number: a lock that somebody else has
// taken since is another one. It also works when the run is being cancelled.
func (u *upsert) unlock(ctx context.Context, comment, reaction int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	call := call{fmt.Sprintf("unlocking of comment %d", comment), "pull-requests: write"}
	r := u.Repository
	_, err := u.client.rest.Reactions.DeleteIssueCommentReaction(ctx, r.Owner, r.Name, comment, reaction)
	if err = call.fail(err); err != nil && !errors.Is(err, ErrNotFound) {
		u.client.notify(err.Error())
	}
}

// reaction is a reaction, and what the server told about it besides.
type reaction struct {
	ID        int64         `json:"id"`
	CreatedAt time.Time     `json:"created_at"`
	created   bool          // by this request
	age       time.Duration // by the server's clock; 0 if unknown
}

// react asks for the reaction that is the lock. go-github's own call drops the
// time.
func (c *Client) react(ctx context.Context, r Repository, comment int64) (reaction, error) {
	call := call{fmt.Sprintf("locking of comment %d of %s", comment, r), "pull-requests: write"}
	path := fmt.Sprintf("repos/%s/%s/issues/comments/%d/reactions", r.Owner, r.Name, comment)
	req, err := c.rest.NewRequest(http.MethodPost, path, map[string]string{"content": lockContent})
	if err != nil {
		return reaction{}, call.fail(err)
	}
	var got reaction
	resp, err := c.rest.Do(ctx, req, &got)
	if err != nil {
		return reaction{}, call.fail(err)
	}
	got.created = resp.StatusCode == http.StatusCreated
	if now, err := http.ParseTime(resp.Header.Get("Date")); err == nil && !got.CreatedAt.IsZero() {
		got.age = now.Sub(got.CreatedAt)
	}
	return got, nil
}
