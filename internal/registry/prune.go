package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// Pruned tells what became of a tag: it is deleted, unless there is an error.
type Pruned struct {
	Tag string
	Err error
}

// Prune deletes the tags of a repository that doomed chooses, and what only they
// lead to: their images, what indexes list, what hangs on those. Images that
// something else in the repository refers to stay. A deletion that broke off is
// finished by the next one. With dryRun it only tells.
func (c *Client) Prune(ctx context.Context, repo name.Repository, doomed func(tag string) bool, auth Auth, dryRun bool) ([]Pruned, error) {
	e, err := c.edit(ctx, repo, auth)
	if err != nil {
		return nil, err
	}
	tags, err := e.tags(ctx)
	if err != nil {
		return nil, explain("list tags of", repo, e.auth, err)
	}
	p := &prune{editor: e, doomed: doomed, failed: map[string]error{}}
	for _, tag := range tags {
		if doomed(tag) {
			p.tags = append(p.tags, tag)
		}
	}
	if len(p.tags) == 0 {
		return nil, nil
	}
	removal, err := p.look(ctx, tags)
	if err != nil && ctx.Err() == nil {
		p.unsure = err
		c.opts.Notify(fmt.Sprintf("%s: only the tags are deleted, their images stay: %v", repo, err))
	}
	if !dryRun {
		p.do(ctx, removal)
	}
	var out []Pruned
	for _, tag := range p.tags {
		out = append(out, Pruned{tag, p.failed[tag]})
	}
	return out, ctx.Err()
}

// prune is one deletion of tags.
type prune struct {
	*editor
	doomed  func(string) bool
	tags    []string // to be deleted
	unsure  error    // why it is not known what others use
	cannot  error    // the registry deletes no images
	refused []string // manifests, in the order they were tried
	failed  map[string]error
}

// look finds out where tags point to, and what may be deleted below those that
// are doomed.
func (p *prune) look(ctx context.Context, tags []string) (Removal, error) {
	if len(tags) > maxHeld {
		return Removal{}, &RefusedError{Text: fmt.Sprintf("%d tags are too many to see which images others use; the limit is %d", len(tags), maxHeld)}
	}
	var mu sync.Mutex
	byDigest := map[string]*Held{}
	group, shared := errgroup.WithContext(ctx)
	group.SetLimit(p.c.opts.Jobs)
	for _, tag := range tags {
		group.Go(func() error {
			head, err := remote.Head(p.repo.Tag(tag), p.options(shared)...)
			if isStatus(err, http.StatusNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("tag %s: %w", tag, err)
			}
			mu.Lock()
			defer mu.Unlock()
			digest := head.Digest.String()
			if byDigest[digest] == nil {
				byDigest[digest] = &Held{Digest: digest, mediaType: head.MediaType}
			}
			byDigest[digest].Tags = append(byDigest[digest].Tags, tag)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Removal{}, explain("look for the tags of", p.repo, p.auth, err)
	}
	var held []Held
	for _, h := range byDigest {
		slices.Sort(h.Tags)
		held = append(held, *h)
	}
	slices.SortFunc(held, func(a, b Held) int { return slices.Compare(a.Tags, b.Tags) })
	return p.c.Removal(ctx, p.repo, held, p.doomed, p.auth)
}

func (e *editor) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithTransport(e.http.Transport), remote.WithContext(ctx)}
}

// do deletes. Registries that keep what others of theirs refer to are asked once
// more, from the top down, when the tags are gone.
func (p *prune) do(ctx context.Context, removal Removal) {
	gone := map[string]bool{}
	for _, h := range removal.Manifests {
		err := p.manifest(ctx, h)
		if err != nil && !refuses(err) {
			p.leave(gone, err) // the next run begins here
			return
		}
		for _, tag := range h.Tags {
			gone[tag] = true
			if err := p.untag(ctx, tag, err); err != nil && !refuses(err) {
				p.leave(gone, err)
				return
			}
		}
	}
	for _, tag := range p.tags {
		if !gone[tag] {
			why := cmp.Or(p.cannot, p.unsure)
			if why == nil {
				why = errors.New("another tag or index has the image, too, and the registry deletes whole images only")
			}
			_ = p.untag(ctx, tag, why) // noted
		}
	}
	if len(p.failed) > 0 || p.cannot != nil {
		return
	}
	for _, digest := range slices.Backward(p.refused) {
		if err := p.delete(ctx, digest); err != nil {
			p.c.opts.Notify(err.Error())
		}
	}
}

// manifest deletes a manifest, unless the registry deletes none.
func (p *prune) manifest(ctx context.Context, h Held) error {
	if p.cannot != nil {
		return p.cannot
	}
	err := p.delete(ctx, h.Digest)
	if isStatus(err, http.StatusMethodNotAllowed, http.StatusNotImplemented) {
		p.cannot = err
	} else if err != nil {
		p.refused = append(p.refused, h.Digest)
	}
	return err
}

// untag deletes a tag that may have gone with its image; why tells why the image
// is there still. Not every registry deletes a tag alone. What fails is noted.
func (p *prune) untag(ctx context.Context, tag string, why error) error {
	if why == nil {
		if _, err := remote.Head(p.repo.Tag(tag), p.options(ctx)...); isStatus(err, http.StatusNotFound) {
			return nil
		}
	}
	err := p.delete(ctx, tag)
	if why != nil && isStatus(err, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented) {
		err = why
	}
	switch {
	case err == nil:
	case p.doomed(tag):
		p.failed[tag] = err
	default:
		p.c.opts.Notify(err.Error())
	}
	return err
}

// leave notes why tags are left.
func (p *prune) leave(gone map[string]bool, why error) {
	for _, tag := range p.tags {
		if !gone[tag] {
			p.failed[tag] = why
		}
	}
}

// refuses tells an answer that will be the same every time from trouble on the
// way.
func refuses(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout
}
