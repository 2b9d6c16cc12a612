package run

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// Explanation tells which steps of a bake a run would take from the cache.
type Explanation struct {
	Bake  string          `json:"bake"`
	Why   string          `json:"why,omitempty"` // why no step can be
	Steps []StepExplained `json:"steps,omitempty"`
}

// StepExplained tells of one step.
type StepExplained struct {
	Title   string   `json:"title"`
	Hit     bool     `json:"hit"`
	Why     string   `json:"why,omitempty"`     // not
	Changed []Change `json:"changed,omitempty"` // since the last bake
}

// Change is an input that is another one than it was; what is empty was not,
// or is no more, there.
type Change struct {
	Input  string `json:"input"`
	Before string `json:"before,omitempty"`
	Now    string `json:"now,omitempty"`
}

// Last tells what the steps of a bake depended on when it last succeeded.
type Last func(b plan.Bake) []Inputs

// Explain tells what a run of the plan would take from the cache. It starts no
// machine.
func Explain(ctx context.Context, p plan.Plan, o Options, last Last) []Explanation {
	r := &runner{Options: o, cancel: func(error) {}}
	byName := map[string]*pending{}
	for _, image := range p.Images {
		for _, b := range image.Bakes {
			one := &pending{Result: Result{Bake: b}, done: make(chan struct{})}
			r.bakes = append(r.bakes, one)
			byName[b.Name] = one
		}
	}
	told := map[string]Explanation{}
	for _, one := range inOrder(r.bakes, byName) {
		told[one.Bake.Name] = r.explain(ctx, one, byName, last)
		close(one.done)
	}
	out := make([]Explanation, len(r.bakes))
	for i, one := range r.bakes {
		out[i] = told[one.Bake.Name]
	}
	return out
}

func (r *runner) explain(ctx context.Context, p *pending, byName map[string]*pending, last Last) Explanation {
	b := p.Bake
	e := Explanation{Bake: b.Name}
	var from *bake.Artifact
	for _, name := range b.Prerequisites() {
		needed := byName[name]
		if needed == nil {
			continue
		}
		made := stage(needed.Artifacts)
		switch {
		case made == nil && name == b.From:
			e.Why = "its base, " + name + ", will be baked anew"
			return e
		case made == nil:
			e.Why = "it reads files of " + name + ", which will be baked anew"
			return e
		case name == b.From:
			from = made
		}
	}
	cache, image, err := r.lookUp(ctx, &p.Result, from)
	switch {
	case err != nil:
		e.Why = r.errorText(err)
		return e
	case cache == nil:
		e.Why = "what the " + b.Type + " builder does is not cached"
		return e
	}
	done := len(cache.done)
	if done > 0 && !r.each(b) {
		done = len(b.Steps)
	}
	e.Steps = r.explainSteps(b, cache, done, last(b))
	if done == len(b.Steps) {
		if made, err := image(); err == nil && made.Image != nil {
			p.Artifacts = []bake.Artifact{named(made, b.From)}
		}
	}
	return e
}

// lookUp is start, but for the machine. The image is that of all steps, once
// they are all found.
func (r *runner) lookUp(ctx context.Context, res *Result, from *bake.Artifact) (*stepCache, func() (bake.Artifact, error), error) {
	b := res.Bake
	job, err := r.job(b, from)
	if err != nil {
		return nil, nil, err
	}
	builder, err := newComponent(r.Catalog.Builders, "builder", b.Type, b.Body, r.scope(b, nil), b.Pos)
	if err != nil {
		return nil, nil, err
	}
	resumer, ok := builder.(bake.Resumer)
	if !ok {
		return nil, nil, nil
	}
	source, err := resumer.Source(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	cache, err := r.cached(ctx, res, source)
	if err == nil && cache != nil {
		err = cache.all() // what changed is told of all steps
	}
	return cache, func() (bake.Artifact, error) { return resumer.Image(ctx, job, cache.checkpoints()) }, err
}

func (r *runner) explainSteps(b plan.Bake, cache *stepCache, done int, last []Inputs) []StepExplained {
	steps := make([]StepExplained, len(b.Steps))
	for i, s := range b.Steps {
		step := StepExplained{Title: s.Title, Hit: i < done}
		if !step.Hit && i < len(cache.keys) && i < len(last) {
			step.Changed = changes(last[i], cache.keys[i].Of)
		}
		switch {
		case step.Hit || len(step.Changed) > 0:
		case !s.Cache:
			step.Why = "it is run every time"
		case i > done:
			step.Why = fmt.Sprintf("step %d is run", done+1)
		case last == nil:
			step.Why = "no earlier bake is known here"
		case i >= len(last):
			step.Why = "it is new"
		case !r.each(b):
			step.Why = "the steps are one layer, and another step changed"
		default:
			step.Why = "what it made is not in the cache any more"
		}
		steps[i] = step
	}
	return steps
}

// changes are the inputs that differ, sorted. Of a configuration they are the
// keys that do.
func changes(before, now Inputs) (list []Change) {
	before, now = before.flat(), now.flat()
	names := maps.Clone(before)
	maps.Copy(names, now)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if before[name] != now[name] {
			list = append(list, Change{Input: name, Before: before[name], Now: now[name]})
		}
	}
	return list
}

// flat has an input for each key of those that are JSON objects.
func (of Inputs) flat() Inputs {
	out := Inputs{}
	for name, text := range of {
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &object) != nil || object == nil {
			out[name] = text
			continue
		}
		for key, part := range object {
			out[name+"."+key] = string(part)
		}
	}
	return out
}
