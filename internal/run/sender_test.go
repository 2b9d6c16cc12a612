package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/value"
)

// early is a publisher that takes layers before.
type early struct {
	*baketest.Publisher
	err  error
	took chan string // the repositories of each call
	mu   sync.Mutex
	sent []string // digests
}

func (e *early) Send(ctx context.Context, layers []v1.Layer, refs []bake.Ref) error {
	var names []string
	for _, ref := range refs {
		names = append(names, ref.Context().Name())
	}
	digest, err := layers[0].Digest()
	e.mu.Lock()
	e.sent = append(e.sent, digest.String())
	e.mu.Unlock()
	select {
	case e.took <- strings.Join(names, " "):
	case <-ctx.Done():
	}
	return errors.Join(err, e.err, ctx.Err())
}

func (e *early) digests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sent)
}

func sendingWorld(t *testing.T) (*world, *early, plan.Bake) {
	w := cacheWorld(t)
	e := &early{Publisher: w.publisher, took: make(chan string, 10)}
	w.Publisher = e
	b := cached(baked("web.a", "one", "two", "three"))
	for i := range b.Steps {
		b.Steps[i].Common.Env = value.Node{}
	}
	b.Publish = []plan.Target{{Repository: "ghcr.io/acme/web", Tags: []string{"1"}}, {Repository: "localhost:5000/web"}}
	return w, e, b
}

// What a step made is on its way while the next one runs, and is published only
// after the last one.
func TestLayersAreSentEarly(t *testing.T) {
	w, e, b := sendingWorld(t)
	w.steps["three"] = func(ctx context.Context, env bake.Env) error {
		for range 2 { // or the test ends by its time
			if to := <-e.took; to != "ghcr.io/acme/web localhost:5000/web" {
				t.Errorf("sent to %s", to)
			}
		}
		if len(w.publisher.Pushes()) > 0 {
			t.Error("published before the bake was done")
		}
		_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: []string{"three"}})
		return err
	}
	res := w.one(t, b)
	if res.Err != nil || len(w.publisher.Pushes()) != 1 {
		t.Fatalf("%v, published %d times", res.Err, len(w.publisher.Pushes()))
	}
	var want []string
	for _, step := range res.Artifacts[0].Steps[:2] {
		digest, err := step.Layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, digest.String())
	}
	if got := e.digests(); !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// What was given secrets is not sent before all has succeeded, nor anything for
// nobody, or while a person decides at each step.
func TestNotSentEarly(t *testing.T) {
	for name, change := range map[string]func(w *world, b *plan.Bake){
		"secrets": func(w *world, b *plan.Bake) {
			secret := value.Known("hush")
			secret.Sensitive = true
			w.Scope = value.Scope{}.With(map[string]value.Entry{"var.token": secret})
			b.Steps[0].Common.Env = secretEnv(10) // the others may copy what it made
		},
		"not published": func(_ *world, b *plan.Bake) { b.Publish = nil },
		"dry run":       func(w *world, _ *plan.Bake) { w.Publisher = w.publisher },
		"a person":      func(w *world, _ *plan.Bake) { w.Ask, w.OnError = &asker{}, run.OnErrorAsk },
		"one layer":     func(_ *world, b *plan.Bake) { b.Layers = "squash" },
	} {
		t.Run(name, func(t *testing.T) {
			w, e, b := sendingWorld(t)
			change(w, &b)
			if res := w.one(t, b); res.Err != nil {
				t.Fatal(res.Err)
			}
			if got := e.digests(); len(got) > 0 {
				t.Errorf("sent %q", got)
			}
		})
	}
}

// A bake that fails ends what is being sent; one that cannot send still publishes.
func TestSendingEnds(t *testing.T) {
	w, e, b := sendingWorld(t)
	e.took = make(chan string) // nobody takes it
	w.steps["two"] = func(context.Context, bake.Env) error { return errors.New("broken") }
	if res := w.one(t, b); res.Err == nil || len(w.publisher.Pushes()) > 0 {
		t.Errorf("%v, published %d times", res.Err, len(w.publisher.Pushes()))
	}
	w, e, b = sendingWorld(t)
	e.err = errors.New("denied")
	if res := w.one(t, b); res.Err != nil || len(w.publisher.Pushes()) != 1 || len(e.digests()) > 1 {
		t.Errorf("%v, published %d times, tried %q", res.Err, len(w.publisher.Pushes()), e.digests())
	}
}

// So it is with what is built on a stage that was given secrets, or reads it.
func TestNotSentOnSecretStage(t *testing.T) {
	for name, change := range map[string]func(b *plan.Bake){
		"from":  func(b *plan.Bake) { b.From = "base.a" },
		"reads": func(b *plan.Bake) { b.After = []string{"base.a"} },
	} {
		w, e, b := sendingWorld(t)
		secret := value.Known("hush")
		secret.Sensitive = true
		w.Scope = value.Scope{}.With(map[string]value.Entry{"var.token": secret})
		change(&b)
		base := cached(baked("base.a", "zero")) // its environment reads the token
		for _, res := range w.run(t.Context(), base, b) {
			if res.Err != nil || res.Skipped != "" {
				t.Fatalf("%s: %v %s", name, res.Err, res.Skipped)
			}
		}
		if got := e.digests(); len(got) > 0 {
			t.Errorf("%s: sent %q", name, got)
		}
	}
}
