package run_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/value"
)

var errBroken = errors.New("broken")

func TestOnError(t *testing.T) {
	tests := map[string]struct {
		onError  run.OnError
		answers  []string // nil: nobody is there
		attempts int
		tidied   bool
		detached bool
	}{
		"cleanup":                 {onError: run.OnErrorCleanup, attempts: 1, tidied: true},
		"abort":                   {onError: run.OnErrorAbort, attempts: 1, detached: true},
		"run-cleanup-provisioner": {onError: run.OnErrorCleanupProvisioner, attempts: 1, tidied: true, detached: true},
		"ask, cleanup":            {onError: run.OnErrorAsk, answers: []string{"cleanup"}, attempts: 1, tidied: true},
		"ask, abort":              {onError: run.OnErrorAsk, answers: []string{"abort"}, attempts: 1, detached: true},
		"ask, retry twice, abort": {onError: run.OnErrorAsk, answers: []string{"retry", "retry", "abort"}, attempts: 3, detached: true},
		"ask, no answer":          {onError: run.OnErrorAsk, answers: []string{}, attempts: 1, tidied: true},
		"ask, nobody":             {onError: run.OnErrorAsk, attempts: 1, tidied: true},
		"cleanup, somebody there": {onError: run.OnErrorCleanup, answers: []string{"retry"}, attempts: 1, tidied: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.OnError = test.onError
			if test.answers != nil {
				w.Ask = &asker{answers: test.answers}
			}
			tidied := false
			w.steps["break"] = func(context.Context, bake.Env) error { return errBroken }
			w.steps["tidy"] = func(context.Context, bake.Env) error { tidied = true; return nil }
			b := baked("web.a", "break", "never")
			b.Cleanup = &baked("x", "tidy").Steps[0]
			res := w.one(t, b)
			if !errors.Is(res.Err, errBroken) || len(res.Steps) != 1 || res.Steps[0].Attempts != test.attempts {
				t.Errorf("got %v, steps %+v", res.Err, res.Steps)
			}
			m := w.builder.Machines()[0]
			if m.Detached != test.detached || (m.Closed == 1) == test.detached || tidied != test.tidied {
				t.Errorf("detached %t, closed %d times, tidied %t", m.Detached, m.Closed, tidied)
			}
			lines := w.sink.Texts(bake.MachineDetached)
			if test.detached && !slices.Equal(lines, []string{"machine web.a remains"}) || !test.detached && lines != nil {
				t.Errorf("says %q of what remains", lines)
			}
			if !slices.Equal(res.Detached, lines) {
				t.Errorf("the result says %q, the events %q", res.Detached, lines)
			}
		})
	}
}

func TestAskThenRetrySucceeds(t *testing.T) {
	w := newWorld(t)
	who := &asker{answers: []string{"retry"}}
	w.OnError, w.Ask = run.OnErrorAsk, who
	tries := 0
	w.steps["flaky"] = func(context.Context, bake.Env) error {
		if tries++; tries == 1 {
			return errBroken
		}
		return nil
	}
	if res := w.one(t, baked("web.a", "flaky")); res.Err != nil || res.Steps[0].Attempts != 2 {
		t.Errorf("got %+v", res)
	}
	if len(who.questions) != 1 || !strings.Contains(who.questions[0], "broken") {
		t.Errorf("asked %q", who.questions)
	}
}

func TestCleanupProvisionerFails(t *testing.T) {
	w := newWorld(t)
	w.steps["break"] = func(context.Context, bake.Env) error { return errBroken }
	b := baked("web.a", "break")
	b.Cleanup = &baked("x", "break").Steps[0]
	res := w.one(t, b)
	if !strings.HasPrefix(res.Err.Error(), "t.yaml:10:5: provisioner 1") {
		t.Errorf("got %v", res.Err)
	}
	if story := strings.Join(w.sink.story(), "\n"); !strings.Contains(story, "error-cleanup provisioner (step): broken") {
		t.Errorf("story: %s", story)
	}
}

func TestRetries(t *testing.T) {
	for _, test := range []struct{ failures, retries, attempts int }{{2, 2, 3}, {3, 2, 3}, {1, 0, 1}, {0, 5, 1}} {
		w := newWorld(t)
		left := test.failures
		w.steps["flaky"] = func(context.Context, bake.Env) error {
			if left--; left >= 0 {
				return errBroken
			}
			return nil
		}
		b := baked("web.a", "flaky")
		b.Steps[0].Common.MaxRetries = test.retries
		res := w.one(t, b)
		if (res.Err != nil) != (test.failures > test.retries) || res.Steps[0].Attempts != test.attempts {
			t.Errorf("%+v: got %v after %d attempts", test, res.Err, res.Steps[0].Attempts)
		}
		if warned := w.sink.Texts(bake.Warned); len(warned) != test.attempts-1 {
			t.Errorf("%+v: warned %q", test, warned)
		}
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	w.steps["endless"] = func(ctx context.Context, _ bake.Env) error { <-ctx.Done(); return ctx.Err() }
	b := baked("web.a", "endless")
	b.Steps[0].Common.Timeout = time.Millisecond
	b.Steps[0].Common.MaxRetries = 1
	res := w.one(t, b)
	if res.Err == nil || res.Err.Error() != "t.yaml:10:5: provisioner 1 (step): timeout after 1ms" || res.Steps[0].Attempts != 2 {
		t.Errorf("got %v after %d attempts", res.Err, res.Steps[0].Attempts)
	}
}

func TestPauseBefore(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.sink.on = func(e bake.Event) {
		if e.Type == bake.Note && strings.Contains(e.Text, "waiting 1h") {
			cancel()
		}
	}
	w.steps["never"] = func(context.Context, bake.Env) error { t.Error("the step ran"); return nil }
	b := baked("web.a", "never")
	b.Steps[0].Common.PauseBefore = time.Hour
	if res := w.run(ctx, b)[0]; !errors.Is(res.Err, context.Canceled) {
		t.Errorf("got %v", res.Err)
	}
	b.Steps[0].Common.PauseBefore = time.Millisecond
	w.steps["never"] = nil
	if res := w.one(t, b); res.Err != nil {
		t.Errorf("a short pause: got %v", res.Err)
	}
}

func TestDebugAsksAfterEveryStep(t *testing.T) {
	w := newWorld(t)
	who := &asker{answers: []string{"", ""}}
	w.Debug, w.Ask = true, who
	if res := w.one(t, baked("web.a", "one", "two")); res.Err != nil {
		t.Fatal(res.Err)
	}
	if len(who.questions) != 2 || !strings.Contains(who.questions[1], "two is done") {
		t.Errorf("asked %q", who.questions)
	}
}

func TestCommits(t *testing.T) {
	tests := map[string]struct {
		kind, layers string
		steps        []string
		want         []string
	}{
		"a layer per step":   {"fake", "step", []string{"a", "b"}, []string{"imgbake step: a", "imgbake step: b"}},
		"squash":             {"fake", "squash", []string{"a", "b"}, []string{"imgbake step: a; step: b"}},
		"dear":               {"dear", "step", []string{"a", "b"}, []string{"imgbake step: a; step: b"}},
		"no step":            {"fake", "step", nil, []string{"imgbake"}},
		"one step, squashed": {"fake", "squash", []string{"a"}, []string{"imgbake step: a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := baked("web.a", test.steps...)
			b.Type, b.Layers = test.kind, test.layers
			if res := w.one(t, b); res.Err != nil {
				t.Fatal(res.Err)
			}
			var got []string
			for _, l := range w.builder.Machines()[0].Layers {
				got = append(got, l.CreatedBy)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The same steps make the same image, however the run goes.
func TestSameStepsSameDigest(t *testing.T) {
	digest := func(parallel int) string {
		w := newWorld(t)
		w.Parallel = parallel
		results := w.run(t.Context(), baked("base.a", "x", "y"), from("base.a", baked("web.a", "z")))
		return results[1].Artifacts[0].Digest.String()
	}
	if one, many := digest(1), digest(0); one != many {
		t.Errorf("got %s and %s", one, many)
	}
}

func TestJobAndEnvironment(t *testing.T) {
	w := newWorld(t)
	w.Dir, w.Vars, w.Force = "/srv/template", []string{"https_proxy=http://proxy"}, true
	epoch := time.Unix(1600000000, 0)
	b := baked("web.main", "x")
	b.Platform, b.Epoch, b.Keep = "linux/arm64/v8", &epoch, []string{"/tmp/keep"}
	b.Steps[0].Common.Env = baketest.Body(map[string]any{"PORT": 8080, "DEBUG": true})
	var env bake.Env
	w.steps["x"] = func(_ context.Context, e bake.Env) error { env = e; return nil }
	if res := w.one(t, b); res.Err != nil {
		t.Fatal(res.Err)
	}
	want := []string{
		"https_proxy=http://proxy", "PACKER_BUILD_NAME=main", "PACKER_BUILDER_TYPE=fake",
		"IMGBAKE_BAKE=web.main", "IMGBAKE_IMAGE=web", "IMGBAKE_BUILDER=main", "DEBUG=true", "PORT=8080",
	}
	if diff := cmp.Diff(want, env.Vars); diff != "" {
		t.Errorf("environment, -want +got:\n%s", diff)
	}
	job := w.builder.Machines()[0].Job
	if job.Platform.String() != "linux/arm64/v8" || job.Dir != "/srv/template" || !job.Force || job.Epoch != &epoch || len(job.Keep) != 1 || job.Notify == nil {
		t.Errorf("job %+v", job)
	}
	if env.HostDir != "/srv/template" || env.Host != nil || env.Ask != nil {
		t.Errorf("env %+v", env)
	}
}

// Commands are told the epoch that the builder stamps files with, in steps and
// in post-processors.
func TestEpochInTheEnvironment(t *testing.T) {
	w := newWorld(t)
	w.made = func(bake.Job) bake.Artifact { return bake.Artifact{Files: []string{"/x"}} }
	var all [][]string
	w.steps["look"] = func(_ context.Context, env bake.Env) error { all = append(all, env.Vars); return nil }
	w.posts["look"] = func(env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
		all = append(all, env.Vars)
		return in, true, nil
	}
	b := baked("web.a", "look")
	b.Type, b.Posts = "made", append(b.Posts, posts("look"))
	if res := w.one(t, b); res.Err != nil || len(all) != 2 {
		t.Fatal(res.Err, all)
	}
	for _, vars := range all {
		if !slices.Contains(vars, "SOURCE_DATE_EPOCH=1600000000") {
			t.Errorf("environment %q", vars)
		}
	}
}

// Expressions that the plan left are evaluated when the step begins: secrets,
// and facts of the bake and of the machine.
func TestLateExpressions(t *testing.T) {
	w := newWorld(t)
	w.Scope = value.Scope{}.With(map[string]value.Entry{
		"var.token": {Value: "canary-t0ken", Known: true, Sensitive: true}, "build": {},
	})
	b := baked("web.a", "")
	b.Facts = map[string]any{"build.name": "a"}
	words := func(names ...string) value.Node {
		list := value.List{}
		for _, name := range names {
			list = append(list, value.Node{V: late(name)})
		}
		return value.Node{V: value.Object{{Key: "do", Node: value.Of(diag.Pos{}, "run")}, {Key: "words", Node: value.Node{V: list}}}}
	}
	b.Steps[0].Body = words("build.ID", "build.name", "var.token")
	b.Steps[0].Common.Env = value.Node{V: value.Object{{Key: "TOKEN", Node: value.Node{V: late("var.token")}}}}
	var seen map[string]string
	w.posts["look"] = func(env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
		seen = env.Facts
		return in, true, nil
	}
	after := posts("")
	after[0].Body = value.Node{V: value.Object{{Key: "do", Node: value.Of(diag.Pos{}, "look")}, {Key: "words", Node: value.Node{V: late("build.ID")}}}}
	b.Posts = append(b.Posts, after)
	if res := w.one(t, b); res.Err != nil {
		t.Fatal(res.Err)
	}
	cmd := w.builder.Recorder.Of(baketest.OpExec)[0].Cmd
	if diff := cmp.Diff([]string{"run", "fake-web.a", "a", "canary-t0ken"}, cmd.Args); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !slices.Contains(cmd.Env, "TOKEN=canary-t0ken") {
		t.Errorf("environment %q", cmd.Env)
	}
	if seen["ID"] != "fake-web.a" {
		t.Errorf("the post-processor sees %v", seen)
	}
}

func TestUnknownLateExpression(t *testing.T) {
	w := newWorld(t)
	b := baked("web.a", "")
	b.Steps[0].Body = value.Node{V: value.Object{{Key: "do", Node: value.Node{V: late("build.Password")}}}}
	if res := w.one(t, b); res.Err == nil || !strings.Contains(res.Err.Error(), "not known at this point of the bake: build.Password") {
		t.Errorf("got %v", res.Err)
	}
	b = baked("web.a", "x")
	b.Steps[0].Common.Env = baketest.Body(map[string]any{"LIST": []string{"a"}})
	if res := w.one(t, b); res.Err == nil || !strings.Contains(res.Err.Error(), "env LIST: expected a string") {
		t.Errorf("got %v", res.Err)
	}
}

func TestTailOfAFailingStep(t *testing.T) {
	w := newWorld(t)
	w.steps["talk"] = func(_ context.Context, env bake.Env) error {
		for i := range 30 {
			fmt.Fprintf(env.Stdout, "line %d\n", i)
		}
		fmt.Fprint(env.Stderr, "sorry, no end of line")
		return &bake.ExitError{Command: "talk", Status: 3}
	}
	res := w.one(t, baked("web.a", "talk"))
	tail := run.Tail(res.Err)
	if len(tail) != 20 || tail[0] != "line 11" || tail[19] != "sorry, no end of line" {
		t.Errorf("tail %q", tail)
	}
	var exit *bake.ExitError
	var failed *run.StepError
	if !errors.As(res.Err, &exit) || exit.Status != 3 || !errors.As(res.Err, &failed) || failed.Pos.Line != 10 || failed.Number != 1 {
		t.Errorf("got %#v", res.Err)
	}
	if got := res.Err.Error(); got != "t.yaml:10:5: provisioner 1 (step): talk: exit status 3" {
		t.Errorf("got %q", got)
	}
	if run.Tail(errBroken) != nil {
		t.Error("an error that is no step's has a tail")
	}
}
