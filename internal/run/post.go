package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// posts runs every sequence of post-processors, each from the builder's own
// artifact, and returns what is to be kept: the builder's artifact unless every
// sequence gave it up, what was kept on the way, and what each sequence ends
// with. One image under several names is one artifact. A sequence that fails
// ends there, and the others run all the same. Files that were given up are
// removed once everything has succeeded.
func (r *runner) posts(ctx context.Context, to bake.Publisher, b plan.Bake, job bake.Job, made bake.Artifact) ([]bake.Artifact, error) {
	keepMade := len(b.Posts) == 0
	var kept, given []bake.Artifact
	var failed []error
	for n, sequence := range b.Posts {
		current := []bake.Artifact{made}
		for i, p := range sequence {
			out, keep, err := r.post(ctx, to, b, job, p, made.Facts, current)
			var lacks *withheldError
			if errors.As(err, &lacks) {
				r.emit(b.Name, bake.Event{Type: bake.Warned, Text: lacks.Error()})
				break
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("%spost-processor %d.%d (%s): %w", place(p.Pos), n+1, i+1, p.Type, err))
				break
			}
			switch {
			case i == 0:
				keepMade = keepMade || keep
			case keep:
				kept = append(kept, current...)
			default:
				given = append(given, current...)
			}
			current = out
		}
		if len(failed) > 0 && ctx.Err() != nil { // interrupted
			break
		}
		kept = append(kept, current...)
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	if keepMade {
		kept = append([]bake.Artifact{made}, kept...)
	} else {
		given = append(given, made)
	}
	remove(given, kept)
	return merge(kept), nil
}

func (r *runner) post(ctx context.Context, to bake.Publisher, b plan.Bake, job bake.Job, p plan.Post, made map[string]string, in []bake.Artifact) (out []bake.Artifact, keep bool, err error) {
	facts := joined(made)
	for _, a := range in {
		maps.Copy(facts, a.Facts)
	}
	if err := r.withheld("post-processor "+p.Title, p.Body); err != nil {
		return nil, false, err
	}
	post, err := newComponent(r.Catalog.Posts, "post-processor", p.Type, p.Body, r.scope(b, facts), p.Pos)
	if err != nil {
		return nil, false, err
	}
	r.emit(b.Name, bake.Event{Type: bake.Note, Text: "post-processor " + p.Title})
	output := r.output(b.Name, 0)
	defer output.flush()
	out, keep, err = post.Process(ctx, bake.PostEnv{
		Job: job, Publisher: to, Host: r.Host, Dir: r.Dir, OutDir: r.OutDir,
		Vars: r.vars(b, facts, nil), Facts: facts, Stdout: output.stdout, Stderr: output.stderr, Sink: output,
	}, in)
	if p.Common.Keep != nil {
		keep = *p.Common.Keep
	}
	return out, keep, err
}

// remove deletes the files of artifacts that were given up, save those that an
// artifact that was kept still has.
func remove(given, kept []bake.Artifact) {
	needed := map[string]bool{}
	for _, a := range kept {
		for _, f := range a.Files {
			needed[f] = true
		}
	}
	for _, a := range given {
		for _, f := range a.Files {
			if !a.Foreign && !needed[f] {
				os.Remove(f)
			}
		}
	}
}

// merge joins artifacts that are the same image, with all their names, and
// the same files, and leaves out those of builders that make nothing.
func merge(list []bake.Artifact) []bake.Artifact {
	var out []bake.Artifact
	at := map[string]int{}
	for _, a := range list {
		if a.Image == nil && a.Index == nil && len(a.Files) == 0 {
			continue
		}
		key := fmt.Sprint(a.Files)
		if a.Digest != (v1.Hash{}) {
			key = a.Digest.String()
		}
		i, seen := at[key]
		if !seen {
			at[key] = len(out)
			out = append(out, a)
			continue
		}
		for _, ref := range a.Refs {
			if !hasRef(out[i].Refs, ref) {
				out[i] = out[i].WithRefs(ref)
			}
		}
	}
	return out
}

func hasRef(refs []bake.Ref, ref bake.Ref) bool {
	for _, r := range refs {
		if r.Name() == ref.Name() {
			return true
		}
	}
	return false
}

// announce emits an event for every artifact.
func (r *runner) announce(b plan.Bake, artifacts []bake.Artifact) {
	for _, a := range artifacts {
		summary := a.Summary()
		r.emit(b.Name, bake.Event{Type: bake.ArtifactMade, Artifact: &summary})
	}
}
