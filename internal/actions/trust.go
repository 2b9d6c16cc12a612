package actions

import (
	"fmt"
	"slices"
	"strings"
)

// Trust is what a run may do, given who could have written what it runs. A
// template is code: what may be done with it is decided before it is read.
type Trust struct {
	// Refused says why the template must not be run at all, and what allows it.
	// It is empty when it may be run.
	Refused string
	// Reason says in words why something is not allowed; empty when all is.
	Reason string

	Push    bool // to registries
	Comment bool // and every other write through the API
	Secrets bool // the template's secrets may be resolved, and registries logged in to
	OIDC    bool // an identity may be asked for, to sign
	Cache   CacheScope
}

// Full reports whether nothing is withheld but, perhaps, writing the cache.
func (t Trust) Full() bool {
	return t.Refused == "" && t.Push && t.Comment && t.Secrets && t.OIDC
}

// Checkout is what the caller knows about the workspace.
type Checkout struct {
	// SHA is the commit that is checked out; empty is not known.
	SHA string
	// AllowUntrusted is the input allow-untrusted-template.
	AllowUntrusted bool
}

// privileged events run with the repository's secrets and a token that may
// write, whoever caused them.
var privileged = []string{"pull_request_target", "workflow_run", "issue_comment"}

// Trust decides what this run may do.
func (e Event) Trust(c Checkout) Trust {
	t := Trust{Push: true, Comment: true, Secrets: true, OIDC: true}
	switch {
	case slices.Contains(privileged, e.Name):
		e.trustPrivileged(c, &t)
	case e.Fork:
		t.withhold(e.forkReason())
	case e.Dependabot:
		t.withhold("Dependabot caused this run: such runs get no secrets and a token that can only read")
	}
	t.Cache = e.cacheScope(t)
	return t
}

// withhold leaves only the bake itself.
func (t *Trust) withhold(reason string) {
	*t = Trust{Reason: reason + ". The images are baked, and neither pushed nor commented on; steps that need a secret are skipped"}
}

func (e Event) forkReason() string {
	if e.HeadRepo == "" {
		return "the pull request is from a repository that is gone or not known, which counts as a fork"
	}
	return fmt.Sprintf("the pull request is from the fork %s", e.HeadRepo)
}

// trustPrivileged refuses to run a template that is not the base's. Running one
// can be allowed, for a workflow whose environment has a person approve it;
// secrets of the template stay withheld when the commit is a stranger's.
func (e Event) trustPrivileged(c Checkout, t *Trust) {
	if e.isBase(c.SHA) {
		return
	}
	what := fmt.Sprintf("commit %s", short(c.SHA))
	if c.SHA == "" {
		what = "a commit that is not known"
	}
	if !c.AllowUntrusted {
		*t = Trust{Refused: fmt.Sprintf("the event %s comes with secrets and a token that may write, and %s is checked out instead of the base, %s. "+
			"Bake pull requests in a workflow for the event pull_request, or set allow-untrusted-template: true and have an environment with required reviewers",
			e.Name, what, short(e.SHA))}
		return
	}
	t.OIDC = false
	t.Reason = fmt.Sprintf("%s is not the base's: allow-untrusted-template lets it run, and no identity is asked for", what)
	if e.Fork || e.Dependabot {
		t.Secrets = false
		t.Reason += ", and no secret of the template is resolved"
	}
}

// isBase reports whether a commit is of the repository's own branches: the
// base that the runner names, or, for workflow_run, what was pushed to this
// repository by somebody who may, and is no pull request.
func (e Event) isBase(sha string) bool {
	switch {
	case sha == "":
		return false
	case strings.EqualFold(sha, e.SHA):
		return true
	case e.Name == "pull_request_target":
		return strings.EqualFold(sha, e.BaseSHA)
	case e.Name == "workflow_run":
		return strings.EqualFold(sha, e.HeadSHA) && !e.Fork && !e.Dependabot && e.TriggerEvent == "push"
	}
	return false
}

// short is a commit as people write it.
func short(sha string) string {
	if sha == "" {
		return "unknown"
	}
	return sha[:min(7, len(sha))]
}
