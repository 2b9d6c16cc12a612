package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Manifest is what Push sends and Tag names: a v1.Image or a v1.ImageIndex.
type Manifest interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	RawManifest() ([]byte, error)
}

// Stats count the bytes of blobs by what was done about them.
type Stats struct {
	Uploaded int64 // sent
	Mounted  int64 // taken over from another repository of the registry
	Existing int64 // there already
}

// Add returns the sum of two Stats.
func (s Stats) Add(o Stats) Stats {
	return Stats{s.Uploaded + o.Uploaded, s.Mounted + o.Mounted, s.Existing + o.Existing}
}

// Push makes the repository hold an image or an index, by digest, sending only
// what the registry lacks. It moves no tag. from lists repositories that may
// have layers of it; those of Mountable layers and of earlier pushes are known.
func (c *Client) Push(ctx context.Context, repo name.Repository, m Manifest, auth Auth, from ...name.Repository) (Stats, error) {
	auth, err := c.authOr(ctx, repo, auth)
	if err != nil {
		return Stats{}, err
	}
	p := &push{c: c, repo: repo, blobs: map[v1.Hash]blob{}, policy: c.policy}
	err = p.run(ctx, m, auth, from)
	return p.stats, explain("push", repo, auth, err)
}

// Send makes the repository hold layers of an image to come, sending only what
// the registry lacks. Nothing there names them before that is pushed; if it never
// is, the registry removes them in its time. It tries once: Push tries again.
func (c *Client) Send(ctx context.Context, repo name.Repository, layers []v1.Layer, auth Auth) error {
	auth, err := c.authOr(ctx, repo, auth)
	if err != nil {
		return err
	}
	ctx = context.WithValue(ctx, onceKey{}, true)
	p := &push{c: c, repo: repo, blobs: map[v1.Hash]blob{}}
	if err := p.collectBlobs(layers); err != nil {
		return err
	}
	if err := p.signIn(ctx, auth, nil); err != nil {
		return err
	}
	return explain("push", repo, auth, p.sendBlobs(ctx))
}

// push is one call of Push or Send.
type push struct {
	c         *Client
	policy    policy
	repo      name.Repository
	http      *http.Client
	blobs     map[v1.Hash]blob
	manifests []Manifest // children before their index

	mu    sync.Mutex
	stats Stats
}

type blob struct {
	layer v1.Layer
	size  int64
	from  name.Repository // where to mount it from; zero: nowhere
}

func (p *push) run(ctx context.Context, m Manifest, auth Auth, from []name.Repository) error {
	if err := p.collect(m, 0); err != nil {
		return err
	}
	if err := p.signIn(ctx, auth, from); err != nil {
		return err
	}
	digest, err := m.Digest()
	if err != nil {
		return err
	}
	if exists, err := p.exists(ctx, "manifests", digest.String()); err != nil {
		return err
	} else if exists {
		for h, b := range p.blobs {
			p.note(h, &p.stats.Existing, b.size)
		}
		return nil
	}
	if err := p.sendBlobs(ctx); err != nil {
		return err
	}
	for _, m := range p.manifests {
		digest, err := m.Digest()
		if err != nil {
			return err
		}
		if err := p.c.putManifest(ctx, p.http, p.repo, digest.String(), m); err != nil {
			return err
		}
	}
	return nil
}

// signIn opens a session for what is to be sent, and for what may be mounted.
func (p *push) signIn(ctx context.Context, auth Auth, from []name.Repository) error {
	scopes := append([]string{p.repo.Scope(transport.PushScope)}, p.findSources(from)...)
	rt, err := p.c.session(ctx, p.repo, auth, scopes...)
	p.http = &http.Client{Transport: rt}
	return err
}

// lacksBlob reports whether a registry refused a manifest for a blob that it
// does not know (distribution-spec, MANIFEST_BLOB_UNKNOWN). It says so of one
// that it has, too, while another client sends the same.
func lacksBlob(err error) bool {
	var status *transport.Error
	return errors.As(err, &status) && slices.ContainsFunc(status.Errors, func(d transport.Diagnostic) bool {
		return d.Code == transport.ManifestBlobUnknownErrorCode
	})
}

// collect lists the blobs and manifests below m.
func (p *push) collect(m Manifest, depth int) error {
	switch m := m.(type) {
	case v1.Image:
		if err := p.collectImage(m); err != nil {
			return err
		}
	case v1.ImageIndex:
		if depth >= maxIndexDepth {
			return fmt.Errorf("index within index, more than %d deep", maxIndexDepth)
		}
		children, err := partial.Manifests(m)
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		for _, child := range children {
			cm, ok := child.(Manifest)
			if !ok {
				return fmt.Errorf("index: unsupported entry %T", child)
			}
			if err := p.collect(cm, depth+1); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unsupported manifest %T", m)
	}
	p.manifests = append(p.manifests, m)
	return nil
}

func (p *push) collectImage(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return fmt.Errorf("image configuration: %w", err)
	}
	return p.collectBlobs(append(layers, config))
}

func (p *push) collectBlobs(layers []v1.Layer) error {
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		size, err := l.Size()
		if err != nil {
			return fmt.Errorf("layer %s: %w", digest, err)
		}
		from, _ := mountedFrom(l)
		p.blobs[digest] = blob{layer: l, size: size, from: from}
	}
	return nil
}

// sendBlobs sends the blobs, several at a time, the large ones first.
func (p *push) sendBlobs(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.c.opts.Jobs)
	order := slices.SortedFunc(maps.Keys(p.blobs), func(a, b v1.Hash) int {
		return int(min(max(p.blobs[b].size-p.blobs[a].size, -1), 1))
	})
	for _, h := range order {
		g.Go(func() error {
			if err := p.sendBlob(ctx, h, p.blobs[h]); err != nil {
				return fmt.Errorf("blob %s: %w", h, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// sendBlob makes the repository hold one blob. Pushes of the same blob to one
// registry take turns, so that the second finds it there.
func (p *push) sendBlob(ctx context.Context, h v1.Hash, b blob) error {
	unlock, err := p.c.locks.lock(ctx, p.repo.RegistryStr()+"/"+h.String())
	if err != nil {
		return err
	}
	defer unlock()
	if b.from.RepositoryStr() == "" {
		if from, ok := p.knownSource(h); ok { // from a push that has ended meanwhile
			b.from = from
		}
	}
	resp, err := p.policy.do(ctx, p.repo.RegistryStr(), func() (*http.Response, error) {
		exists, err := p.exists(ctx, "blobs", h.String())
		if err != nil {
			return nil, &triedError{err}
		}
		if exists {
			p.note(h, &p.stats.Existing, b.size)
			return nil, nil
		}
		location, err := p.start(ctx, h, b.from)
		if err != nil {
			return nil, &triedError{err}
		}
		if location == nil {
			p.note(h, &p.stats.Mounted, b.size)
			return nil, nil
		}
		return p.upload(ctx, location, h, b)
	})
	if err != nil || resp == nil {
		return err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusNoContent, http.StatusAccepted); err != nil {
		return err
	}
	p.note(h, &p.stats.Uploaded, b.size)
	return nil
}

// triedError marks an error of a request that was repeated often enough by
// the transport.
type triedError struct{ err error }

func (e *triedError) Error() string { return e.err.Error() }
func (e *triedError) Unwrap() error { return e.err }

// exists asks for a blob or a manifest. A registry that forbids the question
// may still take the answer.
func (p *push) exists(ctx context.Context, kind, digest string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, endpoint(p.repo, kind+"/"+digest), nil)
	if err != nil {
		return false, err
	}
	if kind == "manifests" {
		for _, t := range []types.MediaType{types.OCIManifestSchema1, types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList} {
			req.Header.Add("Accept", string(t))
		}
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK, http.StatusNotFound, http.StatusForbidden, http.StatusMethodNotAllowed); err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusOK, nil
}

// start opens an upload, or mounts the blob if it can: then there is no
// location.
func (p *push) start(ctx context.Context, h v1.Hash, from name.Repository) (*url.URL, error) {
	query := ""
	if from.RepositoryStr() != "" {
		query = "?" + url.Values{"mount": {h.String()}, "from": {from.RepositoryStr()}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint(p.repo, "blobs/uploads/")+query, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		err = transport.CheckError(resp, http.StatusCreated, http.StatusAccepted)
	}
	if err != nil {
		var status *transport.Error // of the registry or of its token server
		if query != "" && errors.As(err, &status) && status.StatusCode < 500 && status.StatusCode != http.StatusTooManyRequests {
			return p.start(ctx, h, name.Repository{}) // not allowed to read the source
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusCreated && query != "" {
		return nil, nil
	}
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, errors.New("the registry gives no usable Location for the upload")
	}
	if sameHost := location.Host == resp.Request.URL.Host; sameHost {
		location.Scheme = resp.Request.URL.Scheme // a proxy that ends TLS often gets it wrong
	} else if location.Scheme == "http" && resp.Request.URL.Scheme == "https" {
		return nil, &RefusedError{Text: "upload over plain http to " + location.Host}
	}
	return location, nil
}

// upload sends a blob in one request. Its upload session is spent after one
// try: sendBlob starts another.
func (p *push) upload(ctx context.Context, location *url.URL, h v1.Hash, b blob) (*http.Response, error) {
	query := location.Query()
	query.Set("digest", h.String())
	target := *location
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(context.WithValue(ctx, onceKey{}, true), http.MethodPut, target.String(), nil)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		rc, err := b.layer.Compressed()
		if err != nil {
			return nil, err
		}
		return &blobReader{rc}, nil
	}
	req.ContentLength, req.GetBody = b.size, open
	req.Body = unread{}
	req.Header.Set("Content-Type", "application/octet-stream")
	if b.size >= 1<<20 {
		req.Header.Set("Expect", "100-continue") // hear of 401 and 413 before sending it all
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		resp.Body.Close()
		return nil, &timeoutError{what: "upload session lost"}
	}
	return resp, nil
}

// unread stands for a body that the guard replaces by a fresh one.
type unread struct{}

func (unread) Read([]byte) (int, error) { return 0, errors.New("body without GetBody") }
func (unread) Close() error             { return nil }

// blobReader tells errors of reading a layer from those of the network.
type blobReader struct{ io.ReadCloser }

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// putManifest stores a manifest under a digest or a tag.
func (c *Client) putManifest(ctx context.Context, client *http.Client, repo name.Repository, identifier string, m Manifest) error {
	raw, err := m.RawManifest()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	mediaType, err := m.MediaType()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	digest, err := m.Digest()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	resp, err := c.policy.do(ctx, repo.RegistryStr(), func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, endpoint(repo, "manifests/"+identifier), bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", string(mediaType))
		resp, err := client.Do(req)
		if err == nil {
			err = transport.CheckError(resp, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		}
		if err != nil && !lacksBlob(err) {
			err = &triedError{err}
		}
		return resp, err
	})
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return err
	}
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != digest.String() {
		return fmt.Errorf("the registry stored the manifest as %s, not as %s", printable(got), digest)
	}
	return nil
}

func endpoint(repo name.Repository, path string) string {
	return repo.Scheme() + "://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr() + "/" + path
}

func mediaTypeInside(raw []byte) (types.MediaType, error) {
	var m struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	err := json.Unmarshal(raw, &m)
	return m.MediaType, err
}
