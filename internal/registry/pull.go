package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	maxConfig     = 8 << 20
	maxIndexDepth = 2
)

// Image finds an image and resolves an index to the platform; the zero
// platform is linux on this machine's architecture. Configuration and layers
// are fetched, and their digests verified, when they are read, for as long as
// ctx lives. The descriptor is that of the image's own manifest.
func (c *Client) Image(ctx context.Context, ref name.Reference, platform v1.Platform, auth Auth) (v1.Image, v1.Descriptor, error) {
	var img v1.Image
	var desc v1.Descriptor
	err := c.read(ctx, ref, auth, func(r reader) error {
		got, err := r.resolve(r.ref, platform, 0)
		if err != nil {
			return err
		}
		desc = got.Descriptor
		desc.Platform = nil
		if img, err = got.Image(); err != nil {
			return err
		}
		if err := checkManifest(img); err != nil {
			return err
		}
		return c.seen(r.ref.Context(), img)
	})
	return img, desc, err
}

// Head tells what a reference points to at the moment: the descriptor of an
// image or of an index.
func (c *Client) Head(ctx context.Context, ref name.Reference, auth Auth) (v1.Descriptor, error) {
	var desc v1.Descriptor
	err := c.read(ctx, ref, auth, func(r reader) error {
		head, err := remote.Head(r.ref, r.options()...)
		var status *transport.Error
		if err == nil {
			desc = *head
			return nil
		}
		if errors.As(err, &status) && status.StatusCode != http.StatusMethodNotAllowed {
			return err
		}
		got, err := r.get(r.ref) // some registries answer a HEAD without the headers
		if err == nil {
			desc = got.Descriptor
		}
		return err
	})
	return desc, err
}

// Layer opens a layer of a repository by its digest. The bytes are fetched and
// verified when they are read, for as long as ctx lives.
func (c *Client) Layer(ctx context.Context, ref name.Digest, auth Auth) (v1.Layer, error) {
	var layer v1.Layer
	err := c.read(ctx, ref, auth, func(r reader) error {
		l, err := remote.Layer(r.ref.(name.Digest), r.options()...)
		layer = l
		return err
	})
	if err != nil {
		return nil, err
	}
	return Mountable(layer, ref.Context()), nil
}

// reader reads one repository, signed in.
type reader struct {
	ctx context.Context
	ref name.Reference
	rt  http.RoundTripper
}

// read calls f for the mirrors of the reference's registry and then for the
// registry itself, until one succeeds.
func (c *Client) read(ctx context.Context, ref name.Reference, auth Auth, f func(reader) error) error {
	for _, host := range c.opts.Mirrors[ref.Context().RegistryStr()] {
		mirrored, err := onHost(ref, host)
		if err != nil {
			return fmt.Errorf("mirror %q: %w", host, err)
		}
		err = c.readFrom(ctx, mirrored, Auth{}, f)
		if err == nil || ctx.Err() != nil {
			return err
		}
		c.opts.Notify(fmt.Sprintf("mirror %s: %v", host, err))
	}
	return c.readFrom(ctx, ref, auth, f)
}

func (c *Client) readFrom(ctx context.Context, ref name.Reference, auth Auth, f func(reader) error) error {
	repo := ref.Context()
	auth, err := c.authOr(ctx, repo, auth)
	if err != nil {
		return err
	}
	rt, err := c.session(ctx, repo, auth, repo.Scope(transport.PullScope))
	if err == nil {
		err = f(reader{ctx, ref, rt})
	}
	return explain("pull", repo, auth, err)
}

// onHost is the same reference on another registry.
func onHost(ref name.Reference, host string) (name.Reference, error) {
	repo, err := name.NewRepository(host + "/" + ref.Context().RepositoryStr())
	if err != nil {
		return nil, err
	}
	if digest, ok := ref.(name.Digest); ok {
		return repo.Digest(digest.DigestStr()), nil
	}
	return repo.Tag(ref.Identifier()), nil
}

func (r reader) options() []remote.Option {
	return []remote.Option{
		remote.WithTransport(r.rt), remote.WithContext(r.ctx),
		remote.WithJobs(1 << 10), // layers open at a time: that is the reader's business
	}
}

// get fetches a manifest and refuses one that is not what its headers say.
func (r reader) get(ref name.Reference) (*remote.Descriptor, error) {
	desc, err := remote.Get(ref, r.options()...)
	if err != nil {
		return nil, err
	}
	if !desc.MediaType.IsImage() && !desc.MediaType.IsIndex() {
		return nil, fmt.Errorf("manifest of media type %q: neither an image nor an index", printable(string(desc.MediaType)))
	}
	inside, err := mediaTypeInside(desc.Manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if inside != "" && inside != desc.MediaType {
		return nil, fmt.Errorf("manifest %s says %q, its header says %q", desc.Digest, printable(string(inside)), desc.MediaType)
	}
	return desc, nil
}

// resolve follows indexes down to an image for the platform.
func (r reader) resolve(ref name.Reference, platform v1.Platform, depth int) (*remote.Descriptor, error) {
	desc, err := r.get(ref)
	if err != nil || desc.MediaType.IsImage() {
		return desc, err
	}
	if depth >= maxIndexDepth {
		return nil, fmt.Errorf("index within index, more than %d deep", maxIndexDepth)
	}
	idx, err := desc.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	child, err := pick(manifest.Manifests, platform)
	if err != nil {
		return nil, err
	}
	return r.resolve(ref.Context().Digest(child.Digest.String()), platform, depth+1)
}

// pick chooses the image for a platform, or else an index within the index
// that does not say what it is for.
func pick(manifests []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	if want.OS == "" {
		want.OS = "linux"
	}
	if want.Architecture == "" {
		want.Architecture = runtime.GOARCH
	}
	var have []string
	for _, m := range manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue
		}
		if normal(*m.Platform).Satisfies(normal(want)) {
			return m, nil
		}
		have = append(have, m.Platform.String())
	}
	for _, m := range manifests {
		if m.Platform == nil && m.MediaType.IsIndex() {
			return m, nil
		}
	}
	slices.Sort(have)
	return v1.Descriptor{}, fmt.Errorf("no image for %s; there are: %s", want, printable(strings.Join(slices.Compact(have), ", ")))
}

// normal drops the variant that every machine of the architecture has.
func normal(p v1.Platform) v1.Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p
}

// checkManifest refuses sizes no honest image has and layers that are kept
// outside the registry.
func checkManifest(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig {
		return &RefusedError{Text: fmt.Sprintf("an image configuration of %d bytes; the limit is %d MiB", m.Config.Size, maxConfig>>20)}
	}
	for _, l := range m.Layers {
		if l.Size < 0 {
			return &RefusedError{Text: fmt.Sprintf("layer %s of size %d", l.Digest, l.Size)}
		}
		if len(l.URLs) > 0 || !l.MediaType.IsDistributable() {
			return &RefusedError{Text: fmt.Sprintf("layer %s is kept outside the registry (a foreign layer)", l.Digest)}
		}
	}
	return nil
}

// Mountable marks a layer as one that the repository has, so that a push to
// another repository of the same registry sends nothing.
func Mountable(l v1.Layer, from name.Repository) v1.Layer {
	return &remote.MountableLayer{Layer: l, Reference: from.Tag("latest")}
}

// mountedFrom is the repository a layer is known to come from.
func mountedFrom(l v1.Layer) (name.Repository, bool) {
	if m, ok := l.(*remote.MountableLayer); ok {
		return m.Reference.Context(), true
	}
	return name.Repository{}, false
}
