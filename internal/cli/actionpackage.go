package cli

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/registry"
)

// packagePrune deletes tags of a GitHub package. Its API knows manifests only,
// as versions, and which of them refer to which only the registry tells.
type packagePrune struct {
	client   *registry.Client
	packages *github.Packages
	repo     name.Repository
	name     string // of the package, which may hold slashes
	doomed   func(tag string) bool

	tags   []string // to be deleted
	failed map[string]error
}

var errSharedVersion = errors.New("another tag or index has the image, too, and GitHub deletes whole images only")

func (p *packagePrune) do(ctx context.Context, dryRun bool) ([]registry.Pruned, error) {
	versions, err := p.packages.Versions(ctx, p.name)
	if err != nil {
		return nil, err
	}
	var held []registry.Held
	ids := map[string]int64{}
	for _, v := range versions {
		held = append(held, registry.Held{Digest: v.Digest, Tags: v.Tags})
		ids[v.Digest] = v.ID
		p.tags = append(p.tags, p.doomedOf(v.Tags)...)
	}
	if len(p.tags) == 0 {
		return nil, nil
	}
	removal, err := p.client.Removal(ctx, p.repo, held, p.doomed, registry.Auth{})
	switch {
	case err != nil:
		p.fail(p.tags, err) // an image that others use is worth more than an end of these
	case dryRun:
	default:
		p.delete(ctx, removal.Manifests, ids)
	}
	for _, h := range removal.Shared {
		p.fail(p.doomedOf(h.Tags), errSharedVersion)
	}
	slices.Sort(p.tags)
	var out []registry.Pruned
	for _, tag := range p.tags {
		out = append(out, registry.Pruned{Tag: tag, Err: p.failed[tag]})
	}
	return out, ctx.Err()
}

// delete deletes versions. One that GitHub wants to keep hinders no other; what
// looks like the token or the network ends it, and the next run goes on there.
func (p *packagePrune) delete(ctx context.Context, manifests []registry.Held, ids map[string]int64) {
	missing := map[int64]error{}
	for i, h := range manifests {
		id, ok := ids[h.Digest]
		if !ok {
			continue // an index lists it, and it is not there
		}
		err := p.packages.Delete(ctx, p.name, id)
		var answer *github.Error
		switch {
		case err == nil:
		case errors.Is(err, github.ErrNotFound):
			missing[id] = err
		case errors.As(err, &answer) && (answer.Status == http.StatusBadRequest || answer.Status == http.StatusUnprocessableEntity):
			p.fail(p.doomedOf(h.Tags), err)
		default:
			for _, rest := range manifests[i:] {
				p.fail(p.doomedOf(rest.Tags), err)
			}
			p.recheck(ctx, missing)
			return
		}
	}
	p.recheck(ctx, missing)
}

// recheck tells versions that were gone from those that the token may not
// delete: GitHub says "not found" to both.
func (p *packagePrune) recheck(ctx context.Context, missing map[int64]error) {
	if len(missing) == 0 {
		return
	}
	versions, err := p.packages.Versions(ctx, p.name)
	if err != nil {
		return // it went with its last version
	}
	for _, v := range versions {
		if why, ok := missing[v.ID]; ok {
			p.fail(p.doomedOf(v.Tags), why)
		}
	}
}

func (p *packagePrune) doomedOf(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return !p.doomed(tag) })
}

func (p *packagePrune) fail(tags []string, why error) {
	for _, tag := range tags {
		p.failed[tag] = why
	}
}
