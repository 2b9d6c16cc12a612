package run

import (
	"context"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// sender sends the layers of steps that are done to where a bake is to be
// published, while the next steps run. Nothing names them there before all of the
// bake has succeeded. It is of no account whether that works: publishing sends
// what is missing, and tells why it cannot.
type sender struct {
	steps  int           // how many, from the first on, may be sent
	layers chan v1.Layer // nil: nothing is sent
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// sender of a bake. A person who looks at each step decides first.
func (r *runner) sender(ctx context.Context, b plan.Bake) *sender {
	to, can := r.Publisher.(bake.Sender)
	refs, err := references(b.Publish, v1.Hash{})
	if !can || err != nil || len(refs) == 0 || r.Ask != nil && (r.Debug || r.OnError == OnErrorAsk) {
		return &sender{cancel: func() {}}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &sender{steps: r.open(b), layers: make(chan v1.Layer, len(b.Steps)), cancel: cancel}
	s.done.Go(func() {
		for l := range s.layers {
			if to.Send(ctx, []v1.Layer{l}, refs) != nil {
				return
			}
		}
	})
	return s
}

// open is how many of a bake's first steps, and all that they build on or read, were
// given no secrets. What the others make is nobody's before the bake has succeeded:
// a later step may look for what should not be there.
func (r *runner) open(b plan.Bake) int {
	byName := map[string]*pending{}
	for _, p := range r.bakes {
		byName[p.Bake.Name] = p
	}
	var stages []*pending
	for _, name := range b.Prerequisites() {
		stages = append(stages, byName[name])
	}
	for _, p := range inOrder(stages, byName) {
		if slices.ContainsFunc(p.Bake.Steps, r.given) {
			return 0
		}
	}
	if given := slices.IndexFunc(b.Steps, r.given); given >= 0 {
		return given
	}
	return len(b.Steps)
}

// send sends the layer of a step, which is the last one that was done.
func (s *sender) send(step int, made bake.Artifact) {
	if s.layers == nil || step >= s.steps || len(made.Steps) == 0 {
		return
	}
	if last := made.Steps[len(made.Steps)-1]; last.Layer != nil {
		s.layers <- last.Layer
	}
}

// stop ends sending.
func (s *sender) stop() {
	s.cancel()
	if s.layers != nil {
		close(s.layers)
		s.done.Wait()
	}
}
