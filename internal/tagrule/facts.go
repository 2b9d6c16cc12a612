// Package tagrule turns what happened (a push, a tag, a pull request) into the
// names that an image is tagged with, and into its org.opencontainers labels.
//
// The rules are those of docker/metadata-action, so that lines written for it
// can be moved over as they are; without rules there are defaults. Everything
// is a function of its arguments: the event and the time are passed in.
//
// Where it differs from metadata-action, on purpose: a comma may stand inside
// of quotes; what an expression gives is not escaped for HTML; an unknown word
// in an expression is an error, not nothing; expressions may be used in every
// pattern; names are cut to fit a registry and never begin with a dot or a
// dash; regular expressions are Go's, which have no lookaround.
package tagrule

import (
	"strings"
	"time"
)

// Facts are all that rules can depend on.
type Facts struct {
	Event         string // such as "push", "pull_request" or "schedule"
	Ref           string // refs/heads/…, refs/tags/… or refs/pull/N/merge
	SHA           string // the commit: of a pull request, its head
	PR            int    // the pull request, where the ref does not say
	BaseRef       string // of a pull request; of the push of a tag, the branch it was made on
	DefaultBranch string
	Prerelease    bool // the release is marked as one
	Now           time.Time
	CommitDate    time.Time // zero: Now
	ShortSHA      int       // characters of a short commit; 0: 7

	// For the labels.
	Repository, Description, URL, License string
	Created                               time.Time // zero: Now
}

// defaultShort is how long a short commit is.
const defaultShort = 7

// ref is the ref as the rules see it: a run with a base's rights for a pull
// request is named after the pull request.
func (f Facts) ref() string {
	if f.Event == "pull_request_target" && f.PR > 0 {
		return pullRef(f.PR)
	}
	return f.Ref
}

func (f Facts) branch() string { return after(f.ref(), "refs/heads/") }

func (f Facts) tag() string { return after(f.ref(), "refs/tags/") }

// pull is the number of the pull request as text, or empty.
func (f Facts) pull() string {
	number, _, _ := strings.Cut(after(f.ref(), "refs/pull/"), "/")
	if strings.Trim(number, "0123456789") != "" {
		return ""
	}
	return number
}

func after(s, prefix string) string {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return ""
	}
	return rest
}

func (f Facts) shortSHA() string {
	n := f.ShortSHA
	if n <= 0 {
		n = defaultShort
	}
	return f.SHA[:min(n, len(f.SHA))]
}

// baseRef is the target of a pull request or the branch of a tag; a branch has none.
func (f Facts) baseRef() string {
	if f.tag() == "" && f.pull() == "" {
		return ""
	}
	return strings.TrimPrefix(f.BaseRef, "refs/heads/")
}

// onDefaultBranch: some events run for the default branch whatever the ref is.
func (f Facts) onDefaultBranch() bool {
	branch := strings.TrimPrefix(f.ref(), "refs/heads/")
	if branch == "" {
		return false
	}
	return branch == f.DefaultBranch || strings.Contains(f.Event, "create") ||
		strings.Contains(f.Event, "discussion") || strings.Contains(f.Event, "issues") || strings.Contains(f.Event, "schedule")
}

func (f Facts) commitDate() time.Time {
	if f.CommitDate.IsZero() {
		return f.Now
	}
	return f.CommitDate
}
