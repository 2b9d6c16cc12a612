package run

import (
	"context"
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

// send sends the layer of the last step, unless that was given secrets: what is in
// it is nobody's before the bake has succeeded.
func (s *sender) send(made bake.Artifact) {
	if s.layers == nil || len(made.Steps) == 0 {
		return
	}
	if last := made.Steps[len(made.Steps)-1]; last.Layer != nil && !last.Secret {
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
