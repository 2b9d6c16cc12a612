package cli

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/sink"
)

// groups shows a run in a workflow's log, each bake in a group of its own. The
// runner's groups do not nest or mix, so one bake is shown as it goes, and what
// the others have to say waits until its turn comes.
type groups struct {
	mu    sync.Mutex
	log   *actions.Log
	fence *actions.Fence
	run   *sink.Plain // what belongs to no bake; it is told all, for the sum at the end
	said  bytes.Buffer
	parts map[string]*part
	order []string // of the bakes that are not shown to their end yet; the first one is on
}

// part is what one bake has said and nobody has seen.
type part struct {
	bytes.Buffer
	sink  *sink.Plain
	ended bool
}

func newGroups(log *actions.Log) *groups {
	g := &groups{log: log, fence: log.Fence(), parts: map[string]*part{}}
	g.run = sink.NewPlain(&g.said, sink.PlainOptions{})
	return g
}

// Emit implements bake.Sink.
func (g *groups) Emit(e bake.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Type != bake.Output {
		e.Text, e.Error = advise(e.Text), advise(e.Error)
	}
	g.said.Reset()
	if g.run.Emit(e); e.Bake == "" {
		_, _ = io.Copy(g.fence, &g.said)
		return
	}
	p := g.parts[e.Bake]
	if p == nil {
		p = &part{}
		p.sink = sink.NewPlain(&p.Buffer, sink.PlainOptions{})
		g.parts[e.Bake] = p
	}
	if !slices.Contains(g.order, e.Bake) {
		g.order = append(g.order, e.Bake)
		if len(g.order) == 1 {
			_ = g.log.Group(e.Bake)
		}
	}
	p.sink.Emit(e)
	p.ended = e.Type == bake.BakeFinished || e.Type == bake.BakeSkipped
	g.flush()
}

// flush shows what may be shown: what the bake that is on has said, and, when
// that has ended, the next one.
func (g *groups) flush() {
	for len(g.order) > 0 {
		p := g.parts[g.order[0]]
		_, _ = io.Copy(g.fence, &p.Buffer)
		if !p.ended {
			return
		}
		p.ended = false
		_ = g.log.EndGroup()
		if g.order = g.order[1:]; len(g.order) > 0 {
			_ = g.log.Group(g.order[0])
		}
	}
}

// close shows the rest.
func (g *groups) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range g.order {
		g.parts[name].ended = true
	}
	g.flush()
	_ = g.fence.Close()
}
