package github

import (
	"context"
	"fmt"

	gh "github.com/google/go-github/v60/github"
)

// Pull is a pull request.
type Pull struct {
	Number   int
	State    string // open or closed
	Merged   bool
	HeadSHA  string
	HeadRef  string
	HeadRepo string // owner/name; empty when it was deleted
	BaseSHA  string
	BaseRef  string
	BaseRepo string
	Author   string
	URL      string
}

// Fork reports whether the head is not in the base's repository: also when its
// repository is gone.
func (p Pull) Fork() bool { return p.HeadRepo == "" || p.HeadRepo != p.BaseRepo }

// Pull gets a pull request by its number.
func (c *Client) Pull(ctx context.Context, r Repository, number int) (Pull, error) {
	call := call{fmt.Sprintf("pull request %d of %s", number, r), "pull-requests: read"}
	got, _, err := c.rest.PullRequests.Get(ctx, r.Owner, r.Name, number)
	if err != nil {
		return Pull{}, call.fail(err)
	}
	return newPull(got), nil
}

// PullsOfCommit lists the pull requests that a commit of the repository is in,
// merged ones too.
func (c *Client) PullsOfCommit(ctx context.Context, r Repository, sha string) ([]Pull, error) {
	call := call{fmt.Sprintf("pull requests of commit %s of %s", sha, r), "pull-requests: read"}
	got, err := list(call, func(o gh.ListOptions) ([]*gh.PullRequest, *gh.Response, error) {
		return c.rest.PullRequests.ListPullRequestsWithCommit(ctx, r.Owner, r.Name, sha, &o)
	})
	return newPulls(got), err
}

// OpenPullsOfHead lists the open pull requests whose head is this commit on
// this branch of the repository head: what a workflow_run event of a fork has
// to be matched with, since it names no pull request.
func (c *Client) OpenPullsOfHead(ctx context.Context, r, head Repository, branch, sha string) ([]Pull, error) {
	call := call{fmt.Sprintf("open pull requests of %s:%s in %s", head, branch, r), "pull-requests: read"}
	got, err := list(call, func(o gh.ListOptions) ([]*gh.PullRequest, *gh.Response, error) {
		return c.rest.PullRequests.List(ctx, r.Owner, r.Name, &gh.PullRequestListOptions{
			State: "open", Head: head.Owner + ":" + branch, ListOptions: o,
		})
	})
	var out []Pull
	for _, p := range newPulls(got) { // the server's filter knows neither the repository nor the commit
		if p.HeadSHA == sha && p.HeadRepo == head.String() && p.HeadRef == branch {
			out = append(out, p)
		}
	}
	return out, err
}

func newPulls(in []*gh.PullRequest) []Pull {
	var out []Pull
	for _, p := range in {
		out = append(out, newPull(p))
	}
	return out
}

func newPull(p *gh.PullRequest) Pull {
	return Pull{
		Number: p.GetNumber(), State: p.GetState(), Merged: p.GetMerged() || p.MergedAt != nil,
		HeadSHA: p.GetHead().GetSHA(), HeadRef: p.GetHead().GetRef(), HeadRepo: p.GetHead().GetRepo().GetFullName(),
		BaseSHA: p.GetBase().GetSHA(), BaseRef: p.GetBase().GetRef(), BaseRepo: p.GetBase().GetRepo().GetFullName(),
		Author: p.GetUser().GetLogin(), URL: p.GetHTMLURL(),
	}
}
