// Package run carries a plan out: independent bakes in parallel, staged ones
// in order, each start to finish in one function, (runner).one.
package run

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

// OnError says what happens to a machine whose provisioning failed.
type OnError string

// What -on-error takes.
const (
	OnErrorCleanup            OnError = "cleanup"
	OnErrorAbort              OnError = "abort"
	OnErrorAsk                OnError = "ask"
	OnErrorCleanupProvisioner OnError = "run-cleanup-provisioner"
)

// Options is what a run needs besides its plan.
type Options struct {
	RunID     string
	Catalog   bake.Catalog
	Scope     value.Scope // every value, secrets included, for late expressions
	Redactor  *secret.Redactor
	Sink      bake.Sink
	Publisher bake.Publisher
	Loader    bake.Loader // nil: images are not loaded into an engine
	Images    bake.ImageReader
	Cache     Cache         // nil: every step is run
	Host      bake.Executor // nil: nothing runs on the host
	Ask       bake.Asker    // nil: nobody answers
	Files     fs.FS         // the template's folder, fenced
	Dir       string        // the template's folder, absolute
	OutDir    string        // the folder imgbake was started in
	Vars      []string      // K=V for every command: proxies
	Agent     string        // the socket of an SSH agent, for steps that ask for it; may be empty
	Now       func() time.Time
	Parallel  int // bakes at once; 0: no limit
	OnError   OnError
	FailFast  bool
	Debug     bool
	Force     bool

	NoCache     bool   // every step is run, and kept
	NoCacheFrom string // so are those from this one on: a title, or a number from 1
}

// Result is what became of one bake.
type Result struct {
	Bake      plan.Bake
	Artifacts []bake.Artifact
	Published []bake.Ref // by digest
	Tags      []string   // that were moved
	Steps     []StepResult
	Err       error
	Skipped   string // why it was not started; Err is nil then
	Detached  []string
	Started   time.Time
	Seconds   float64

	abort bool // a person chose to leave the machine as it is
	anew  bool // nothing of the cache is used
	files bool // the builder was told that no command will be run
	whole bool // it is not to be told that
	cache *stepCache
}

// StepResult is what became of one step.
type StepResult struct {
	Title    string
	Seconds  float64
	Attempts int
	Cached   bool // an earlier bake had done it
	Err      error
}

// ErrFailFast is the cause of the cancellation of bakes that --fail-fast ends.
var ErrFailFast = errors.New("another bake failed (--fail-fast)")

// Run carries out every bake of the plan and returns one result each, in the
// plan's order, and behind an image's bakes one for each index of them. It returns when everything it started has ended.
func Run(ctx context.Context, p plan.Plan, o Options) []Result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &runner{Options: o, cancel: cancel}
	started := o.Now()

	bakes, byName := pend(p)
	r.bakes = bakes
	o.Sink.Emit(bake.Event{Time: started, Type: bake.RunStarted, Text: p.Template, Data: map[string]string{"bakes": strings.Join(names(bakes), ",")}})
	slots := newSlots(o.Parallel, len(bakes))
	for _, one := range inOrder(bakes, byName) {
		start := func() {
			defer close(one.done)
			r.await(ctx, one, byName, slots)
		}
		if o.Parallel == 1 {
			start() // one after the other, as the plan has them
		} else {
			go start()
		}
	}
	results := make([]Result, len(bakes))
	for i, one := range bakes {
		<-one.done
		results[i] = one.Result
	}
	o.Sink.Emit(bake.Event{Time: o.Now(), Type: bake.RunFinished, Seconds: o.Now().Sub(started).Seconds()})
	return results
}

func names(bakes []*pending) []string {
	out := make([]string, len(bakes))
	for i, p := range bakes {
		out[i] = p.Bake.Name
	}
	return out
}

// pending is a bake that others may wait for. Result is complete once done is closed.
type pending struct {
	Result
	done    chan struct{}
	members []*pending // of an index
}

// lacking says why the bake has no image, so that a skipped descendant names
// the bake that failed first.
func (p *pending) lacking() string {
	switch {
	case p.Err != nil:
		return p.Bake.Name + " failed"
	case p.Skipped != "":
		return p.Skipped
	}
	return p.Bake.Name + " made no image"
}

// inOrder puts every bake behind those it needs, else as they are.
func inOrder(bakes []*pending, byName map[string]*pending) []*pending {
	var out []*pending
	seen := map[*pending]bool{}
	var visit func(*pending)
	visit = func(p *pending) {
		if p == nil || seen[p] {
			return
		}
		seen[p] = true
		for _, name := range p.Bake.Prerequisites() {
			visit(byName[name])
		}
		out = append(out, p)
	}
	for _, p := range bakes {
		visit(p)
	}
	return out
}

// newSlots is a counting semaphore; n 0 has room for all.
func newSlots(n, all int) chan struct{} {
	if n <= 0 {
		n = max(all, 1)
	}
	return make(chan struct{}, n)
}

// await waits for the bakes this one needs and for a slot, then bakes. A bake
// always ends, since it gives up when the context does, so waiting for one
// needs no context.
func (r *runner) await(ctx context.Context, p *pending, byName map[string]*pending, slots chan struct{}) {
	var from *bake.Artifact
	for _, name := range p.Bake.Prerequisites() {
		needed := byName[name]
		if needed == nil {
			continue
		}
		<-needed.done
		made := stage(needed.Artifacts)
		if made == nil && (p.members == nil || needed.Err != nil || needed.Skipped != "") {
			r.skip(&p.Result, needed.lacking())
			return
		}
		if name == p.Bake.From {
			from = made
		}
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
	}
	if err := context.Cause(ctx); err != nil {
		r.skip(&p.Result, reason(err))
		return
	}
	p.Started = r.Now()
	r.emit(p.Bake.Name, bake.Event{Type: bake.BakeStarted, Steps: len(p.Bake.Steps)})
	if p.members != nil {
		r.index(ctx, p)
	} else {
		r.one(ctx, &p.Result, from)
	}
	if p.Err != nil && r.FailFast {
		r.cancel(ErrFailFast) // before the slot is free for another bake
	}
	p.Seconds = r.Now().Sub(p.Started).Seconds()
	if p.Skipped == "" { // else that was its end
		r.emit(p.Bake.Name, bake.Event{Type: bake.BakeFinished, Seconds: p.Seconds, Error: r.errorText(p.Err)})
	}
}

func (r *runner) skip(res *Result, why string) {
	res.Skipped = why
	r.emit(res.Bake.Name, bake.Event{Type: bake.BakeSkipped, Text: why})
}

func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// stage is the image a child bake starts from: the last one made. A bake that
// failed after its image was made has none, since its result is not complete.
func stage(artifacts []bake.Artifact) *bake.Artifact {
	for i := len(artifacts) - 1; i >= 0; i-- {
		if artifacts[i].Image != nil {
			return &artifacts[i]
		}
	}
	return nil
}
