package registry

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

const (
	maxHeld   = 5000 // manifests of a repository that are looked at
	maxDoomed = 2000 // manifests that go with the tags of one deletion
	maxPages  = 100  // of the referrers of one manifest
)

// Held is a manifest that a repository is known to hold, with all its tags.
type Held struct {
	Digest string
	Tags   []string

	mediaType types.MediaType // empty: not known
}

// Removal is what the deletion of some tags means for the manifests of a
// repository.
type Removal struct {
	// Manifests nothing that stays refers to, in the order of deletion: what
	// hangs on a manifest and what an index lists go before it. So whatever a
	// deletion that broke off has left is still found from the tag.
	Manifests []Held
	// Shared are manifests under the tags that stay, since other tags or indexes
	// have them, too.
	Shared []Held
}

// Removal finds out what goes with the tags that doomed chooses. Held must be
// all that is known of the repository: what it does not tell is taken for
// unused.
func (c *Client) Removal(ctx context.Context, repo name.Repository, held []Held, doomed func(tag string) bool, auth Auth) (Removal, error) {
	e, err := c.edit(ctx, repo, auth)
	if err != nil {
		return Removal{}, err
	}
	out, err := newGraph(e, held, doomed).removal(ctx)
	return out, explain("look for what refers to the images of", repo, e.auth, err)
}

// node is a manifest as what refers to it says.
type node struct {
	digest string
	image  bool // it lists no others
}

func (h Held) node() node { return node{h.Digest, h.mediaType.IsImage()} }

// graph is what refers to what in a repository, as far as it was looked at.
type graph struct {
	e         *editor
	doomed    func(tag string) bool
	held      []Held
	known     map[string]Held   // by digest
	attached  map[string][]node // by digest: what tags hang on it
	candidate map[string][]node // what goes with the tags, and what is below it
	order     []string          // candidates, what is below first
	live      map[string]bool
	lists     sync.Map // by digest: []node, of what has been read
	noAPI     bool     // no referrers API
}

func newGraph(e *editor, held []Held, doomed func(string) bool) *graph {
	g := &graph{
		e: e, doomed: doomed, held: held, known: map[string]Held{}, attached: map[string][]node{},
		candidate: map[string][]node{}, live: map[string]bool{},
	}
	for _, h := range held {
		g.known[h.Digest] = h
		for _, tag := range h.Tags {
			if subject := subjectOf(tag); subject != "" {
				g.attached[subject] = append(g.attached[subject], h.node())
			}
		}
	}
	return g
}

var subjectTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})(\.(sig|att|sbom))?$`)

// subjectOf is the digest that a tag hangs something on: the referrers tag of
// the distribution specification, or one of cosign's.
func subjectOf(tag string) string {
	if m := subjectTag.FindStringSubmatch(tag); m != nil {
		return "sha256:" + m[1]
	}
	return ""
}

func (g *graph) removal(ctx context.Context) (Removal, error) {
	if len(g.held) > maxHeld {
		return Removal{}, &RefusedError{Text: fmt.Sprintf("more than %d images, too many to see which of them others use", maxHeld)}
	}
	for _, h := range g.held {
		if slices.ContainsFunc(h.Tags, g.doomed) {
			if err := g.collect(ctx, h.node()); err != nil {
				return Removal{}, err
			}
		}
	}
	if err := g.markAll(ctx); err != nil {
		return Removal{}, err
	}
	var out Removal
	for _, digest := range g.order {
		h := Held{Digest: digest, Tags: g.known[digest].Tags}
		if !g.live[digest] {
			out.Manifests = append(out.Manifests, h)
		} else if slices.ContainsFunc(h.Tags, g.doomed) {
			out.Shared = append(out.Shared, h)
		}
	}
	return out, nil
}

// collect makes candidates of a manifest and all that is below it.
func (g *graph) collect(ctx context.Context, n node) error {
	if _, ok := g.candidate[n.digest]; ok {
		return nil
	}
	if len(g.candidate) >= maxDoomed {
		return &RefusedError{Text: fmt.Sprintf("more than %d images below the tags", maxDoomed)}
	}
	g.candidate[n.digest] = nil
	below, err := g.referrers(ctx, n.digest)
	if err != nil {
		return err
	}
	children, err := g.children(ctx, n)
	if err != nil {
		return err
	}
	below = slices.Concat(below, g.attached[n.digest], children)
	g.candidate[n.digest] = below
	for _, m := range below {
		if err := g.collect(ctx, m); err != nil {
			return err
		}
	}
	g.order = append(g.order, n.digest)
	return nil
}

// markAll marks what stays: everything that has a reason to be there other than
// the tags, and what that refers to.
func (g *graph) markAll(ctx context.Context) error {
	var roots []node
	for _, h := range g.held {
		if g.stays(h) {
			roots = append(roots, h.node())
		}
	}
	group, shared := errgroup.WithContext(ctx)
	group.SetLimit(g.e.c.opts.Jobs)
	for _, n := range roots {
		group.Go(func() error {
			_, err := g.children(shared, n)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, n := range roots {
		if err := g.mark(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// stays tells whether a manifest has a tag of its own that is not deleted, or
// was never reached from one that is.
func (g *graph) stays(h Held) bool {
	if len(h.Tags) == 0 {
		_, ok := g.candidate[h.Digest]
		return !ok
	}
	return slices.ContainsFunc(h.Tags, func(tag string) bool {
		_, hangs := g.candidate[subjectOf(tag)]
		return !g.doomed(tag) && !hangs
	})
}

// mark asks again what a candidate lists: what goes may have told a lie about it.
func (g *graph) mark(ctx context.Context, n node) error {
	if g.live[n.digest] {
		return nil
	}
	g.live[n.digest] = true
	children, err := g.children(ctx, n)
	if err != nil {
		return err
	}
	for _, m := range slices.Concat(children, g.candidate[n.digest]) {
		if err := g.mark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

var manifestTypes = []string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	"application/vnd.oci.artifact.manifest.v1+json",
}

// listing is what an index lists, and what the referrers API answers.
type listing struct {
	Manifests []v1.Descriptor `json:"manifests"`
}

// nodes are those of a listing that have a digest.
func (l listing) nodes() []node {
	var out []node
	for _, d := range l.Manifests {
		if d.Digest != (v1.Hash{}) {
			out = append(out, node{d.Digest.String(), d.MediaType.IsImage()})
		}
	}
	return out
}

// children are the manifests that an index lists; of others there are none.
func (g *graph) children(ctx context.Context, n node) ([]node, error) {
	if n.image {
		return nil, nil
	}
	if known, ok := g.lists.Load(n.digest); ok {
		return known.([]node), nil
	}
	var index listing
	_, err := g.e.read(ctx, "manifests/"+n.digest, &index, manifestTypes...)
	if isStatus(err, http.StatusNotFound) {
		err = nil // deleted before, or never there: an index need not be complete
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", n.digest, err)
	}
	out := index.nodes()
	g.lists.Store(n.digest, out)
	return out, nil
}

// referrers asks what has the manifest as its subject. Where there is no API
// for that, tags tell.
func (g *graph) referrers(ctx context.Context, digest string) ([]node, error) {
	var out []node
	query := ""
	for range maxPages {
		if g.noAPI {
			return nil, nil
		}
		var page listing
		next, err := g.e.read(ctx, "referrers/"+digest+query, &page, string(types.OCIImageIndex))
		switch {
		case isStatus(err, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented):
			g.noAPI = len(out) == 0
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("referrers of %s: %w", digest, err)
		}
		out = append(out, page.nodes()...)
		if next == "" {
			return out, nil
		}
		query = "?" + next
	}
	return nil, &RefusedError{Text: fmt.Sprintf("more than %d pages of referrers of %s", maxPages, digest)}
}
