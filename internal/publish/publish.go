// Package publish sends artifacts out: to registries, to a folder, or, for a
// dry run, nowhere. Each is a bake.Publisher; which one is used is decided
// once, where the program is put together.
package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/registry"
)

// Registry publishes to registries. Every repository holds the image by digest
// before the first tag moves, and the tags move all or none, also when they
// are in several repositories. Notify takes one line for each repository and
// may be nil.
type Registry struct {
	Client *registry.Client
	Notify func(string)
}

// Publish implements bake.Publisher.
func (p Registry) Publish(ctx context.Context, a bake.Artifact, refs []bake.Ref) ([]bake.Ref, error) {
	m, digest, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	if err := checkDigests(refs, digest); err != nil {
		return nil, err
	}
	targets := targetsOf(refs)
	rest, err := p.Client.Elsewhere(ctx, m, targets...)
	if err != nil {
		return nil, err
	}
	from := baseRepository(a)
	for _, ref := range firsts(refs) {
		var stats registry.Stats
		if !upToDate(ref.Context(), targets, rest) {
			if stats, err = p.Client.Push(ctx, ref.Context(), m, authOf(ref), from...); err != nil {
				return nil, err
			}
		}
		if p.Notify != nil {
			p.Notify(fmt.Sprintf("pushed %s@%s (%s)", ref.Context().Name(), digest, describe(stats)))
		}
	}
	if err := p.Client.Tag(ctx, m, rest...); err != nil {
		return nil, err
	}
	return byDigest(refs, digest), nil
}

// Send implements bake.Sender.
func (p Registry) Send(ctx context.Context, layers []v1.Layer, refs []bake.Ref) error {
	for _, ref := range firsts(refs) {
		if err := p.Client.Send(ctx, ref.Context(), layers, authOf(ref)); err != nil {
			return err
		}
	}
	return nil
}

// Nowhere says what would be published. It changes nothing and asks nobody.
type Nowhere struct {
	Notify func(string) // takes one line for each reference; may be nil
}

// Publish implements bake.Publisher.
func (p Nowhere) Publish(_ context.Context, a bake.Artifact, refs []bake.Ref) ([]bake.Ref, error) {
	_, digest, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	if err := checkDigests(refs, digest); err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if p.Notify != nil {
			p.Notify(fmt.Sprintf("dry run: would push %s (%s)", ref.Name(), digest))
		}
	}
	return nil, nil
}

var errNoImage = errors.New("nothing to publish: the artifact is no container image")

// manifestOf is the image or index of an artifact, as it is: publishing never
// changes a digest.
func manifestOf(a bake.Artifact) (registry.Manifest, v1.Hash, error) {
	var m registry.Manifest
	switch {
	case a.Index != nil:
		m = a.Index
	case a.Image != nil:
		m = a.Image
	default:
		return nil, v1.Hash{}, errNoImage
	}
	digest, err := m.Digest()
	if err != nil {
		return nil, v1.Hash{}, fmt.Errorf("digest of the image: %w", err)
	}
	if a.Digest != (v1.Hash{}) && a.Digest != digest {
		return nil, v1.Hash{}, fmt.Errorf("the image has digest %s, the artifact says %s", digest, a.Digest)
	}
	return m, digest, nil
}

// checkDigests refuses to publish under another image's digest.
func checkDigests(refs []bake.Ref, digest v1.Hash) error {
	for _, ref := range refs {
		if d, ok := ref.Reference.(name.Digest); ok && d.DigestStr() != digest.String() {
			return fmt.Errorf("publish to %s: the image has digest %s", ref.Name(), digest)
		}
	}
	return nil
}

// firsts is the first reference of every repository, in order.
func firsts(refs []bake.Ref) []bake.Ref {
	var out []bake.Ref
	seen := map[string]bool{}
	for _, ref := range refs {
		if repo := ref.Context().Name(); !seen[repo] {
			seen[repo] = true
			out = append(out, ref)
		}
	}
	return out
}

// targetsOf are the tags among the references.
func targetsOf(refs []bake.Ref) []registry.Target {
	var targets []registry.Target
	for _, ref := range refs {
		if tag, ok := ref.Reference.(name.Tag); ok {
			targets = append(targets, registry.Target{Tag: tag, Auth: authOf(ref)})
		}
	}
	return targets
}

// upToDate tells whether a tag in the repository points to the image already:
// then the image is there.
func upToDate(repo name.Repository, targets, rest []registry.Target) bool {
	return slices.ContainsFunc(targets, func(t registry.Target) bool {
		return t.Repository.Name() == repo.Name() && !slices.ContainsFunc(rest, func(r registry.Target) bool { return r.Tag.Name() == t.Tag.Name() })
	})
}

func byDigest(refs []bake.Ref, digest v1.Hash) []bake.Ref {
	out := make([]bake.Ref, len(refs))
	for i, ref := range refs {
		out[i] = bake.Ref{Reference: ref.Context().Digest(digest.String()), Auth: ref.Auth}
	}
	return out
}

// baseRepository is where the base's layers may be mounted from.
func baseRepository(a bake.Artifact) []name.Repository {
	ref, err := name.ParseReference(a.Base.Name)
	if err != nil { // none, or an earlier stage
		return nil
	}
	return []name.Repository{ref.Context()}
}

func authOf(ref bake.Ref) registry.Auth {
	return registry.Auth{Username: ref.Auth.Username, Password: ref.Auth.Password}
}

// describe says where the bytes of a push came from.
func describe(s registry.Stats) string {
	switch {
	case s.Uploaded == 0 && s.Mounted == 0:
		return "nothing to upload"
	case s.Uploaded == 0:
		return "mounted from another repository"
	}
	return fmt.Sprintf("%.1f MB uploaded", float64(s.Uploaded)/1e6)
}
