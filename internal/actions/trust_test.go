package actions

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTrust(t *testing.T) {
	all := Trust{Push: true, Comment: true, Secrets: true, OIDC: true}
	stranger := edit{"pull_request.head.repo.full_name", "stranger/Hello-World"}
	gone := edit{"pull_request.head.repo", nil}
	bot := edit{"$GITHUB_ACTOR", "dependabot[bot]"}
	onPull := edit{"issue.pull_request", map[string]any{"url": "x"}}
	runHere := edit{"workflow_run.head_repository.full_name", "Codertocat/Hello-World"}
	const runSHA = "5779607b49aab1200488439f02372c57b4f75444"
	for _, c := range []struct {
		name     string
		event    Event
		checkout Checkout
		want     Trust  // but for Refused and Reason
		refused  string // a part of it
		reason   string // a part of it
	}{
		{"push", read(t, "push", "push.branch", master), Checkout{}, all, "", ""},
		{"tag", read(t, "push", "push.tag", "refs/tags/v1"), Checkout{}, all, "", ""},
		{"pull request from here", read(t, "pull_request", "pull_request.opened", pull2), Checkout{}, all, "", ""},
		{"fork", read(t, "pull_request", "pull_request.opened", pull2, stranger), Checkout{}, Trust{}, "", "from the fork stranger/Hello-World"},
		{"fork that is gone", read(t, "pull_request", "pull_request.opened", pull2, gone), Checkout{}, Trust{}, "", "gone or not known"},
		{"fork, allowing changes nothing", read(t, "pull_request", "pull_request.opened", pull2, stranger), Checkout{AllowUntrusted: true}, Trust{}, "", "fork"},
		{"review of a fork", read(t, "pull_request_review", "pull_request.opened", pull2, stranger), Checkout{}, Trust{}, "", "fork"},
		{"payload without a head", read(t, "pull_request", "", pull2), Checkout{}, Trust{}, "", "gone or not known"},
		{"Dependabot", read(t, "pull_request", "pull_request.opened", pull2, bot), Checkout{}, Trust{}, "", "Dependabot"},
		{"push by Dependabot", read(t, "push", "push.branch", "refs/heads/dependabot/x", bot), Checkout{}, Trust{}, "", "Dependabot"},
		{"label on Dependabot's", read(t, "pull_request", "pull_request.labeled", pull2, edit{"pull_request.user.login", "dependabot[bot]"}), Checkout{}, Trust{}, "", "Dependabot"},
		{"no Dependabot", read(t, "pull_request", "pull_request.opened", pull2, edit{"$GITHUB_ACTOR", "dependabot"}), Checkout{}, all, "", ""},

		{"target, base", read(t, "pull_request_target", "pull_request.opened", master, stranger), Checkout{SHA: runnerSHA}, all, "", ""},
		{"target, base of the payload", read(t, "pull_request_target", "pull_request.opened", master, stranger), Checkout{SHA: prBase}, all, "", ""},
		{"target, head of a fork", read(t, "pull_request_target", "pull_request.opened", master, stranger), Checkout{SHA: prHead}, Trust{}, "commit ec26c3e is checked out instead of the base, 1111111", ""},
		{"target, own head", read(t, "pull_request_target", "pull_request.opened", master), Checkout{SHA: prHead}, Trust{}, "pull_request_target", ""},
		{"target, unknown", read(t, "pull_request_target", "pull_request.opened", master), Checkout{}, Trust{}, "a commit that is not known", ""},
		{"target, allowed", read(t, "pull_request_target", "pull_request.opened", master, stranger), Checkout{prHead, true}, Trust{Push: true, Comment: true}, "", "no secret of the template"},
		{"target, allowed, from here", read(t, "pull_request_target", "pull_request.opened", master), Checkout{prHead, true}, Trust{Push: true, Comment: true, Secrets: true}, "", "no identity"},
		{"comment, default branch", read(t, "issue_comment", "issue_comment.created", master, onPull), Checkout{SHA: runnerSHA}, all, "", ""},
		{"comment, head", read(t, "issue_comment", "issue_comment.created", master, onPull), Checkout{SHA: prHead}, Trust{}, "allow-untrusted-template: true", ""},
		{"run, default branch", read(t, "workflow_run", "workflow_run.completed", master), Checkout{SHA: runnerSHA}, all, "", ""},
		{"run, head of a fork", read(t, "workflow_run", "workflow_run.completed", master), Checkout{SHA: runSHA}, Trust{}, "workflow_run", ""},
		{"run, pushed here", read(t, "workflow_run", "workflow_run.completed", master, runHere, edit{"workflow_run.event", "push"}), Checkout{SHA: runSHA}, all, "", ""},
		{"run, pull request from here", read(t, "workflow_run", "workflow_run.completed", master, runHere, edit{"workflow_run.event", "pull_request"}), Checkout{SHA: runSHA}, Trust{}, "workflow_run", ""},
		{"run, pushed by Dependabot", read(t, "workflow_run", "workflow_run.completed", master, runHere, edit{"workflow_run.event", "push"}, edit{"workflow_run.actor", map[string]any{"login": "dependabot[bot]"}}),
			Checkout{SHA: runSHA}, Trust{}, "workflow_run", ""},
	} {
		got := c.event.Trust(c.checkout)
		if !strings.Contains(got.Refused, c.refused) || (got.Refused == "") != (c.refused == "") {
			t.Errorf("%s: refused %q, want %q", c.name, got.Refused, c.refused)
		}
		if !strings.Contains(got.Reason, c.reason) || (got.Reason == "") != (c.reason == "") {
			t.Errorf("%s: reason %q, want %q", c.name, got.Reason, c.reason)
		}
		if c.refused != "" && (got.Cache.Read != nil || got.Cache.Write != "") {
			t.Errorf("%s: refused, with cache %+v", c.name, got.Cache)
		}
		if full := c.want.Push && c.want.OIDC; got.Full() != full {
			t.Errorf("%s: full is %v", c.name, got.Full())
		}
		got.Refused, got.Reason, got.Cache = "", "", CacheScope{}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestCacheScope(t *testing.T) {
	stranger := edit{"pull_request.head.repo.full_name", "stranger/Hello-World"}
	protected := edit{"$GITHUB_REF_PROTECTED", "true"}
	base := Checkout{SHA: runnerSHA}
	own := func(name string) CacheScope { return CacheScope{[]string{name, TrustedScope}, name} }
	trusted := []string{TrustedScope}
	for _, c := range []struct {
		name  string
		event Event
		want  CacheScope
	}{
		{"default branch", read(t, "push", "push.branch", master), CacheScope{trusted, TrustedScope}},
		{"schedule", read(t, "schedule", "push.branch", master), CacheScope{trusted, TrustedScope}},
		{"protected branch", read(t, "push", "push.branch", "refs/heads/release", protected), CacheScope{trusted, TrustedScope}},
		{"branch", read(t, "push", "push.branch", "refs/heads/dev"), own("branch-dev")},
		{"branch by dispatch", read(t, "workflow_dispatch", "push.branch", "refs/heads/dev"), own("branch-dev")},
		{"branch of an odd name", read(t, "push", "push.branch", "refs/heads/a/b"), own("ref-a-b.c14cddc033f6")},
		{"branch that would be trusted", read(t, "push", "push.branch", "refs/heads/trusted"), own("branch-trusted")},
		{"default branch not known", read(t, "push", "", master), own("branch-master")},
		{"tag", read(t, "push", "push.tag", "refs/tags/v1"), CacheScope{Read: trusted}},
		{"tag with the default branch's name", read(t, "push", "push.tag", "refs/tags/master"), CacheScope{Read: trusted}},
		{"protected tag", read(t, "push", "push.tag", "refs/tags/v1", protected), CacheScope{trusted, TrustedScope}},
		{"release", read(t, "release", "release.published", "refs/tags/v1"), CacheScope{Read: trusted}},
		{"pull request", read(t, "pull_request", "pull_request.opened", pull2), own("pr-2")},
		{"pull request into a branch", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.base.ref", "dev"}),
			CacheScope{[]string{"pr-2", "branch-dev", TrustedScope}, "pr-2"}},
		{"pull request on a ref said to be protected", read(t, "pull_request", "pull_request.opened", pull2, protected), own("pr-2")},
		{"fork", read(t, "pull_request", "pull_request.opened", pull2, stranger), CacheScope{Read: []string{"pr-2", TrustedScope}}},
		{"target", read(t, "pull_request_target", "pull_request.opened", master), CacheScope{Read: trusted}},
		{"comment", read(t, "issue_comment", "issue_comment.created", master, edit{"issue.pull_request", map[string]any{"url": "x"}}), CacheScope{Read: trusted}},
		{"workflow_run", read(t, "workflow_run", "workflow_run.completed", master), CacheScope{Read: trusted}},
		{"merge group", read(t, "merge_group", "merge_group", "refs/heads/gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64"), CacheScope{Read: trusted}},
		{"mode read", read(t, "push", "push.branch", master, edit{"$ACTIONS_CACHE_MODE", "read"}), CacheScope{Read: trusted}},
		{"mode write-only", read(t, "push", "push.branch", master, edit{"$ACTIONS_CACHE_MODE", "write-only"}), CacheScope{Write: TrustedScope}},
		{"mode none", read(t, "push", "push.branch", master, edit{"$ACTIONS_CACHE_MODE", "none"}), CacheScope{}},
	} {
		if diff := cmp.Diff(c.want, c.event.Trust(base).Cache); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// No ref but the default branch and protected ones writes what releases read,
// and no two branches share a scope.
func TestScopesAreApart(t *testing.T) {
	seen := map[string]string{}
	for _, branch := range []string{"a/b", "a-b", "a_b", "trusted", "pr-2", strings.Repeat("x", 80), strings.Repeat("x", 81), "a-b.c14cddc033f6", "é", "è", "-", ".x"} {
		scope := branchScope(branch)
		if other, twice := seen[scope]; twice || scope == TrustedScope || strings.HasPrefix(scope, "pr-") {
			t.Errorf("branch %q has the scope %q, as has %q", branch, scope, other)
		}
		if len(scope) > 100 || scopeUnfit.MatchString(scope) {
			t.Errorf("scope %q cannot be part of a tag", scope)
		}
		seen[scope] = branch
	}
}
