package github

import (
	"context"
	"fmt"

	gh "github.com/google/go-github/v60/github"
)

// Comment is a comment on an issue or pull request.
type Comment struct {
	ID     int64
	Body   string
	URL    string // of the page
	Author User
}

// Comments lists the comments on an issue or pull request, oldest first.
func (c *Client) Comments(ctx context.Context, r Repository, number int) ([]Comment, error) {
	call := call{fmt.Sprintf("comments on pull request %d of %s", number, r), "pull-requests: read"}
	got, err := list(call, func(o gh.ListOptions) ([]*gh.IssueComment, *gh.Response, error) {
		return c.rest.Issues.ListComments(ctx, r.Owner, r.Name, number, &gh.IssueListCommentsOptions{ListOptions: o})
	})
	var out []Comment
	for _, one := range got {
		out = append(out, newComment(one))
	}
	return out, err
}

// CreateComment comments on an issue or pull request.
func (c *Client) CreateComment(ctx context.Context, r Repository, number int, body string) (Comment, error) {
	call := call{fmt.Sprintf("new comment on pull request %d of %s", number, r), "pull-requests: write"}
	got, _, err := c.rest.Issues.CreateComment(ctx, r.Owner, r.Name, number, &gh.IssueComment{Body: &body})
	if err != nil {
		return Comment{}, call.fail(err)
	}
	return newComment(got), nil
}

// UpdateComment replaces a comment's body.
func (c *Client) UpdateComment(ctx context.Context, r Repository, id int64, body string) (Comment, error) {
	call := call{fmt.Sprintf("update of comment %d of %s", id, r), "pull-requests: write"}
	got, _, err := c.rest.Issues.EditComment(ctx, r.Owner, r.Name, id, &gh.IssueComment{Body: &body})
	if err != nil {
		return Comment{}, call.fail(err)
	}
	return newComment(got), nil
}

// DeleteComment deletes a comment.
func (c *Client) DeleteComment(ctx context.Context, r Repository, id int64) error {
	call := call{fmt.Sprintf("deletion of comment %d of %s", id, r), "pull-requests: write"}
	_, err := c.rest.Issues.DeleteComment(ctx, r.Owner, r.Name, id)
	return call.fail(err)
}

func newComment(c *gh.IssueComment) Comment {
	return Comment{ID: c.GetID(), Body: c.GetBody(), URL: c.GetHTMLURL(), Author: newUser(c.GetUser())}
}
