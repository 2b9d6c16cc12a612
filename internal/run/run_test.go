package run_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/run"
)

func TestOneBakeTellsItsStory(t *testing.T) {
	w := newWorld(t)
	res := w.one(t, baked("web.main", "install", "configure"))
	if res.Err != nil || res.Skipped != "" || len(res.Artifacts) != 1 || len(res.Steps) != 2 {
		t.Fatalf("got %+v", res)
	}
	want := []string{
		"run-started t.yaml",
		"bake-started web.main",
		"step-started web.main install",
		"step-finished web.main install",
		"step-started web.main configure",
		"step-finished web.main configure",
		"artifact web.main",
		"bake-finished web.main",
		"run-finished",
	}
	if diff := cmp.Diff(want, w.sink.story()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	events := w.sink.Events()
	if events[0].Data["bakes"] != "web.main" {
		t.Errorf("run-started has %v", events[0].Data)
	}
	for _, e := range events {
		if e.Time.IsZero() {
			t.Errorf("%s has no time", e.Type)
		}
	}
	if s := events[3]; s.Step != 1 || s.Steps != 2 {
		t.Errorf("step-finished counts %d of %d", s.Step, s.Steps)
	}
}

func TestStagedBakesRunInOrder(t *testing.T) {
	w := newWorld(t)
	results := w.run(t.Context(),
		from("mid.a", baked("web.a", "three")), from("base.a", baked("mid.a", "two")), baked("base.a", "one"))
	var order []string
	for _, m := range w.builder.Machines() {
		order = append(order, m.Job.Name)
	}
	if diff := cmp.Diff([]string{"base.a", "mid.a", "web.a"}, order); diff != "" {
		t.Errorf("started, -want +got:\n%s", diff)
	}
	for i, name := range []string{"web.a", "mid.a", "base.a"} { // the plan's order
		if results[i].Bake.Name != name || results[i].Err != nil {
			t.Errorf("result %d is %s, %v", i, results[i].Bake.Name, results[i].Err)
		}
	}
	machines := w.builder.Machines()
	for i, parent := range []run.Result{results[2], results[1]} {
		if got := machines[i+1].Job.From; got == nil || got.Digest != parent.Artifacts[0].Digest {
			t.Errorf("%s starts from %v", machines[i+1].Job.Name, got)
		}
	}
	if layers := results[0].Artifacts[0].Summary().Layers; len(layers) != 3 {
		t.Errorf("the last image has layers %v", layers)
	}
}

// With room for two, bakes meet in pairs, and never three at once.
func TestParallelLimit(t *testing.T) {
	w := newWorld(t)
	var now, most atomic.Int32
	meet := make(chan struct{})
	w.steps["meet"] = func(context.Context, bake.Env) error {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		select {
		case meet <- struct{}{}:
		case <-meet:
		}
		now.Add(-1)
		return nil
	}
	w.Parallel = 2
	for _, res := range w.run(t.Context(), baked("a.x", "meet"), baked("b.x", "meet"), baked("c.x", "meet"), baked("d.x", "meet")) {
		if res.Err != nil {
			t.Error(res.Err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d at once, want 2", most.Load())
	}
}

func TestOneAtATimeIsInOrder(t *testing.T) {
	w := newWorld(t)
	w.Parallel = 1
	copies := baked("early.a")
	copies.After = []string{"late.a"}
	w.run(t.Context(), baked("one.a"), copies, baked("two.a"), baked("late.a"))
	var order []string
	for _, m := range w.builder.Machines() {
		order = append(order, m.Job.Name)
	}
	if diff := cmp.Diff([]string{"one.a", "late.a", "early.a", "two.a"}, order); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNoLimit(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	all.Add(4)
	w.steps["wait for all"] = func(context.Context, bake.Env) error { all.Done(); all.Wait(); return nil }
	w.run(t.Context(), baked("a.x", "wait for all"), baked("b.x", "wait for all"), baked("c.x", "wait for all"), baked("d.x", "wait for all"))
}

func TestDescendantsOfAFailedBakeAreSkipped(t *testing.T) {
	w := newWorld(t)
	w.steps["break"] = func(context.Context, bake.Env) error { return errors.New("broken") }
	results := w.run(t.Context(), baked("base.a", "break"), from("base.a", baked("mid.a")), from("mid.a", baked("web.a")), baked("other.a"))
	var got []string
	for _, res := range results {
		switch {
		case res.Err != nil:
			got = append(got, "error: "+res.Err.Error())
		default:
			got = append(got, res.Skipped)
		}
	}
	want := []string{"error: t.yaml:10:5: provisioner 1 (step): broken", "base.a failed", "base.a failed", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if skipped := w.sink.Texts(bake.BakeSkipped); len(skipped) != 2 {
		t.Errorf("skipped: %q", skipped)
	}
}

// A bake whose post-processor failed has not made what its children need.
func TestChildOfABakeWithAFailedPost(t *testing.T) {
	w := newWorld(t)
	w.posts["break"] = func(bake.PostEnv, []bake.Artifact) ([]bake.Artifact, bool, error) {
		return nil, false, errors.New("broken")
	}
	base := baked("base.a", "x")
	base.Posts = append(base.Posts, posts("break"))
	results := w.run(t.Context(), base, from("base.a", baked("web.a")))
	if err := results[0].Err; err == nil || err.Error() != "post-processor 1.1 (post): broken" {
		t.Errorf("got %v", err)
	}
	if results[1].Skipped != "base.a failed" {
		t.Errorf("skipped: %q", results[1].Skipped)
	}
}

func TestChildOfABakeWithoutAnImage(t *testing.T) {
	w := newWorld(t)
	w.made = func(bake.Job) bake.Artifact { return bake.Artifact{Builder: "made"} }
	base := baked("base.a")
	base.Type = "made"
	if results := w.run(t.Context(), base, from("base.a", baked("web.a"))); results[1].Skipped != "base.a made no image" {
		t.Errorf("got %+v", results[1])
	}
}

// With --fail-fast the first failure ends the bakes that run and those that wait.
func TestFailFast(t *testing.T) {
	w := newWorld(t)
	w.FailFast, w.Parallel = true, 2
	running := make(chan struct{})
	w.steps["break"] = func(context.Context, bake.Env) error { <-running; return errors.New("broken") }
	w.steps["endless"] = func(ctx context.Context, _ bake.Env) error { close(running); <-ctx.Done(); return ctx.Err() }
	// The two that start first are those that nothing holds back: the third
	// one waits for a bake, so it cannot take a slot before.
	waiting := baked("c.x", "never")
	waiting.After = []string{"b.x"}
	w.steps["never"] = func(context.Context, bake.Env) error { t.Error("c.x was started"); return nil }
	results := w.run(t.Context(), baked("a.x", "break"), baked("b.x", "endless"), waiting)
	if err := results[0].Err; err == nil || errors.Is(err, run.ErrFailFast) {
		t.Errorf("a: %v", err)
	}
	if err := results[1].Err; !errors.Is(err, run.ErrFailFast) || !errors.Is(err, context.Canceled) {
		t.Errorf("b: %v", err)
	}
	if results[2].Err != nil || results[2].Skipped == "" {
		t.Errorf("c: %+v", results[2])
	}
}

func TestFailFastSkipsThoseThatWaitForASlot(t *testing.T) {
	w := newWorld(t)
	w.FailFast, w.Parallel = true, 1
	w.steps["break"] = func(context.Context, bake.Env) error { return errors.New("broken") }
	failed, skipped := 0, 0
	for _, res := range w.run(t.Context(), baked("a.x", "break"), baked("b.x", "break"), baked("c.x", "break")) {
		if res.Err != nil {
			failed++
		}
		if strings.Contains(res.Skipped, "--fail-fast") {
			skipped++
		}
	}
	if failed != 1 || skipped != 2 {
		t.Errorf("%d failed and %d were skipped, want 1 and 2", failed, skipped)
	}
}

func TestCancelMidStepClosesTheMachine(t *testing.T) {
	for name, onError := range map[string]run.OnError{"cleanup": run.OnErrorCleanup, "abort": run.OnErrorAbort} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.OnError = onError
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.steps["endless"] = func(ctx context.Context, _ bake.Env) error { cancel(); <-ctx.Done(); return ctx.Err() }
			b := baked("web.a", "endless", "next")
			b.Cleanup = &baked("x", "tidy").Steps[0]
			w.steps["tidy"] = func(context.Context, bake.Env) error { t.Error("the cleanup provisioner ran"); return nil }
			results := w.run(ctx, b, from("web.a", baked("child.a")))
			if !errors.Is(results[0].Err, context.Canceled) || len(results[0].Steps) != 1 {
				t.Errorf("got %v after %d steps", results[0].Err, len(results[0].Steps))
			}
			if m := w.builder.Machines()[0]; m.Closed != 1 || m.Detached {
				t.Errorf("closed %d times, detached %t", m.Closed, m.Detached)
			}
			if results[1].Skipped == "" {
				t.Error("the child was not skipped")
			}
		})
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res := w.run(ctx, baked("web.a"))[0]; res.Skipped != "interrupted" || res.Err != nil {
		t.Errorf("got %+v", res)
	}
}

func TestBuilderFails(t *testing.T) {
	broken := errors.New("broken")
	for want, change := range map[string]func(*world){
		"fake builder: broken": func(w *world) { w.builder.StartError = broken },
		"commit: broken":       func(w *world) { w.builder.CommitError = broken },
	} {
		w := newWorld(t)
		change(w)
		if res := w.one(t, baked("web.a", "x")); !errors.Is(res.Err, broken) || res.Err.Error() != want {
			t.Errorf("got %v, want %s", res.Err, want)
		}
	}
	w := newWorld(t)
	b := baked("web.a")
	b.Type = "fade"
	if res := w.one(t, b); res.Err == nil || !strings.Contains(res.Err.Error(), `did you mean "fake"?`) {
		t.Errorf("unknown type: got %v", res.Err)
	}
}

// What could not be removed is told and does not fail the bake.
func TestCloseFails(t *testing.T) {
	w := newWorld(t)
	w.builder.CloseError = errors.New("volume in use")
	if res := w.one(t, baked("web.a", "x")); res.Err != nil || len(res.Artifacts) != 1 {
		t.Errorf("got %+v", res)
	}
	if !strings.Contains(strings.Join(w.sink.story(), "\n"), "cleanup-problem web.a volume in use") {
		t.Errorf("story: %q", w.sink.story())
	}
}
