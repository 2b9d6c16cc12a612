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
	s := &sender{layers: make(chan v1.Layer, len(b.Steps)), cancel: cancel}
	s.done.Go(func() {
		for l := range s.layers {
			if to.Send(ctx, []v1.Layer{l}, refs) != nil {
				return
			}
		}
	})
	return s
}

// send sends the layer of the last step.
func (s *sender) send(made bake.Artifact) {
	if s.layers == nil || len(made.Steps) == 0 {
		return
	}
	if last := made.Steps[len(made.Steps)-1]; last.Layer != nil {
		s.layers <- last.Layer
	}
}

// mayHold reports whether the first of a bake's steps, or a stage that they build
// on or read, were given secrets. What they made is nobody's before the bake has
// succeeded: a later step may look for what should not be there.
func (r *runner) mayHold(b plan.Bake, steps int) bool {
	if slices.ContainsFunc(b.Steps[:steps], r.given) {
		return true
	}
	return slices.ContainsFunc(r.bakes, func(p *pending) bool {
		stage := p.Bake
		return (stage.Name == b.From || slices.Contains(b.After, stage.Name)) && r.mayHold(stage, len(stage.Steps))
	})
}

// stop ends sending.
func (s *sender) stop() {
	s.cancel()
	if s.layers != nil {
		close(s.layers)
		s.done.Wait()
	}
}
