package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// StepError says which step failed, where it stands in the template and what
// its command printed last.
type StepError struct {
	Pos    diag.Pos
	Number int // from 1; 0 for the error-cleanup provisioner
	Type   string
	Title  string
	Tail   []string // the last lines of output, redacted
	Err    error
}

// Error is one line; Tail is for who shows it.
func (e *StepError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("%serror-cleanup provisioner (%s): %v", place(e.Pos), e.Type, e.Err)
	}
	return fmt.Sprintf("%sprovisioner %d (%s): %v", place(e.Pos), e.Number, e.Type, e.Err)
}

// place begins an error with where it is, if that is known.
func place(pos diag.Pos) string {
	if pos.IsZero() {
		return ""
	}
	return pos.String() + ": "
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// provision takes the machine through the bake's steps and commits: after
// every step, or once at the end where layers are squashed or dear.
func (r *runner) provision(ctx context.Context, m bake.Machine, job bake.Job, res *Result, cache *stepCache, early *sender) (made bake.Artifact, err error) {
	b, each := res.Bake, r.each(res.Bake)
	last := len(b.Steps) - 1
	for i := len(res.Steps); i <= last; i++ {
		if err := r.withheldStep(b, i); err != nil {
			return made, err
		}
		if err := r.step(ctx, m, job, res, i); err != nil {
			return made, err
		}
		if each && i < last {
			info := bake.LayerInfo{CreatedBy: createdBy(b.Steps[i]), Secret: r.given(b.Steps[i])}
			if made, err = commit(ctx, m, info, cache, i); err != nil {
				return made, err
			}
			early.send(i, made)
		}
	}
	if made, err = commit(ctx, m, bake.LayerInfo{CreatedBy: r.createdBy(b, last), Secret: r.lastGiven(b, each)}, cache, last); err != nil {
		return made, err
	}
	made.Facts = joined(m.Facts(), made.Facts)
	return made, nil
}

// commit commits what was done up to a step, and keeps it in the cache. What the
// steps have read is hashed meanwhile.
func commit(ctx context.Context, m bake.Machine, info bake.LayerInfo, cache *stepCache, step int) (bake.Artifact, error) {
	hashed := cache.hash(step)
	made, err := m.Commit(ctx, info)
	if err != nil {
		return made, fmt.Errorf("commit: %w", err) // nobody waits for digests that nobody asks for
	}
	hashed()
	cache.keep(ctx, step, made)
	return made, nil
}

// joined is one map of several; later ones win.
func joined(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

func (r *runner) cheap(builder string) bool {
	kind, err := bake.Find(r.Catalog.Builders, "builder", builder, diag.Pos{})
	return err == nil && kind.Commit == bake.CommitCheap
}

// given reports whether a step is given secrets.
func (r *runner) given(s plan.Step) bool {
	for _, n := range s.Late() {
		if r.Scope.Sensitive(n.Needs()) {
			return true
		}
	}
	return false
}

// lastGiven is given for what the last commit holds: the last step, or all.
func (r *runner) lastGiven(b plan.Bake, each bool) bool {
	steps := b.Steps
	if each && len(steps) > 0 {
		steps = steps[len(steps)-1:]
	}
	return slices.ContainsFunc(steps, r.given)
}

// each reports whether the bake is committed after every step.
func (r *runner) each(b plan.Bake) bool { return b.Layers != "squash" && r.cheap(b.Type) }

func createdBy(s plan.Step) string { return "imgbake " + s.Type + ": " + s.Title }

// createdBy is the history of what is committed after a step: of it alone, or
// of all steps where there is one commit for all.
func (r *runner) createdBy(b plan.Bake, step int) string {
	switch {
	case len(b.Steps) == 0:
		return "imgbake"
	case r.each(b) || len(b.Steps) == 1:
		return createdBy(b.Steps[step])
	}
	titles := make([]string, len(b.Steps))
	for i, s := range b.Steps {
		titles[i] = s.Type + ": " + s.Title
	}
	return "imgbake " + strings.Join(titles, "; ")
}

// step runs one step, again and again where retries or a person say so.
func (r *runner) step(ctx context.Context, m bake.Machine, job bake.Job, res *Result, i int) error {
	b, s := res.Bake, res.Bake.Steps[i]
	began := r.Now()
	result := StepResult{Title: s.Title}
	r.emit(b.Name, bake.Event{Type: bake.StepStarted, Step: i + 1, Steps: len(b.Steps), Title: s.Title})
	defer func() {
		result.Seconds = r.Now().Sub(began).Seconds()
		res.Steps = append(res.Steps, result)
		r.emit(b.Name, bake.Event{Type: bake.StepFinished, Step: i + 1, Steps: len(b.Steps), Title: s.Title,
			Seconds: result.Seconds, Error: r.errorText(result.Err)})
	}()
	for {
		result.Attempts++
		if result.Err = r.attempt(ctx, m, job, b, s, i+1); result.Err == nil {
			return r.pause(ctx, s.Title)
		}
		if ctx.Err() != nil {
			return result.Err
		}
		if result.Attempts <= s.Common.MaxRetries {
			r.emit(b.Name, bake.Event{Type: bake.Warned, Step: i + 1, Text: fmt.Sprintf("attempt %d of %d: %s", result.Attempts, s.Common.MaxRetries+1, r.errorText(result.Err))})
			continue
		}
		if !r.again(ctx, res, result.Err) {
			return result.Err
		}
	}
}

// pause waits for a person between two steps when -debug is given.
func (r *runner) pause(ctx context.Context, title string) error {
	if !r.Debug || r.Ask == nil {
		return nil
	}
	_, err := r.Ask.Ask(ctx, fmt.Sprintf("%s is done; press enter to go on", title))
	return err
}

// again asks, with -on-error=ask, whether to retry a failed step, and notes
// when the machine shall be left as it is.
func (r *runner) again(ctx context.Context, res *Result, cause error) bool {
	if r.OnError != OnErrorAsk || r.Ask == nil {
		return false
	}
	answer, err := r.Ask.Ask(ctx, fmt.Sprintf("%s: %s", res.Bake.Name, r.errorText(cause)), "cleanup", "abort", "retry")
	res.abort = err == nil && answer == "abort"
	return err == nil && answer == "retry"
}

// attempt runs a step once.
func (r *runner) attempt(ctx context.Context, m bake.Machine, job bake.Job, b plan.Bake, s plan.Step, number int) error {
	fail := func(tail []string, err error) error {
		return &StepError{Pos: s.Pos, Number: number, Type: s.Type, Title: s.Title, Tail: tail, Err: err}
	}
	scope := r.scope(b, m.Facts())
	provisioner, err := newComponent(r.Catalog.Provisioners, "provisioner", s.Type, s.Body, scope, s.Pos)
	if err != nil {
		return fail(nil, err)
	}
	env, err := stepEnv(s, scope)
	if err != nil {
		return fail(nil, err)
	}
	if s.Common.PauseBefore > 0 {
		r.emit(b.Name, bake.Event{Type: bake.Note, Step: number, Text: fmt.Sprintf("waiting %s before the step", s.Common.PauseBefore)})
	}
	if err := bake.Wait(ctx, s.Common.PauseBefore); err != nil {
		return fail(nil, err)
	}
	stepCtx := ctx
	if s.Common.Timeout > 0 {
		var cancel context.CancelFunc
		stepCtx, cancel = context.WithTimeoutCause(ctx, s.Common.Timeout, fmt.Errorf("timeout after %s", s.Common.Timeout))
		defer cancel()
	}
	env, unmount, err := r.mount(stepCtx, m, s, scope, env)
	if err != nil {
		return fail(nil, err)
	}
	out := r.output(b.Name, number)
	err = provisioner.Provision(stepCtx, bake.Env{
		Communicator: m.Communicator(), Job: job, Vars: r.vars(b, m.Facts(), env), Files: r.Files,
		Host: r.Host, HostDir: r.Dir, Ask: r.Ask, Image: stages{r.bakes, b, r.Images},
		Stdout: out.stdout, Stderr: out.stderr, Sink: out,
	})
	out.flush()
	unmounted := unmount()
	if err != nil {
		if cause := context.Cause(stepCtx); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return fail(out.tail.lines(), err)
	}
	if unmounted != nil {
		return fail(nil, fmt.Errorf("mounts: %w", unmounted))
	}
	return nil
}

// vars is the environment of every command of the bake: the same in every run,
// since a step may write it into the image.
func (r *runner) vars(b plan.Bake, facts map[string]string, step []string) []string {
	vars := append([]string{}, r.Vars...)
	vars = append(vars, "PACKER_BUILD_NAME="+b.Builder, "PACKER_BUILDER_TYPE="+b.Type,
		"IMGBAKE_BAKE="+b.Name, "IMGBAKE_IMAGE="+b.Image, "IMGBAKE_BUILDER="+b.Builder)
	if epoch := facts[bake.FactEpoch]; epoch != "" {
		vars = append(vars, "SOURCE_DATE_EPOCH="+epoch)
	}
	return append(vars, step...)
}

// stepEnv evaluates the step's env key.
func stepEnv(s plan.Step, scope value.Scope) ([]string, error) {
	n, problems := value.Eval(s.Common.Env, scope)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	object, _ := n.V.(value.Object)
	var vars []string
	for _, m := range object {
		text, ok := value.Text(m.Node)
		if !ok {
			return nil, diag.Problem{Pos: m.Pos, Text: fmt.Sprintf("env %s: expected a string, found %s", m.Key, value.Describe(m.Node))}
		}
		vars = append(vars, m.Key+"="+text)
	}
	return vars, nil
}

// newComponent evaluates what is left to evaluate in a body and makes the component.
func newComponent[T any](kinds []bake.Kind[T], what, name string, body value.Node, scope value.Scope, pos diag.Pos) (T, error) {
	var none T
	kind, err := bake.Find(kinds, what, name, pos)
	if err != nil {
		return none, err
	}
	ready, problems := value.Eval(body, scope)
	if err := problems.Err(); err != nil {
		return none, err
	}
	if missing := ready.Needs(); len(missing) > 0 {
		return none, diag.Problem{Pos: pos, Text: "not known at this point of the bake: " + strings.Join(missing, ", ")}
	}
	return kind.New(ready)
}

// Tail finds the last output lines of the step that failed, if one did.
func Tail(err error) []string {
	var step *StepError
	if errors.As(err, &step) {
		return step.Tail
	}
	return nil
}
