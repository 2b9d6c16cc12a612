package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a run's surroundings. A step or post-processor does what the
// function of its name does; a step without one runs its name as a command.
type world struct {
	run.Options
	builder   *baketest.Builder
	sink      *hookedSink
	publisher *baketest.Publisher
	steps     map[string]func(context.Context, bake.Env) error
	posts     map[string]postFunc
	made      func(bake.Job) bake.Artifact // of the Kind "made"
}

type postFunc func(env bake.PostEnv, in []bake.Artifact) (out []bake.Artifact, keep bool, err error)

type body struct {
	Do    string   `key:"do"`
	Words []string `key:"words"`
}

func newWorld(t *testing.T) *world {
	w := &world{
		builder: &baketest.Builder{}, sink: &hookedSink{}, publisher: &baketest.Publisher{},
		steps: map[string]func(context.Context, bake.Env) error{}, posts: map[string]postFunc{},
	}
	builder := func(name string, c bake.CommitCost, b func() bake.Builder) bake.Kind[bake.Builder] {
		return bake.Define(bake.Spec[body, bake.Builder]{Name: name, Commit: c, New: func(body) (bake.Builder, error) { return b(), nil }})
	}
	fake := func() bake.Builder { return w.builder }
	w.Options = run.Options{
		RunID: "run-1", Redactor: &secret.Redactor{}, Sink: w.sink, Publisher: w.publisher, OutDir: t.TempDir(),
		Now: func() time.Time { return time.Unix(1700000000, 0) }, OnError: run.OnErrorCleanup,
		Catalog: bake.Catalog{
			Builders: []bake.Kind[bake.Builder]{
				builder("fake", bake.CommitCheap, fake), builder("dear", bake.CommitAtEnd, fake),
				builder("made", bake.CommitAtEnd, func() bake.Builder { return made{w} }),
			},
			Provisioners: []bake.Kind[bake.Provisioner]{bake.Define(bake.Spec[body, bake.Provisioner]{
				Name: "step", New: func(b body) (bake.Provisioner, error) { return step{w, b}, nil },
			})},
			Posts: []bake.Kind[bake.Post]{bake.Define(bake.Spec[body, bake.Post]{
				Name: "post", New: func(b body) (bake.Post, error) { return post{w, b}, nil },
			})},
		},
	}
	t.Cleanup(func() {
		if n := w.builder.Open(); n != 0 {
			t.Errorf("%d machines are open after the run", n)
		}
	})
	return w
}

func (w *world) run(ctx context.Context, bakes ...plan.Bake) []run.Result {
	// Only a broken run takes that long; it shall fail, not hang.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return run.Run(ctx, plan.Plan{Template: "t.yaml", Images: []plan.Image{{Bakes: bakes}}}, w.Options)
}

// one runs a plan of one bake.
func (w *world) one(t *testing.T, b plan.Bake) run.Result {
	t.Helper()
	return w.run(t.Context(), b)[0]
}

// baked is a bake of the Kind fake with the steps named.
func baked(name string, steps ...string) plan.Bake {
	image, builder, _ := strings.Cut(name, ".")
	b := plan.Bake{Name: name, Image: image, Builder: builder, Type: "fake", Layers: "step"}
	for i, s := range steps {
		b.Steps = append(b.Steps, plan.Step{
			Type: "step", Title: s, Pos: diag.Pos{File: "t.yaml", Line: 10 + i, Column: 5}, Body: baketest.Body(map[string]any{"do": s}),
		})
	}
	return b
}

func from(parent string, b plan.Bake) plan.Bake {
	b.From = parent
	return b
}

func posts(names ...string) (sequence []plan.Post) {
	for _, name := range names {
		sequence = append(sequence, plan.Post{Type: "post", Title: name, Body: baketest.Body(map[string]any{"do": name})})
	}
	return sequence
}

type step struct {
	w *world
	body
}

func (s step) Provision(ctx context.Context, env bake.Env) error {
	if do := s.w.steps[s.Do]; do != nil {
		return do(ctx, env)
	}
	_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: append([]string{s.Do}, s.Words...), Env: env.Vars, Stdout: env.Stdout})
	return err
}

type post struct {
	w *world
	body
}

func (p post) Process(_ context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	if do := p.w.posts[p.Do]; do != nil {
		return do(env, in)
	}
	return in, true, nil
}

// made is a builder, and its machine, that makes what the world says.
type made struct{ w *world }

type madeMachine struct {
	made
	job bake.Job
}

func (m made) Start(_ context.Context, job bake.Job) (bake.Machine, error) {
	return madeMachine{m, job}, nil
}
func (madeMachine) Communicator() bake.Communicator { return nil }
func (madeMachine) Facts() map[string]string {
	return map[string]string{"ID": "made", bake.FactEpoch: "1600000000"}
}
func (madeMachine) Close() error     { return nil }
func (madeMachine) Detach() []string { return nil }
func (m madeMachine) Commit(context.Context, bake.LayerInfo) (bake.Artifact, error) {
	return m.w.made(m.job), nil
}

// hookedSink keeps events and calls on for each, if it is set.
type hookedSink struct {
	baketest.Sink
	on func(bake.Event)
}

func (s *hookedSink) Emit(e bake.Event) {
	s.Sink.Emit(e)
	if s.on != nil {
		s.on(e)
	}
}

// story is what happened, one line an event, without output.
func (s *hookedSink) story() (lines []string) {
	for _, e := range s.Events() {
		line := string(e.Type)
		for _, part := range []string{e.Bake, e.Title, e.Text, e.Error} {
			if part != "" {
				line += " " + part
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// json is every event as --json shows it.
func (s *hookedSink) json(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, e := range s.Events() {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n", text)
	}
	return all.String()
}

// late is an expression that reads one name.
type late string

func (l late) Source() string  { return "${" + string(l) + "}" }
func (l late) Needs() []string { return []string{string(l)} }
func (l late) Eval(s value.Scope) (value.Node, error) {
	_, e, ok := s.Lookup(string(l))
	if !ok || !e.Known {
		return value.Node{}, &value.UnknownError{Name: string(l)}
	}
	return value.Of(diag.Pos{}, e.Value), nil
}

// asker gives scripted answers.
type asker struct {
	mu        sync.Mutex
	answers   []string
	questions []string
}

func (a *asker) Ask(ctx context.Context, question string, choices ...string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.questions = append(a.questions, question)
	if len(a.answers) == 0 {
		return "", fmt.Errorf("end of input")
	}
	answer := a.answers[0]
	a.answers = a.answers[1:]
	if len(choices) > 0 && !slices.Contains(choices, answer) {
		return "", fmt.Errorf("%q is none of %q", answer, choices)
	}
	return answer, ctx.Err()
}
