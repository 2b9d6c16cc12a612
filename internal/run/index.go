package run

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// indexType is the type of a bake that starts no machine: it joins what others
// made for several platforms.
const indexType = "index"

// joining is the work on an index, as a bake that waits for others.
func joining(image plan.Image, index plan.Index) plan.Bake {
	return plan.Bake{
		Name: index.Name, Image: image.Name, Builder: index.Builder, Type: indexType, Pos: index.Pos,
		After: index.Bakes, Publish: index.Publish,
	}
}

// pend lists everything that is to be done: bakes, and behind those of an image
// the indexes of them.
func pend(p plan.Plan) (bakes []*pending, byName map[string]*pending) {
	byName = map[string]*pending{}
	add := func(b plan.Bake) *pending {
		one := &pending{Result: Result{Bake: b}, done: make(chan struct{})}
		bakes = append(bakes, one)
		byName[b.Name] = one
		return one
	}
	for _, image := range p.Images {
		for _, b := range image.Bakes {
			add(b)
		}
		for _, index := range image.Indexes {
			members := make([]*pending, len(index.Bakes))
			for i, name := range index.Bakes {
				members[i] = byName[name]
			}
			add(joining(image, index)).members = members
		}
	}
	return bakes, byName
}

// index joins the images of its members, which are all done, into one index,
// and publishes that: every repository has the images and the index before the
// first tag moves. Where no member made an image there is nothing to do.
func (r *runner) index(ctx context.Context, p *pending) {
	p.Err = func() error {
		made, err := images(p.members)
		if err != nil || len(made) == 0 {
			return err
		}
		groups := byAnnotations(p.Bake.Publish)
		if len(groups) == 0 {
			groups = [][]plan.Target{nil}
		}
		publisher := r.publisher(&p.Result)
		for _, group := range groups {
			a, err := indexOf(p.members, made, group)
			if err != nil {
				return err
			}
			refs, err := references(group, a.Digest)
			if err != nil {
				return err
			}
			if len(refs) > 0 {
				if _, err := publisher.Publish(ctx, a, refs); err != nil {
					return fmt.Errorf("publishing: %w", err)
				}
			}
			p.Artifacts = append(p.Artifacts, withTags(a, refs))
		}
		r.announce(p.Bake, p.Artifacts)
		return nil
	}()
	if cause := context.Cause(ctx); p.Err != nil && cause != nil {
		p.Err = &cutShort{cause, p.Err}
	}
}

// images are the members' images, one each, or none at all.
func images(members []*pending) ([]bake.Artifact, error) {
	var out []bake.Artifact
	for _, m := range members {
		if made := stage(m.Artifacts); made != nil {
			out = append(out, *made)
		}
	}
	if len(out) > 0 && len(out) < len(members) {
		missing := slices.IndexFunc(members, func(m *pending) bool { return stage(m.Artifacts) == nil })
		return nil, fmt.Errorf("%s made no image", members[missing].Bake.Name)
	}
	return out, nil
}

// indexOf is the index of the images, with the annotations of the targets in
// it as in the images' manifests.
func indexOf(members []*pending, made []bake.Artifact, group []plan.Target) (bake.Artifact, error) {
	var annotations map[string]string
	if len(group) > 0 {
		annotations = group[0].Annotations
	}
	list := make([]mutate.IndexAddendum, len(made))
	for i, a := range made {
		a, err := annotated(a, annotations)
		if err != nil {
			return bake.Artifact{}, err
		}
		platform, err := platformOf(a, members[i].Bake)
		if err != nil {
			return bake.Artifact{}, err
		}
		list[i] = mutate.IndexAddendum{Add: a.Image, Descriptor: v1.Descriptor{Platform: platform}}
	}
	index, err := bake.IndexArtifact(indexType, list, annotations)
	if err == nil {
		index.Base = commonBase(made)
	}
	return index, err
}

// platformOf is what the image says it is for, or else what it was baked for.
func platformOf(a bake.Artifact, b plan.Bake) (*v1.Platform, error) {
	config, err := a.Image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", b.Name, err)
	}
	if p := config.Platform(); p != nil && p.OS != "" && p.Architecture != "" {
		return p, nil
	}
	p, err := v1.ParsePlatform(b.Platform)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w", b.Platform, err)
	}
	return p, nil
}

// commonBase is the base's name where all images have the same: the registry
// may have its layers.
func commonBase(made []bake.Artifact) bake.Base {
	for _, a := range made {
		if a.Base.Name != made[0].Base.Name {
			return bake.Base{}
		}
	}
	return bake.Base{Name: made[0].Base.Name}
}

// withTags is the artifact with the tags among the references.
func withTags(a bake.Artifact, refs []bake.Ref) bake.Artifact {
	for _, ref := range refs {
		if _, isTag := ref.Reference.(name.Tag); isTag {
			a = a.WithRefs(ref)
		}
	}
	return a
}
