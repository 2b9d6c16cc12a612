package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerimage "github.com/docker/docker/api/types/image"
	registrytypes "github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/source"
)

// base is the image a bake starts from. The engine has it.
type base struct {
	name     string // as the template has it
	engineID string
	platform v1.Platform
	wanted   bool // the platform was asked for
	diffIDs  []v1.Hash
	env      []string
	workdir  string
	volumes  []string
	created  time.Time
	facts    map[string]string
	digests  []string // RepoDigests
	auth     func(context.Context, name.Repository) (registry.Auth, error)
	note     func(string)

	// image is the base with its layers' digests; it may have to be saved
	// out of the engine for that.
	image  func(context.Context) (v1.Image, error)
	digest v1.Hash // of its manifest, if known before image is asked
}

// findBase makes the engine have the image to start from.
func (b *builder) findBase(ctx context.Context, job bake.Job) (*base, error) {
	made, err := b.source(ctx, job)
	if err != nil {
		return nil, err
	}
	made.auth, made.note = b.auth, job.Notify
	return made, nil
}

func (b *builder) source(ctx context.Context, job bake.Job) (*base, error) {
	platform, wanted := b.platform(job)
	switch c := b.config; {
	case job.From != nil:
		if job.From.Image == nil {
			return nil, errors.New("the image to start from is no container image")
		}
		return b.engine.loadBase(ctx, *job.From, platform, wanted)
	case c.Rootfs != "":
		img, err := b.engine.sources.Rootfs(ctx, source.Absolute(job.Dir, c.Rootfs), platform)
		if err != nil {
			return nil, fmt.Errorf("rootfs %s: %w", c.Rootfs, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return nil, err
		}
		artifact := bake.Artifact{MediaType: types.OCIManifestSchema1, Image: img, Digest: digest, Platform: &platform, Base: bake.Base{Name: c.Rootfs}}
		return b.engine.loadBase(ctx, artifact, platform, wanted)
	case c.Build != nil:
		id, err := b.dockerfile(ctx, job, platform, wanted)
		if err != nil {
			return nil, err
		}
		_, file := c.Build.paths()
		return b.engine.inspectBase(ctx, file, id, platform, wanted)
	case c.Image != "":
		return b.imageBase(ctx, job, platform, wanted)
	}
	return nil, diag.Problem{Text: "the docker builder has nothing to start from", Hint: "give one of " + strings.Join(sources, ", ")}
}

func (b *builder) platform(job bake.Job) (p v1.Platform, wanted bool) {
	if job.Platform.OS != "" || job.Platform.Architecture != "" {
		return job.Platform, true
	}
	if parsed, err := v1.ParsePlatform(b.config.Platform); b.config.Platform != "" && err == nil {
		return *parsed, true
	}
	return b.engine.platform(), false
}

// imageBase follows the pull policy. The lock keeps two platforms of one name
// apart: the engine's name moves with each pull.
func (b *builder) imageBase(ctx context.Context, job bake.Job, platform v1.Platform, wanted bool) (*base, error) {
	ref, err := name.ParseReference(b.config.Image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", b.config.Image, err)
	}
	unlock, err := b.engine.bases.Lock(ctx, "pull "+ref.Name())
	if err != nil {
		return nil, err
	}
	defer unlock()
	have, err := b.engine.inspectBase(ctx, b.config.Image, b.config.Image, platform, wanted)
	var absent *absentError
	if err != nil && !errors.As(err, &absent) {
		return nil, err
	}
	_, byDigest := ref.(name.Digest)
	switch policy := b.config.Pull; {
	case err == nil && (policy != source.PullAlways || byDigest):
		return have, nil
	case policy == source.PullNever:
		return nil, diag.Problem{Text: err.Error(), Hint: "pull: true asks the registry for it"}
	}
	job.Notify("pulling " + b.config.Image)
	if pullErr := b.pull(ctx, ref, platform, wanted); pullErr != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		problem := diag.Problem{Text: fmt.Sprintf("pulling %s: %v", b.config.Image, b.engine.explain(pullErr))}
		if err == nil {
			problem.Hint = "the engine has an image of this name: pull: false uses it"
		}
		return nil, problem
	}
	return b.engine.inspectBase(ctx, b.config.Image, b.config.Image, platform, wanted)
}

func (b *builder) pull(ctx context.Context, ref name.Reference, platform v1.Platform, wanted bool) error {
	auth, err := b.auth(ctx, ref.Context())
	if err != nil {
		return err
	}
	opts := dockerimage.PullOptions{}
	if opts.RegistryAuth, err = encodeAuth(auth, ref.Context().RegistryStr()); err != nil {
		return err
	}
	if wanted {
		opts.Platform = platform.String()
	}
	stream, err := b.engine.api.ImagePull(ctx, ref.Name(), opts)
	if err != nil {
		return err
	}
	defer stream.Close()
	return readMessages(stream, func(message) {})
}

// auth is what login says, or what the docker config knows.
func (b *builder) auth(ctx context.Context, repo name.Repository) (registry.Auth, error) {
	c := b.config
	if c.Login && source.SameServer(c.LoginServer, repo) {
		return registry.Auth{Username: c.LoginUsername, Password: c.LoginPassword.Value}, nil
	}
	if b.engine.deps.Registry == nil {
		return registry.Auth{}, nil
	}
	return b.engine.deps.Registry.Auth(ctx, repo)
}

func encodeAuth(auth registry.Auth, server string) (string, error) {
	if auth.IsZero() {
		return "", nil
	}
	return registrytypes.EncodeAuthConfig(authConfig(auth, server))
}

func authConfig(auth registry.Auth, server string) registrytypes.AuthConfig {
	return registrytypes.AuthConfig{
		Username: auth.Username, Password: auth.Password.Reveal(), IdentityToken: auth.Token.Reveal(), ServerAddress: server,
	}
}

// absentError says that the engine does not have an image.
type absentError struct{ text string }

func (e *absentError) Error() string { return e.text }

// inspectBase describes an image that the engine has.
func (e *Engine) inspectBase(ctx context.Context, shown, ref string, platform v1.Platform, wanted bool) (*base, error) {
	info, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return nil, &absentError{fmt.Sprintf("the engine has no image %s", shown)}
	}
	if err != nil {
		return nil, err
	}
	b := &base{
		name: shown, engineID: info.ID, wanted: wanted, digests: info.RepoDigests,
		platform: v1.Platform{OS: info.Os, Architecture: info.Architecture, Variant: info.Variant},
		facts:    map[string]string{"SourceImageSha256": info.ID},
	}
	if wanted && (info.Os != platform.OS || info.Architecture != platform.Architecture) {
		return nil, &absentError{fmt.Sprintf("the engine's image %s is for %s, not %s", shown, b.platform, platform)}
	}
	for _, l := range info.RootFS.Layers {
		diffID, err := v1.NewHash(l)
		if err != nil {
			return nil, fmt.Errorf("layer of %s: %w", shown, err)
		}
		b.diffIDs = append(b.diffIDs, diffID)
	}
	if info.Config != nil {
		b.env, b.workdir = info.Config.Env, info.Config.WorkingDir
		for v := range info.Config.Volumes {
			b.volumes = append(b.volumes, v)
		}
		slices.Sort(b.volumes)
	}
	if created, err := time.Parse(time.RFC3339Nano, info.Created); err == nil {
		b.created = created
	}
	if len(info.RepoDigests) > 0 {
		b.facts["SourceImageDigest"] = info.RepoDigests[0]
	}
	b.image = func(ctx context.Context) (v1.Image, error) { return e.contentOf(ctx, b) }
	return b, nil
}

// loadBase makes the engine hold an image whose content is known.
func (e *Engine) loadBase(ctx context.Context, a bake.Artifact, platform v1.Platform, wanted bool) (*base, error) {
	shown := a.Base.Name
	if a.Builder != "" && len(a.Refs) > 0 {
		shown = a.Refs[0].Name()
	}
	a.Refs = nil
	loaded, err := e.Load(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("loading the base: %w", err)
	}
	b, err := e.inspectBase(ctx, shown, loaded.EngineID, platform, wanted)
	if err != nil {
		return nil, err
	}
	b.image = func(context.Context) (v1.Image, error) { return a.Image, nil }
	b.digest = a.Digest
	return b, nil
}

// createPlatform is what the engine is told; older engines know no platform
// and need none.
func (b *base) createPlatform(e *Engine) *ocispec.Platform {
	if !b.wanted {
		return nil
	}
	return &ocispec.Platform{OS: b.platform.OS, Architecture: b.platform.Architecture, Variant: b.platform.Variant}
}
