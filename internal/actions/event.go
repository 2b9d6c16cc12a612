package actions

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Event is what made the workflow run, and where it runs: one struct for every
// kind of event. What an event or a service does not tell is empty.
type Event struct {
	Name   string // such as "push" or "pull_request"
	Action string // such as "opened" or "closed"

	Repository    string // owner/name
	Description   string
	License       string // SPDX
	Private       bool
	DefaultBranch string

	Ref          string // refs/heads/…, refs/tags/…, refs/pull/N/merge
	RefProtected bool
	SHA          string // what the runner calls the commit: for a pull request, a merge that is in no branch
	HeadSHA      string // the commit that somebody wrote; empty when only the API knows it
	HeadRef      string // the branch it is on, as far as there is one
	HeadRepo     string // owner/name of the repository it is in; empty when that is gone or not known
	BaseRef      string // the branch a pull request or queue goes into; for the push of a tag, the branch it was made on
	BaseSHA      string
	CommitDate   time.Time

	PR         int  // the pull request; 0 is none, or not known without the API
	Fork       bool // the commit is from another repository, or it is not known to be from this one
	Dependabot bool
	Merged     bool
	Draft      bool
	Author     string   // of the pull request
	Labels     []string // of the pull request
	Label      string   // that was added or removed
	Deleted    bool     // the push removed the ref
	Prerelease bool     // the release is marked as one

	// Of the run before, for workflow_run.
	TriggerEvent, TriggerConclusion string
	TriggerRunID                    string

	Actor, TriggeringActor        string
	Workflow, WorkflowRef, Job    string
	RunID, RunNumber, RunAttempt  string
	ServerURL, APIURL, GraphQLURL string
	Workspace, Temp               string
	CacheMode                     string // what the service allows: read, write, write-only, none
	Service                       Service
	Debug                         bool // the run shows debug lines
	HasOIDC                       bool // an identity token can be asked for
}

// Service is the kind of service that runs the workflow.
type Service string

// The services that are told apart.
const (
	GitHub     Service = "github"
	Enterprise Service = "github-enterprise-server"
	Gitea      Service = "gitea"
	Forgejo    Service = "forgejo"
	Act        Service = "act" // nektos/act, on a developer's machine
)

// ReadEvent reads the event that the environment tells of.
func ReadEvent(getenv func(string) string, fs FS) (Event, error) {
	p, err := readPayload(getenv, fs)
	if err != nil {
		return Event{}, err
	}
	e := fromEnvironment(getenv)
	e.fromPayload(p)
	return e, nil
}

func fromEnvironment(getenv func(string) string) Event {
	e := Event{
		Name:       getenv("GITHUB_EVENT_NAME"),
		Repository: getenv("GITHUB_REPOSITORY"),
		Ref:        getenv("GITHUB_REF"), RefProtected: getenv("GITHUB_REF_PROTECTED") == "true",
		SHA: getenv("GITHUB_SHA"), HeadRef: getenv("GITHUB_HEAD_REF"), BaseRef: getenv("GITHUB_BASE_REF"),
		Actor: getenv("GITHUB_ACTOR"), TriggeringActor: getenv("GITHUB_TRIGGERING_ACTOR"),
		Workflow: getenv("GITHUB_WORKFLOW"), WorkflowRef: getenv("GITHUB_WORKFLOW_REF"), Job: getenv("GITHUB_JOB"),
		RunID: getenv("GITHUB_RUN_ID"), RunNumber: getenv("GITHUB_RUN_NUMBER"), RunAttempt: getenv("GITHUB_RUN_ATTEMPT"),
		ServerURL: baseURL(getenv("GITHUB_SERVER_URL"), "https://github.com"),
		Workspace: getenv("GITHUB_WORKSPACE"), Temp: getenv("RUNNER_TEMP"),
		CacheMode: getenv("ACTIONS_CACHE_MODE"), Service: service(getenv),
		Debug:   getenv("RUNNER_DEBUG") == "1",
		HasOIDC: getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" && getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN") != "",
	}
	e.APIURL = baseURL(getenv("GITHUB_API_URL"), e.defaultAPI())
	e.GraphQLURL = strings.TrimRight(getenv("GITHUB_GRAPHQL_URL"), "/")
	return e
}

func baseURL(value, fallback string) string {
	if value == "" {
		value = fallback
	}
	return strings.TrimRight(value, "/")
}

// service tells who runs the workflow. Servers of GitHub with a domain of
// their own are those whose address is not one of GitHub's.
func service(getenv func(string) string) Service {
	switch {
	case getenv("FORGEJO_ACTIONS") == "true":
		return Forgejo
	case getenv("GITEA_ACTIONS") == "true":
		return Gitea
	case getenv("ACT") == "true":
		return Act
	}
	u, err := url.Parse(getenv("GITHUB_SERVER_URL"))
	if err != nil || u.Hostname() == "" {
		return GitHub
	}
	host := strings.ToLower(u.Hostname())
	if host == "github.com" || strings.HasSuffix(host, ".ghe.com") {
		return GitHub
	}
	return Enterprise
}

// defaultAPI is where a service's API is when the runner does not say.
func (e Event) defaultAPI() string {
	switch {
	case e.Service == Gitea || e.Service == Forgejo:
		return e.ServerURL + "/api/v1"
	case e.ServerURL == "https://github.com":
		return "https://api.github.com"
	}
	return e.ServerURL + "/api/v3"
}

// fromPayload fills in what only the payload knows, and picks the commit that
// a person would name.
func (e *Event) fromPayload(p payload) {
	e.Action = p.text("action")
	if e.Repository == "" {
		e.Repository = p.text("repository.full_name")
	}
	e.DefaultBranch = p.text("repository.default_branch")
	e.Description = p.text("repository.description")
	if e.License = p.text("repository.license.spdx_id"); e.License == "NOASSERTION" {
		e.License = ""
	}
	e.Private = p.truth("repository.private")
	e.Label = p.text("label.name")
	e.HeadRepo, e.HeadSHA = e.Repository, e.SHA
	switch {
	case strings.HasPrefix(e.Name, "pull_request"):
		e.pullRequest(p)
	case e.Name == "merge_group":
		e.mergeGroup(p)
	case e.Name == "workflow_run":
		e.workflowRun(p)
	case e.Name == "issue_comment":
		e.issueComment(p)
	default:
		e.branchOrTag(p)
	}
	if e.Author == "" {
		e.Author = p.text("pull_request.user.login", "issue.user.login")
	}
	e.Dependabot = isDependabot(e.Actor) || isDependabot(e.Author)
}

// isDependabot reports the app's login; a person cannot have brackets in theirs.
func isDependabot(login string) bool { return login == "dependabot[bot]" }

// pullRequest: the runner's commit is a merge of base and head, or, for
// pull_request_target, the base; the head is in the payload only.
func (e *Event) pullRequest(p payload) {
	e.PR = p.number("pull_request.number", "number")
	if e.PR == 0 {
		e.PR = pullOfRef(e.Ref)
	}
	e.HeadSHA = p.text("pull_request.head.sha")
	e.HeadRef = first(p.text("pull_request.head.ref"), e.HeadRef)
	e.BaseRef = first(p.text("pull_request.base.ref"), e.BaseRef)
	e.BaseSHA = p.text("pull_request.base.sha")
	e.HeadRepo = p.text("pull_request.head.repo.full_name")
	e.Fork = !e.isHere(e.HeadRepo)
	e.Merged = p.truth("pull_request.merged")
	e.Draft = p.truth("pull_request.draft")
	for _, label := range p.list("pull_request.labels") {
		e.Labels = append(e.Labels, label.text("name"))
	}
}

// isHere reports whether a repository is the one that the workflow is of. One
// that is gone, or not told, is not. That a repository is a fork of another
// says nothing: this one may be a fork too.
func (e *Event) isHere(repository string) bool {
	return repository != "" && strings.EqualFold(repository, e.Repository)
}

// queueRef is the branch of a merge queue.
var queueRef = regexp.MustCompile(`^refs/heads/gh-readonly-queue/(.+)/pr-([0-9]+)-[0-9a-f]{40,64}$`)

func (e *Event) mergeGroup(p payload) {
	e.HeadSHA = first(p.text("merge_group.head_sha"), e.SHA)
	e.HeadRef = first(p.text("merge_group.head_ref"), e.Ref)
	e.BaseRef = strings.TrimPrefix(p.text("merge_group.base_ref"), "refs/heads/")
	e.BaseSHA = p.text("merge_group.base_sha")
	e.CommitDate = date(p.text("merge_group.head_commit.timestamp"))
	if m := queueRef.FindStringSubmatch(e.HeadRef); m != nil {
		e.PR, _ = strconv.Atoi(m[2])
		e.BaseRef = first(e.BaseRef, m[1])
	}
	e.HeadRef = strings.TrimPrefix(e.HeadRef, "refs/heads/")
}

// workflowRun: the runner's commit is the default branch's; the payload tells
// what the run before ran on. For forks its list of pull requests is empty.
func (e *Event) workflowRun(p payload) {
	e.HeadSHA = p.text("workflow_run.head_sha")
	e.HeadRef = p.text("workflow_run.head_branch")
	e.HeadRepo = p.text("workflow_run.head_repository.full_name")
	e.Fork = !e.isHere(e.HeadRepo)
	e.CommitDate = date(p.text("workflow_run.head_commit.timestamp"))
	e.TriggerEvent = p.text("workflow_run.event")
	e.TriggerConclusion = p.text("workflow_run.conclusion")
	if id := p.number("workflow_run.id"); id > 0 {
		e.TriggerRunID = strconv.Itoa(id)
	}
	e.Author = p.text("workflow_run.actor.login")
	if pulls := p.list("workflow_run.pull_requests"); len(pulls) > 0 {
		e.PR = pulls[0].number("number")
		e.BaseRef = pulls[0].text("base.ref")
		e.BaseSHA = pulls[0].text("base.sha")
	}
}

// issueComment: the payload tells the number only; whose commit is the head of
// it is known to the API alone, and until then is taken to be a stranger's.
func (e *Event) issueComment(p payload) {
	e.Label = ""
	if !p.has("issue.pull_request") {
		return
	}
	e.PR = p.number("issue.number")
	e.HeadSHA, e.HeadRepo, e.HeadRef, e.Fork = "", "", "", true
	e.Draft = p.truth("issue.draft")
	for _, label := range p.list("issue.labels") {
		e.Labels = append(e.Labels, label.text("name"))
	}
}

func (e *Event) branchOrTag(p payload) {
	e.HeadRef = strings.TrimPrefix(strings.TrimPrefix(e.Ref, "refs/heads/"), "refs/tags/")
	e.Prerelease = p.truth("release.prerelease")
	if e.Name != "push" {
		return
	}
	e.Deleted = p.truth("deleted")
	e.BaseRef = strings.TrimPrefix(p.text("base_ref"), "refs/heads/")
	e.BaseSHA = p.text("before")
	if after := p.text("after"); after != "" && !e.IsTag() && !e.Deleted {
		e.HeadSHA = after // the object of an annotated tag is no commit
	}
	if p.text("head_commit.id") == e.HeadSHA {
		e.CommitDate = date(p.text("head_commit.timestamp"))
	}
}

// pullRef is how pull requests are checked out; Gitea's end in head.
var pullRef = regexp.MustCompile(`^refs/pull/([0-9]+)/(?:merge|head)$`)

func pullOfRef(ref string) int {
	if m := pullRef.FindStringSubmatch(ref); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

// date is a moment in the payload; what is no date is the zero time.
func date(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// IsTag reports whether the ref is a tag.
func (e Event) IsTag() bool { return strings.HasPrefix(e.Ref, "refs/tags/") }

// Branch is the branch that the workflow runs on, or empty.
func (e Event) Branch() string {
	branch, ok := strings.CutPrefix(e.Ref, "refs/heads/")
	if !ok {
		return ""
	}
	return branch
}

// Closed reports whether a pull request was just closed or merged.
func (e Event) Closed() bool {
	return strings.HasPrefix(e.Name, "pull_request") && e.Action == "closed"
}

// RepositoryURL is the repository's page.
func (e Event) RepositoryURL() string { return e.ServerURL + "/" + e.Repository }

// RunURL is the page of this run, and of this attempt where there are such
// pages. Gitea and Forgejo count runs for each repository.
func (e Event) RunURL() string {
	if e.Service == Gitea || e.Service == Forgejo {
		return e.RepositoryURL() + "/actions/runs/" + e.RunNumber
	}
	page := e.RepositoryURL() + "/actions/runs/" + e.RunID
	if e.RunAttempt != "" && e.RunAttempt != "1" {
		page += "/attempts/" + e.RunAttempt
	}
	return page
}

// PRURL is the page of the pull request, or empty.
func (e Event) PRURL() string {
	switch {
	case e.PR == 0:
		return ""
	case e.Service == Gitea || e.Service == Forgejo:
		return e.RepositoryURL() + "/pulls/" + strconv.Itoa(e.PR)
	}
	return e.RepositoryURL() + "/pull/" + strconv.Itoa(e.PR)
}
