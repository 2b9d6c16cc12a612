package actions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	runnerSHA = "1111111111111111111111111111111111111111" // what GITHUB_SHA is
	prHead    = "ec26c3e57ca3a959ca5aad62de7213c562f8c821"
	prBase    = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e"
)

// edit changes a payload: the value under a path of keys.
type edit struct {
	path  string
	value any
}

// read reads an event with one of the payloads, changed.
func read(t testing.TB, name, file, ref string, edits ...edit) Event {
	t.Helper()
	e := env{
		"GITHUB_EVENT_NAME": name, "GITHUB_REF": ref, "GITHUB_SHA": runnerSHA, "GITHUB_REPOSITORY": "Codertocat/Hello-World",
		"GITHUB_ACTOR": "Codertocat", "GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_RUN_NUMBER": "5",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_API_URL": "https://api.github.com",
	}
	var payload map[string]any
	if file != "" {
		if err := json.Unmarshal([]byte(content(t, "testdata/events/"+file+".json")), &payload); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range edits {
		if strings.HasPrefix(x.path, "$") {
			e[x.path[1:]] = x.value.(string)
			continue
		}
		keys := strings.Split(x.path, ".")
		m := payload
		for _, key := range keys[:len(keys)-1] {
			m = m[key].(map[string]any)
		}
		m[keys[len(keys)-1]] = x.value
	}
	if file != "" {
		data, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		e["GITHUB_EVENT_PATH"] = filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(e["GITHUB_EVENT_PATH"], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	event, err := ReadEvent(e.get, Disk{})
	if err != nil {
		t.Fatal(err)
	}
	return event
}

const master, pull2 = "refs/heads/master", "refs/pull/2/merge"

// The fields that do not depend on the event are compared once, below.
var sameForAll = cmpopts.IgnoreFields(Event{}, "Name", "Ref", "SHA", "Repository", "DefaultBranch", "Description", "Private",
	"Actor", "RunID", "RunNumber", "RunAttempt", "ServerURL", "APIURL", "Service")

func TestReadEvent(t *testing.T) {
	const here = "Codertocat/Hello-World"
	pr := Event{Action: "opened", PR: 2, HeadSHA: prHead, HeadRef: "changes", HeadRepo: here, BaseRef: "master", BaseSHA: prBase, Author: "Codertocat"}
	with := func(e Event, change func(*Event)) Event { change(&e); return e }
	labelled := with(pr, func(e *Event) { e.Labels = []string{"bug"} })
	onMaster := Event{HeadSHA: runnerSHA, HeadRef: "master", HeadRepo: here}
	for _, c := range []struct {
		name string
		got  Event
		want Event
	}{
		{"opened", read(t, "pull_request", "pull_request.opened", pull2), pr},
		{"synchronize", read(t, "pull_request", "pull_request.synchronize", pull2), with(labelled, func(e *Event) { e.Action = "synchronize" })},
		{"reopened", read(t, "pull_request", "pull_request.reopened", pull2), with(labelled, func(e *Event) { e.Action = "reopened" })},
		{"closed", read(t, "pull_request", "pull_request.closed", pull2), with(labelled, func(e *Event) { e.Action = "closed" })},
		{"merged", read(t, "pull_request", "pull_request.closed", pull2, edit{"pull_request.merged", true}),
			with(labelled, func(e *Event) { e.Action, e.Merged = "closed", true })},
		{"labeled", read(t, "pull_request", "pull_request.labeled", pull2), with(labelled, func(e *Event) { e.Action, e.Label = "labeled", "bug" })},
		{"draft", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.draft", true}), with(pr, func(e *Event) { e.Draft = true })},
		{"target", read(t, "pull_request_target", "pull_request.opened", master), pr},
		{"fork", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.head.repo.full_name", "stranger/Hello-World"}),
			with(pr, func(e *Event) { e.HeadRepo, e.Fork = "stranger/Hello-World", true })},
		{"fork that is gone", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.head.repo", nil}),
			with(pr, func(e *Event) { e.HeadRepo, e.Fork = "", true })},
		{"in a repository that is itself a fork", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.head.repo.fork", true}), pr},
		{"names in another case", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.head.repo.full_name", "codertocat/hello-world"}),
			with(pr, func(e *Event) { e.HeadRepo = "codertocat/hello-world" })},
		{"thin pull request", read(t, "pull_request", "", "refs/pull/9/head", edit{"$GITHUB_HEAD_REF", "topic"}, edit{"$GITHUB_BASE_REF", "main"}),
			Event{PR: 9, HeadRef: "topic", BaseRef: "main", Fork: true}},
		{"dependabot", read(t, "pull_request", "pull_request.opened", pull2, edit{"pull_request.user.login", "dependabot[bot]"}),
			with(pr, func(e *Event) { e.Author, e.Dependabot = "dependabot[bot]", true })},
		{"push", read(t, "push", "push.branch", master, edit{"base_ref", nil}), with(onMaster, func(e *Event) {
			e.HeadSHA, e.BaseSHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "0000000000000000000000000000000000000000"
			e.CommitDate = time.Date(2019, 5, 15, 15, 19, 25, 0, time.UTC)
		})},
		{"push of a tag", read(t, "push", "push.tag", "refs/tags/simple-tag", edit{"base_ref", "refs/heads/master"}, edit{"head_commit.id", runnerSHA}),
			Event{HeadSHA: runnerSHA, HeadRef: "simple-tag", HeadRepo: here, BaseRef: "master", BaseSHA: "0000000000000000000000000000000000000000",
				CommitDate: time.Date(2019, 5, 15, 15, 20, 41, 0, time.UTC)}},
		{"deleted", read(t, "push", "push.deleted", "refs/tags/simple-tag"),
			Event{Deleted: true, HeadSHA: runnerSHA, HeadRef: "simple-tag", HeadRepo: here, BaseSHA: "6113728f27ae82c7b1a177c8d03f9e96e0adf246"}},
		{"release", read(t, "release", "release.published", "refs/tags/0.0.1", edit{"release.prerelease", true}),
			Event{Action: "published", HeadSHA: runnerSHA, HeadRef: "0.0.1", HeadRepo: here, Prerelease: true}},
		{"dispatch", read(t, "workflow_dispatch", "workflow_dispatch", master), onMaster},
		{"schedule without a payload", read(t, "schedule", "", master), onMaster},
		{"merge group", read(t, "merge_group", "merge_group", "refs/heads/gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64"),
			Event{Action: "checks_requested", PR: 104, HeadSHA: "2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d", HeadRepo: here,
				HeadRef: "gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64", BaseRef: "main",
				BaseSHA: "380387fbc80638b734a49e1be1c4dfec1c01b33c", CommitDate: time.Date(2019, 5, 15, 15, 20, 30, 0, time.UTC)}},
		{"workflow_run", read(t, "workflow_run", "workflow_run.completed", master, edit{"workflow_run.head_repository.full_name", here},
			edit{"workflow_run.event", "pull_request"}, edit{"workflow_run.conclusion", "success"}, edit{"workflow_run.id", 15}, edit{"workflow_run.actor", map[string]any{"login": "octocat"}},
			edit{"workflow_run.pull_requests", []any{map[string]any{"number": 12, "base": map[string]any{"ref": "main", "sha": prBase}}}}),
			Event{Action: "completed", PR: 12, HeadSHA: "5779607b49aab1200488439f02372c57b4f75444", HeadRef: "main", HeadRepo: here, BaseRef: "main", BaseSHA: prBase,
				CommitDate: time.Date(2021, 12, 16, 19, 37, 14, 0, time.UTC), TriggerEvent: "pull_request", TriggerConclusion: "success", TriggerRunID: "15", Author: "octocat"}},
		{"comment on an issue", read(t, "issue_comment", "issue_comment.created", master),
			Event{Action: "created", HeadSHA: runnerSHA, HeadRepo: here, Author: "Codertocat"}},
		{"comment on a pull request", read(t, "issue_comment", "issue_comment.created", master, edit{"issue.pull_request", map[string]any{"url": "x"}}),
			Event{Action: "created", PR: 1, Fork: true, Author: "Codertocat", Labels: []string{"bug"}}},
	} {
		if diff := cmp.Diff(c.want, c.got, sameForAll, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWorkflowRunOfAFork(t *testing.T) {
	for _, head := range []any{nil, map[string]any{"full_name": "stranger/Hello-World"}} {
		e := read(t, "workflow_run", "workflow_run.completed", master, edit{"workflow_run.head_repository", head})
		if !e.Fork || e.PR != 0 {
			t.Errorf("head repository %v: fork %v, pull request %d", head, e.Fork, e.PR)
		}
	}
}

func TestEnvironmentOfEvent(t *testing.T) {
	e := env{
		"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/a/b", "GITHUB_REF_PROTECTED": "true", "GITHUB_SHA": runnerSHA, "GITHUB_REPOSITORY": "o/r",
		"GITHUB_ACTOR": "a", "GITHUB_TRIGGERING_ACTOR": "b", "GITHUB_WORKFLOW": "w", "GITHUB_WORKFLOW_REF": "o/r/.github/workflows/w.yml@refs/heads/a/b",
		"GITHUB_JOB": "j", "GITHUB_RUN_ID": "1", "GITHUB_RUN_NUMBER": "2", "GITHUB_RUN_ATTEMPT": "3", "GITHUB_SERVER_URL": "https://ghes.example/",
		"GITHUB_API_URL": "https://ghes.example/api/v3/", "GITHUB_GRAPHQL_URL": "https://ghes.example/api/graphql", "GITHUB_WORKSPACE": "/github/workspace",
		"RUNNER_TEMP": "/tmp", "RUNNER_DEBUG": "1", "ACTIONS_CACHE_MODE": "read", "ACTIONS_ID_TOKEN_REQUEST_URL": "x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "y",
	}
	got, err := ReadEvent(e.get, Disk{})
	want := Event{
		Name: "push", Ref: "refs/heads/a/b", RefProtected: true, SHA: runnerSHA, HeadSHA: runnerSHA, HeadRef: "a/b", HeadRepo: "o/r", Repository: "o/r",
		Actor: "a", TriggeringActor: "b", Workflow: "w", WorkflowRef: "o/r/.github/workflows/w.yml@refs/heads/a/b", Job: "j", RunID: "1", RunNumber: "2", RunAttempt: "3",
		ServerURL: "https://ghes.example", APIURL: "https://ghes.example/api/v3", GraphQLURL: "https://ghes.example/api/graphql",
		Workspace: "/github/workspace", Temp: "/tmp", CacheMode: "read", Service: Enterprise, Debug: true, HasOIDC: true,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if got.Branch() != "a/b" || got.IsTag() || got.RunURL() != "https://ghes.example/o/r/actions/runs/1/attempts/3" {
		t.Errorf("branch %q, tag %v, run %q", got.Branch(), got.IsTag(), got.RunURL())
	}
}

func TestServices(t *testing.T) {
	for _, c := range []struct {
		env     env
		service Service
		api     string
		pages   string
	}{
		{env{}, GitHub, "https://api.github.com", "https://github.com/o/r/actions/runs/77 https://github.com/o/r/pull/3"},
		{env{"GITHUB_SERVER_URL": "https://corp.ghe.com", "GITHUB_API_URL": "https://api.corp.ghe.com"}, GitHub, "https://api.corp.ghe.com",
			"https://corp.ghe.com/o/r/actions/runs/77 https://corp.ghe.com/o/r/pull/3"},
		{env{"GITHUB_SERVER_URL": "https://git.corp"}, Enterprise, "https://git.corp/api/v3", "https://git.corp/o/r/actions/runs/77 https://git.corp/o/r/pull/3"},
		{env{"GITHUB_SERVER_URL": "https://github.com.evil"}, Enterprise, "https://github.com.evil/api/v3", "https://github.com.evil/o/r/actions/runs/77 https://github.com.evil/o/r/pull/3"},
		{env{"GITHUB_SERVER_URL": "https://gitea.corp/", "GITEA_ACTIONS": "true"}, Gitea, "https://gitea.corp/api/v1", "https://gitea.corp/o/r/actions/runs/5 https://gitea.corp/o/r/pulls/3"},
		{env{"GITHUB_SERVER_URL": "https://codeberg.org", "GITEA_ACTIONS": "true", "FORGEJO_ACTIONS": "true"}, Forgejo, "https://codeberg.org/api/v1",
			"https://codeberg.org/o/r/actions/runs/5 https://codeberg.org/o/r/pulls/3"},
		{env{"GITHUB_SERVER_URL": "https://github.com", "ACT": "true"}, Act, "https://api.github.com", "https://github.com/o/r/actions/runs/77 https://github.com/o/r/pull/3"},
	} {
		c.env["GITHUB_REPOSITORY"], c.env["GITHUB_RUN_ID"], c.env["GITHUB_RUN_NUMBER"], c.env["GITHUB_REF"] = "o/r", "77", "5", "refs/pull/3/merge"
		c.env["GITHUB_EVENT_NAME"] = "pull_request"
		got, err := ReadEvent(c.env.get, Disk{})
		if err != nil || got.Service != c.service || got.APIURL != c.api {
			t.Errorf("%v: got %s, API %s, error %v", c.env, got.Service, got.APIURL, err)
		}
		if pages := got.RunURL() + " " + got.PRURL(); pages != c.pages {
			t.Errorf("%v: got %s", c.env, pages)
		}
	}
}

func TestEventProblems(t *testing.T) {
	file := filepath.Join(t.TempDir(), "event.json")
	e := env{"GITHUB_EVENT_PATH": file}
	if _, err := ReadEvent(e.get, Disk{}); err == nil {
		t.Error("no error for a file that is not there")
	}
	for text, wantErr := range map[string]bool{"": false, "{}": false, "null": false, "[1]": true, `{"a"`: true, `{"number": "x", "pull_request": [], "repository": 7}`: false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadEvent(e.get, Disk{}); (err != nil) != wantErr {
			t.Errorf("%q: got error %v", text, err)
		}
	}
	if err := os.WriteFile(file, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Disk{}).ReadFile(file, 3); err == nil {
		t.Error("no error for a file that is too large")
	}
}

// No payload, however odd, makes a pull request of it that is trusted but not
// known to be from here.
func FuzzEvent(f *testing.F) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), ".")
		f.Add(name, []byte(content(f, file)))
	}
	f.Add("pull_request", []byte(`{"pull_request":{"head":{"repo":{"full_name":7}}}}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e := Event{Name: name, Repository: "o/r", SHA: runnerSHA}
		p := payload{}
		if json.Unmarshal(data, &p) != nil {
			return
		}
		e.fromPayload(p)
		trust := e.Trust(Checkout{SHA: prHead})
		if strings.HasPrefix(name, "pull_request") && !strings.EqualFold(e.HeadRepo, "o/r") && (trust.Push || trust.Secrets || trust.Comment || trust.OIDC || trust.Cache.Write != "") {
			t.Errorf("event %s of %q is trusted: %+v", name, e.HeadRepo, trust)
		}
	})
}
