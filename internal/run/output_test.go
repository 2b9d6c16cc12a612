package run_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/run"
)

func TestOutputBecomesLines(t *testing.T) {
	w := newWorld(t)
	w.steps["talk"] = func(_ context.Context, env bake.Env) error {
		fmt.Fprint(env.Stdout, "one\r\ntw")
		fmt.Fprint(env.Stderr, "aside\n")
		fmt.Fprint(env.Stdout, "o\n\nthree")
		env.Note("a note of %d words", 5)
		env.Warn("careful")
		return nil
	}
	if res := w.one(t, baked("web.a", "talk")); res.Err != nil {
		t.Fatal(res.Err)
	}
	var got []string
	for _, e := range w.sink.Events() {
		if e.Type == bake.Output || e.Type == bake.Note || e.Type == bake.Warned {
			got = append(got, fmt.Sprintf("%s %s %d %s %s", e.Type, e.Bake, e.Step, e.Stream, e.Text))
		}
	}
	want := []string{
		"output web.a 1 stdout one", "output web.a 1 stderr aside", "output web.a 1 stdout two", "output web.a 1 stdout ",
		"note web.a 1  a note of 5 words", "warning web.a 1  careful", "output web.a 1 stdout three",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEndlessLineIsCut(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 100<<10)
	w.steps["talk"] = func(_ context.Context, env bake.Env) error { fmt.Fprint(env.Stdout, long); return nil }
	w.one(t, baked("web.a", "talk"))
	lines := w.sink.Texts(bake.Output)
	if len(lines) < 2 || strings.Join(lines, "") != long {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if len(line) > 32<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// No event, no tail and no error that is shown has the secret, by whatever way
// it came: output split over writes, notes, titles, errors, questions.
func TestSecretsAreRedacted(t *testing.T) {
	const canary = "canary-7f3a9c"
	w := newWorld(t)
	if err := w.Redactor.Add(canary); err != nil {
		t.Fatal(err)
	}
	who := &asker{answers: []string{"abort"}}
	w.OnError, w.Ask = run.OnErrorAsk, who
	w.steps["leak"] = func(_ context.Context, env bake.Env) error {
		for _, c := range "a " + canary + " z\n" {
			fmt.Fprint(env.Stdout, string(c))
			fmt.Fprint(env.Stderr, string(c))
		}
		fmt.Fprint(env.Stdout, canary) // no line end: it comes with the flush
		env.Note("note %s", canary)
		env.Warn("warn %s", canary)
		env.Job.Notify("notify " + canary)
		return errors.New("error " + canary)
	}
	b := baked("web.a", "leak")
	b.Steps[0].Title, b.Steps[0].Common.MaxRetries = "title "+canary, 1
	w.posts["leak"] = func(env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
		fmt.Fprintln(env.Stdout, canary)
		return nil, false, errors.New(canary)
	}
	c := baked("other.a", "x")
	c.Posts = append(c.Posts, posts("leak"))
	w.builder.CloseError = errors.New("close " + canary)

	results := w.run(t.Context(), b, c)
	shown := w.sink.json(t) + strings.Join(run.Tail(results[0].Err), "\n") + strings.Join(who.questions, "\n")
	if strings.Contains(shown, canary) {
		t.Errorf("the secret is shown:\n%s", shown)
	}
	for _, want := range []string{`"a *** z"`, `"note ***"`, `"warn ***"`, `"notify ***"`, `"title ***"`, `provisioner 1 (step): error ***`, `"close ***"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not shown in\n%s", want, shown)
		}
	}
}
