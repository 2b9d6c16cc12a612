package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/report"
)

// action is the entry point of the container action: what its inputs say
// becomes the flags of build, and what came of it outputs, a summary and a
// comment.
func (a *App) action() *cobra.Command {
	return &cobra.Command{
		Use:   "action",
		Short: "Run as a step of a GitHub workflow (see action.yml)",
		Long: `Does what the GitHub Action does: reads its inputs, the event and the files for
outputs from the environment that a workflow's runner gives to a step.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE:   func(cmd *cobra.Command, _ []string) error { return a.runAction(cmd.Context()) },
	}
}

// workflowStep is one run as a step of a workflow.
type workflowStep struct {
	*App    // with an environment that holds no input and no token
	in      actions.Inputs
	log     *actions.Log
	files   *actions.Files
	event   actions.Event
	trust   actions.Trust
	options actionInputs
	token   string
}

// runAction reads what the runner gives, and does what the mode says. What
// goes wrong is an annotation, and in the summary.
func (a *App) runAction(ctx context.Context) error {
	log := actions.NewLog(a.Stdout)
	s := &workflowStep{
		App: a.inside(log), log: log, in: actions.NewInputs(a.Getenv), files: actions.NewFiles(a.Getenv, actions.Disk{}),
	}
	defer s.adopt(a.Now())
	err := s.begin(ctx)
	if err == nil {
		err = s.mode(ctx)
	}
	var exit *exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.err == nil:
		return exit // everything was said
	case exit == nil:
		exit = &exitError{ExitFailed, err}
	}
	s.tell(exit.err)
	return &exitError{code: exit.code}
}

// inside is the program as templates see it: what the runner tells the action
// only is gone from the environment, and what is printed can be no command.
func (a *App) inside(log *actions.Log) *App {
	b := *a
	b.Stdout, b.Stderr = log.Fence(), log.Fence()
	b.Environ = nil
	for _, kv := range a.Environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "INPUT_") || strings.HasPrefix(name, "ACTIONS_") || name == "GITHUB_TOKEN" || name == "GH_TOKEN" {
			continue
		}
		b.Environ = append(b.Environ, kv)
	}
	return &b
}

// begin masks secrets, reads the event and the inputs, and decides what the run
// may do.
func (s *workflowStep) begin(ctx context.Context) (err error) {
	if s.token = s.in.Text("github-token"); s.token != "" {
		s.mask(s.token)
	}
	if s.event, err = actions.ReadEvent(s.Getenv, actions.Disk{}); err != nil {
		return err
	}
	if s.Dir == "" || s.event.Workspace != "" && isDir(s.event.Workspace) {
		s.Dir = s.event.Workspace
	}
	if s.options, err = s.readInputs(); err != nil {
		return err
	}
	checkout := actions.Checkout{SHA: checkedOut(s.path(s.options.template), s.Dir), AllowUntrusted: s.options.allowUntrusted}
	s.lookUp(ctx, checkout.SHA)
	s.trust = s.event.Trust(checkout)
	if s.trust.Refused != "" && s.options.mode != "comment" {
		_, _ = s.files.Summary("### imgbake: refused\n\n" + s.trust.Refused + "\n")
		return errors.New(s.trust.Refused)
	}
	if s.trust.Reason != "" {
		_ = s.log.Notice(actions.Annotation{Title: "imgbake", Message: s.trust.Reason})
	}
	return s.fill()
}

// mode does what the input mode says. The end of a pull request has nothing to
// bake.
func (s *workflowStep) mode(ctx context.Context) error {
	switch mode := s.options.mode; {
	case mode == "prune", mode == "bake" && s.event.Closed():
		return s.prune(ctx)
	case mode == "bake":
		return s.bakeAll(ctx)
	case mode == "plan":
		return s.matrix(ctx)
	case mode == "merge":
		return s.mergeAll(ctx)
	case mode == "comment":
		return s.commentRecord(ctx)
	}
	return usage("input mode: %q is none of bake, plan, merge, prune and comment", s.options.mode)
}

// mask makes the runner hide secrets in every form.
func (s *workflowStep) mask(secrets ...string) {
	for _, text := range secrets {
		_ = s.log.Mask(text, forms(text)...)
	}
}

// tell writes an error as annotations: problems at their places.
func (s *workflowStep) tell(err error) {
	var list diag.List
	var one diag.Problem
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = diag.List{one}
	default:
		_ = s.log.Error(actions.Annotation{Title: "imgbake", Message: advise(err.Error())})
		return
	}
	list = advised(list)
	s.show(list)
	s.annotate(list)
}

// maxProblems is how many annotations of a kind the runner keeps.
const maxProblems = 10

func (s *workflowStep) annotate(list diag.List) {
	for i, p := range list {
		if i == maxProblems {
			return
		}
		at := actions.Annotation{Title: "imgbake", Message: p.Text, File: p.Pos.File, Line: p.Pos.Line, Column: p.Pos.Column}
		if p.Hint != "" {
			at.Message += "\n" + p.Hint
		}
		if p.Severity == diag.Warning {
			_ = s.log.Warning(at)
			continue
		}
		_ = s.log.Error(at)
	}
}

// bakeAll bakes, and tells of it everywhere: in outputs, in the summary and on
// the pull request, also when something failed.
func (s *workflowStep) bakeAll(ctx context.Context) error {
	flags := s.options.flags
	sink := newGroups(s.log)
	flags.given.mask, flags.given.sink = s.mask, sink
	done, err := s.bake(ctx, s.options.template, flags)
	sink.close()
	if done.results == nil {
		if err != nil {
			s.tellProblems(ctx, err)
		}
		return err
	}
	shown := func(text string) string { return advise(done.redactor.Redact(text)) }
	s.annotate(report.Problems(done.results, shown))
	s.annotate(advised(done.warnings))
	err = errors.Join(err, s.outputs(done))
	source := s.source()
	source.Capabilities = report.Capabilities(done.plan, s.still())
	data := report.Comment(done.record, done.results, shown, source, s.compare(ctx, done))
	for _, p := range advised(done.warnings) {
		data.Problems = append(data.Problems, report.ProblemOf(p, data.Source))
	}
	s.note(&data)
	s.summary(data)
	if s.options.record != "" {
		err = errors.Join(err, s.writeRecord(done.record, data))
	}
	if ctx.Err() == nil { // else there are seconds left, and the API may take longer
		s.comment(ctx, data)
	}
	if err != nil {
		return err
	}
	return s.outcome(ctx, done)
}

// outcome is that of build, but for bakes that lack a secret which this run is
// not given: they are no failure.
func (s *workflowStep) outcome(ctx context.Context, done baked) error {
	results := done.results
	if !s.trust.Secrets {
		results = nil
		for _, res := range done.results {
			if res.Skipped == "" || ctx.Err() != nil {
				results = append(results, res)
			}
		}
	}
	return s.App.outcome(ctx, results, nil)
}

// note adds what the run may not do to what is told.
func (s *workflowStep) note(d *comment.Data) {
	if s.trust.Reason != "" {
		d.Problems = append(d.Problems, comment.Problem{Warning: true, Text: s.trust.Reason})
	}
}

// outputs writes the outputs, one line in GITHUB_ARTIFACTS for each image that
// was pushed, and warns of values that the runner will drop.
func (s *workflowStep) outputs(done baked) error {
	var errs []error
	for _, out := range report.Outputs(done.results) {
		errs = append(errs, s.output(out.Name, out.Value, done.redactor.Redact))
	}
	told := map[string]bool{}
	for _, res := range done.results {
		for _, ref := range res.Published {
			if name := ref.Name(); !told[name] {
				told[name] = true
				errs = append(errs, ignoreUnavailable(s.files.Artifact(name)))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *workflowStep) output(name, value string, redact func(string) string) error {
	if redact != nil && redact(value) != value {
		_ = s.log.Warning(actions.Annotation{Title: "imgbake", Message: fmt.Sprintf("the output %q holds a secret: the runner does not pass it on to other jobs", name)})
	}
	return ignoreUnavailable(s.files.Output(name, value))
}

func ignoreUnavailable(err error) error {
	if errors.Is(err, actions.ErrUnavailable) {
		return nil
	}
	return err
}

// matrix plans, and puts a leg for every bake into the output.
func (s *workflowStep) matrix(ctx context.Context) error {
	f := s.options.flags
	p, problems, err := s.prepare(ctx, s.options.template, f.selection, s.still(), newRunID(), s.Now())
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		s.tellProblems(ctx, err)
		return &exitError{ExitTemplate, problems}
	}
	s.annotate(problems)
	legs, err := plan.Matrix(p.plan)
	if err != nil {
		return err
	}
	if legs, err = withRunners(legs, s.options.runners); err != nil {
		return err
	}
	fmt.Fprint(s.Stdout, plan.Tree(p.plan))
	return errors.Join(s.output("matrix", string(legs), nil), s.output("tags", strings.Join(f.given.tags, "\n"), nil))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkedOut is the commit of the checkout that a file is in, read without git;
// empty where that cannot be told. Folders above the workspace do not count.
func checkedOut(file, workspace string) string {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	if workspace, err = filepath.EvalSymlinks(workspace); err != nil {
		return ""
	}
	for dir := file; below(workspace, dir); dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return head(filepath.Join(dir, ".git"))
		}
		if dir == workspace {
			break
		}
	}
	return ""
}

// head reads the commit that a .git folder has checked out.
func head(git string) string {
	text, err := os.ReadFile(filepath.Join(git, "HEAD"))
	if err != nil {
		return ""
	}
	ref, symbolic := strings.CutPrefix(strings.TrimSpace(string(text)), "ref: ")
	if !symbolic {
		return ref
	}
	if !filepath.IsLocal(ref) {
		return ""
	}
	if text, err := os.ReadFile(filepath.Join(git, ref)); err == nil {
		return strings.TrimSpace(string(text))
	}
	packed, _ := os.ReadFile(filepath.Join(git, "packed-refs"))
	for line := range strings.Lines(string(packed)) {
		if sha, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == ref {
			return sha
		}
	}
	return ""
}
