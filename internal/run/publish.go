package run

import (
	"context"
	"fmt"
	"maps"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// publish pushes the bake's image to its targets, all in one call so that tags
// move only after every repository has the image. Targets with annotations of
// their own get another manifest, and a call each.
func publish(ctx context.Context, to bake.Publisher, b plan.Bake, artifacts []bake.Artifact) error {
	image := stage(artifacts)
	if image == nil {
		return nil
	}
	for _, group := range byAnnotations(b.Publish) {
		a, err := annotated(*image, group[0].Annotations)
		if err != nil {
			return err
		}
		refs, err := references(group, a.Digest)
		if err != nil {
			return err
		}
		if _, err := to.Publish(ctx, a, refs); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}

// publisher is the run's, noting in the result what a bake published, whether
// its targets or a post-processor asked for it.
func (r *runner) publisher(res *Result) bake.Publisher { return noting{r, res} }

type noting struct {
	*runner
	res *Result
}

// Publish implements bake.Publisher.
func (n noting) Publish(ctx context.Context, a bake.Artifact, refs []bake.Ref) ([]bake.Ref, error) {
	pushed, err := n.Publisher.Publish(ctx, a, refs)
	if err != nil || len(pushed) == 0 {
		return pushed, err
	}
	n.res.Published = append(n.res.Published, pushed...)
	for _, ref := range refs {
		if _, isTag := ref.Reference.(name.Tag); isTag {
			n.res.Tags = append(n.res.Tags, ref.Name())
		}
	}
	n.emit(n.res.Bake.Name, bake.Event{Type: bake.Published, Refs: refNames(refs), Data: map[string]string{"digest": a.Digest.String()}})
	return pushed, nil
}

// tagged gives the bake's image the tags it is published under, so that a local
// engine knows it by them too.
func tagged(artifacts []bake.Artifact, targets []plan.Target) []bake.Artifact {
	image := stage(artifacts)
	if image == nil {
		return artifacts
	}
	refs, err := references(targets, image.Digest)
	if err != nil {
		return artifacts // publish says so
	}
	for _, ref := range refs {
		if _, isTag := ref.Reference.(name.Tag); isTag && !hasRef(image.Refs, ref) {
			*image = image.WithRefs(ref)
		}
	}
	return artifacts
}

// byAnnotations groups targets that get the same manifest, in order.
func byAnnotations(list []plan.Target) (groups [][]plan.Target) {
next:
	for _, t := range list {
		for i, group := range groups {
			if maps.Equal(group[0].Annotations, t.Annotations) {
				groups[i] = append(group, t)
				continue next
			}
		}
		groups = append(groups, []plan.Target{t})
	}
	return groups
}

// annotated is the image with annotations in its manifest.
func annotated(a bake.Artifact, annotations map[string]string) (bake.Artifact, error) {
	if len(annotations) == 0 {
		return a, nil
	}
	a.Image = mutate.Annotations(a.Image, annotations).(v1.Image)
	digest, err := a.Image.Digest()
	if err != nil {
		return a, fmt.Errorf("annotations: %w", err)
	}
	a.Digest = digest
	return a, nil
}

// references are what to publish under: every tag of every repository, or the
// digest alone where a repository has no tag.
func references(list []plan.Target, digest v1.Hash) ([]bake.Ref, error) {
	var refs []bake.Ref
	for _, t := range list {
		repo, err := name.NewRepository(t.Repository)
		if err != nil {
			return nil, fmt.Errorf("repository %q: %w", t.Repository, err)
		}
		if len(t.Tags) == 0 {
			refs = append(refs, bake.Ref{Reference: repo.Digest(digest.String())})
		}
		for _, tag := range t.Tags {
			refs = append(refs, bake.Ref{Reference: repo.Tag(tag)})
		}
	}
	return refs, nil
}

func refNames(refs []bake.Ref) []string {
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = ref.Name()
	}
	return names
}
