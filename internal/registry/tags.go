package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Target is a tag to move and, optionally, the credentials for it.
type Target struct {
	name.Tag
	Auth Auth
}

// rollbackTime is how long putting tags back may take after Ctrl-C, which
// promises an end within 5 seconds.
const rollbackTime = 4 * time.Second

// Tag points all tags to the manifest, which every repository must hold
// already, or none: when one fails, those moved before are put back. The error
// names the tags that could not be.
func (c *Client) Tag(ctx context.Context, m Manifest, targets ...Target) error {
	digest, err := m.Digest()
	if err != nil {
		return err
	}
	var moved []mover
	for _, t := range targets {
		mv, err := c.newMover(ctx, t)
		if err == nil {
			if len(targets) > 1 { // a single tag never needs to be put back
				err = mv.look()
			}
			if err == nil && mv.old.Digest != digest {
				err = c.putManifest(ctx, mv.client, t.Repository, t.TagStr(), m)
				moved = append(moved, mv) // also when it failed: the registry may have moved it
			}
		}
		if err != nil {
			return withLeft(explain("tag "+t.TagStr(), t.Repository, mv.Auth, err), putBack(ctx, moved, digest))
		}
	}
	return nil
}

// Elsewhere returns the targets that do not point to the manifest, and those
// that the registry does not tell of.
func (c *Client) Elsewhere(ctx context.Context, m Manifest, targets ...Target) ([]Target, error) {
	digest, err := m.Digest()
	if err != nil {
		return nil, err
	}
	there := make([]bool, len(targets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Jobs)
	for i, t := range targets {
		group.Go(func() error {
			mv, err := c.newMover(ctx, t)
			if err == nil {
				err = mv.look()
			}
			there[i] = err == nil && mv.old.Digest == digest
			if refusesTheQuestion(err) {
				err = nil
			}
			return explain("push", t.Repository, mv.Auth, err)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var rest []Target
	for i, t := range targets {
		if !there[i] {
			rest = append(rest, t)
		}
	}
	return rest, nil
}

// refusesTheQuestion tells whether a registry works but does not say where a
// tag points to, or not in the headers.
func refusesTheQuestion(err error) bool {
	var status *transport.Error
	if errors.As(err, &status) {
		code := status.StatusCode
		return code >= 400 && code < 500 && code != http.StatusUnauthorized && code != http.StatusTooManyRequests
	}
	return err != nil && !temporary(err) && !permanent(err) && !errors.Is(err, context.Canceled)
}

// mover moves one tag and can put it back.
type mover struct {
	Target
	c      *Client
	ctx    context.Context
	client *http.Client
	old    v1.Descriptor // zero: the tag was not there
}

func (c *Client) newMover(ctx context.Context, t Target) (mover, error) {
	mv := mover{Target: t, c: c, ctx: ctx}
	auth, err := c.authOr(ctx, t.Repository, t.Auth)
	if err != nil {
		return mv, err
	}
	mv.Auth = auth
	rt, err := c.session(ctx, t.Repository, auth, t.Repository.Scope(transport.PushScope))
	mv.client = &http.Client{Transport: rt}
	return mv, err
}

// look notes where the tag points to now.
func (mv *mover) look() error {
	head, err := remote.Head(mv.Tag, mv.options(mv.ctx)...)
	switch {
	case err == nil:
		mv.old = *head
	case isStatus(err, http.StatusNotFound, http.StatusForbidden):
	default:
		return err
	}
	return nil
}

func (mv *mover) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithTransport(mv.client.Transport), remote.WithContext(ctx)}
}

// putBack undoes the moves and returns the tags that stay on the new digest.
// The tags do not wait for each other: one that cannot be put back must not
// use up the time of the rest.
func putBack(ctx context.Context, moved []mover, digest v1.Hash) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	failed := make([]error, len(moved))
	var group sync.WaitGroup
	for i := range moved {
		group.Go(func() { failed[i] = moved[i].restore(ctx, digest) })
	}
	group.Wait()
	for i, err := range failed {
		if err != nil {
			left = append(left, moved[i].Name())
		}
	}
	return left
}

// restore points the tag to where it pointed before, or deletes it if it was
// not there. One that was never moved needs neither.
func (mv *mover) restore(ctx context.Context, digest v1.Hash) error {
	now, err := remote.Head(mv.Tag, mv.options(ctx)...)
	if isStatus(err, http.StatusNotFound) || err == nil && now.Digest != digest {
		return nil
	}
	if mv.old.Digest == (v1.Hash{}) {
		return mv.remove(ctx)
	}
	old, err := remote.Get(mv.Repository.Digest(mv.old.Digest.String()), mv.options(ctx)...)
	if err != nil {
		return err
	}
	return mv.c.putManifest(ctx, mv.client, mv.Repository, mv.TagStr(), rawManifest{old})
}

// remove deletes a tag, which not every registry can: never its manifest.
func (mv *mover) remove(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, endpoint(mv.Repository, "manifests/"+mv.TagStr()), nil)
	if err != nil {
		return err
	}
	resp, err := mv.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusAccepted, http.StatusOK, http.StatusNoContent, http.StatusNotFound)
}

// rawManifest is a manifest that is passed on as it came.
type rawManifest struct{ d *remote.Descriptor }

func (r rawManifest) MediaType() (types.MediaType, error) { return r.d.MediaType, nil }
func (r rawManifest) Digest() (v1.Hash, error)            { return r.d.Digest, nil }
func (r rawManifest) RawManifest() ([]byte, error)        { return r.d.Manifest, nil }

// LeftError says that tags were moved although the move as a whole failed.
type LeftError struct {
	Tags []string
	Err  error
}

// Error names the tags after the cause.
func (e *LeftError) Error() string {
	return fmt.Sprintf("%v; these tags were moved and could not be put back: %s", e.Err, strings.Join(e.Tags, ", "))
}

// Unwrap returns the cause.
func (e *LeftError) Unwrap() error { return e.Err }

func withLeft(err error, left []string) error {
	if len(left) == 0 {
		return err
	}
	return &LeftError{Tags: left, Err: err}
}
