package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/report"
	"github.com/imgbake/imgbake-action/internal/secret"
)

// actionRecord is the record of a run as a step of a workflow: with what a
// trusted follow-up needs to comment on the pull request.
type actionRecord struct {
	report.Record
	PullRequest int          `json:"pull_request,omitempty"`
	HeadSHA     string       `json:"head_sha,omitempty"`
	Comment     comment.Data `json:"comment"`
}

// source is what the event says of where images come from.
func (s *workflowStep) source() comment.Source {
	e := s.event
	sha := cmp.Or(e.HeadSHA, e.SHA)
	from := comment.Source{
		Repository: cmp.Or(e.HeadRepo, e.Repository), Commit: sha, RunURL: e.RunURL(), Tool: "imgbake " + s.Version,
	}
	if e.Workflow != "" {
		from.Run = e.Workflow + " #" + e.RunNumber
	}
	if e.ServerURL != "" && from.Repository != "" {
		from.RepositoryURL = strings.TrimSuffix(e.ServerURL, "/") + "/" + from.Repository
		from.CommitURL = from.RepositoryURL + "/commit/" + sha
		if template := s.options.template; sha != "" && filepath.IsLocal(template) && !strings.ContainsAny(template, "?#%") {
			from.TemplateURL = from.RepositoryURL + "/blob/" + sha + "/" + filepath.ToSlash(filepath.Clean(template))
		}
	}
	return from
}

func (s *workflowStep) summary(d comment.Data) {
	if !s.options.summary {
		return
	}
	if _, err := s.files.Summary(comment.Summary(d)); err != nil {
		_ = s.log.Debug("summary: " + err.Error())
	}
}

// tellProblems tells why nothing was baked.
func (s *workflowStep) tellProblems(ctx context.Context, err error) {
	d := comment.Data{Source: s.source()}
	d.Source.Template = s.options.template
	var list diag.List
	if !errors.As(err, &list) {
		d.Problems = []comment.Problem{{Text: advise(err.Error())}}
	}
	for _, p := range advised(list) {
		d.Problems = append(d.Problems, report.ProblemOf(p, d.Source))
	}
	s.note(&d)
	s.summary(d)
	if ctx.Err() == nil && s.options.mode == "bake" {
		s.comment(ctx, d)
	}
}

// writeRecord writes the record into the workspace, for its owner.
func (s *workflowStep) writeRecord(r report.Record, d comment.Data) error {
	text, err := json.MarshalIndent(actionRecord{r, s.event.PR, s.event.HeadSHA, d}, "", "  ")
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	path := s.path(s.options.record)
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return s.giveToOwner(s.options.record)
}

// giveToOwner makes a file in the workspace that of the workspace's owner, and
// the output record.
func (s *workflowStep) giveToOwner(file string) error {
	if owner, err := actions.WorkspaceOwner(s.Getenv, actions.Disk{}); err == nil {
		_ = os.Chown(s.path(file), owner.UID, owner.GID) // only root can, and only root must
	}
	return s.output("record", file, nil)
}

// comment puts what there is to tell on the pull request. What keeps it from
// doing so is a warning: the images are there all the same.
func (s *workflowStep) comment(ctx context.Context, d comment.Data) {
	e := s.event
	switch {
	case !s.options.comment || !s.trust.Comment:
		return
	case e.PR == 0 || e.APIURL == "" || s.token == "":
		_ = s.log.Debug("no comment: there is no pull request, no API or no token")
		return
	}
	posted, err := s.upsert(ctx, e.PR, d)
	if err != nil {
		_ = s.log.Warning(actions.Annotation{Title: "imgbake: no comment", Message: err.Error()})
		return
	}
	if err := s.output("comment-url", posted.Comment.URL, nil); err != nil {
		_ = s.log.Warning(actions.Annotation{Title: "imgbake", Message: err.Error()})
	}
}

// lookUp asks whose commit is checked out where the event tells the number of a
// pull request only. Until that is known it counts as a stranger's.
func (s *workflowStep) lookUp(ctx context.Context, checkedOut string) {
	e := &s.event
	if e.Name != "issue_comment" || e.PR == 0 || e.APIURL == "" || s.token == "" || strings.EqualFold(checkedOut, e.SHA) {
		return
	}
	client, repository, err := s.api()
	var p github.Pull
	if err == nil {
		p, err = client.Pull(ctx, repository, e.PR)
	}
	if err != nil {
		_ = s.log.Debug(err.Error())
		return
	}
	if p.HeadSHA != "" && strings.EqualFold(p.HeadSHA, checkedOut) {
		e.HeadSHA, e.HeadRef, e.HeadRepo, e.BaseRef, e.BaseSHA = p.HeadSHA, p.HeadRef, p.HeadRepo, p.BaseRef, p.BaseSHA
		e.Fork, e.Dependabot = p.Fork(), e.Dependabot || p.Author == "dependabot[bot]"
	}
}

func (s *workflowStep) api() (*github.Client, github.Repository, error) {
	repository, err := github.ParseRepository(s.event.Repository)
	if err != nil {
		return nil, repository, err
	}
	client, err := github.New(github.Options{
		BaseURL: s.event.APIURL, GraphQLURL: s.event.GraphQLURL, Token: secret.New(s.token),
		UserAgent: "imgbake/" + s.Version, Sleep: bake.Wait, Notify: func(text string) { _ = s.log.Debug(text) },
	})
	return client, repository, err
}

func (s *workflowStep) upsert(ctx context.Context, number int, d comment.Data) (github.Posted, error) {
	client, repository, err := s.api()
	if err != nil {
		return github.Posted{}, err
	}
	author, err := client.Whoami(ctx)
	if err != nil {
		return github.Posted{}, err
	}
	data, err := json.Marshal(d.Trim())
	if err != nil {
		return github.Posted{}, fmt.Errorf("comment: %w", err)
	}
	run, _ := strconv.ParseInt(s.event.RunID, 10, 64)
	attempt, _ := strconv.Atoi(s.event.RunAttempt)
	return client.Upsert(ctx, github.Post{
		Repository: repository, Number: number, Key: s.options.commentKey, Author: author, Render: render,
		Section: github.Section{Leg: s.leg(), Run: run, Attempt: attempt, Data: data},
	})
}

// leg tells the jobs of a matrix apart: they have one name, and each bakes
// something else.
func (s *workflowStep) leg() string {
	leg := s.event.Job
	if only := s.options.flags.only; len(only) > 0 {
		leg += " " + strings.Join(only, ",")
	}
	return strings.TrimSpace(leg)
}

func render(sections []github.Section, room int) string {
	var all []comment.Section
	for _, s := range sections {
		section := comment.Section{Leg: s.Leg, Run: s.Run, Attempt: s.Attempt}
		if err := json.Unmarshal(s.Data, &section.Data); err != nil {
			section.Data.Problems = []comment.Problem{{Text: "what this job wrote cannot be read"}}
		}
		all = append(all, section)
	}
	return comment.Comment(all, room)
}

// maxRecord bounds a record that a stranger's run may have written.
const maxRecord = 4 << 20

// commentRecord posts the record of a run that could not comment by itself. The
// record is a stranger's: it says what was baked, and where that belongs comes
// from the event and the API.
func (s *workflowStep) commentRecord(ctx context.Context) error {
	text, err := actions.Disk{}.ReadFile(s.path(cmp.Or(s.in.Text("record"), "imgbake-record.json")), maxRecord)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	var r actionRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	number, err := s.pullOfRun(ctx, r)
	if err != nil {
		return err
	}
	posted, err := s.upsert(ctx, number, s.untrusted(r))
	if err != nil {
		return err
	}
	return s.output("comment-url", posted.Comment.URL, nil)
}

// pullOfRun is the open pull request of the run before, if the record is of its
// commit.
func (s *workflowStep) pullOfRun(ctx context.Context, r actionRecord) (int, error) {
	e := s.event
	if e.Name != "workflow_run" {
		return 0, usage("mode comment is for workflow_run events, and this is %s", e.Name)
	}
	if r.HeadSHA == "" || r.HeadSHA != e.HeadSHA {
		return 0, fmt.Errorf("record: it is of commit %q, and the run before of %q", r.HeadSHA, e.HeadSHA)
	}
	client, repository, err := s.api()
	if err != nil {
		return 0, err
	}
	head, err := github.ParseRepository(e.HeadRepo)
	if err != nil {
		return 0, fmt.Errorf("the run before: %w", err)
	}
	pulls, err := client.OpenPullsOfHead(ctx, repository, head, e.HeadRef, e.HeadSHA)
	if err != nil {
		return 0, err
	}
	for _, p := range pulls {
		if p.Number == r.PullRequest && p.HeadSHA == e.HeadSHA {
			return p.Number, nil
		}
	}
	return 0, fmt.Errorf("record: pull request %d is not one of those that commit %s is the head of", r.PullRequest, e.HeadSHA)
}

// untrusted is a record's data less everything a reader might click or copy.
func (s *workflowStep) untrusted(r actionRecord) comment.Data {
	d := r.Comment
	source := s.source()
	source.Template, source.TemplateDigest, source.Variables, source.TemplateURL = d.Source.Template, d.Source.TemplateDigest, d.Source.Variables, ""
	d.Source, d.Closed = source, nil
	for i := range d.Images {
		d.Images[i].Tags, d.Images[i].Run, d.Images[i].Verify, d.Images[i].Before, d.Images[i].Output = nil, "", "", nil, nil
	}
	for i := range d.Problems {
		d.Problems[i].URL = ""
	}
	return d
}
