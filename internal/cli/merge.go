package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/publish"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/value"
)

// mergeFlags are those of merge.
type mergeFlags struct {
	registries
	tags        []string
	annotations []string
	dryRun      bool
	record      string
}

func (a *App) merge() *cobra.Command {
	var f mergeFlags
	cmd := &cobra.Command{
		Use:   "merge REPOSITORY@DIGEST...",
		Short: "Join images for several platforms into one index",
		Long: `Joins images that were pushed by digest, from different machines for instance,
into one index, and moves tags to it. An index that is given is taken apart. The
images are mounted, or else copied, into every repository that is tagged. Prints
the digest of the index.

A tag is a whole reference, or a word: that tag of the first image's repository.
Without any the index is pushed there by its digest only.`,
		Example: `  imgbake merge --tag 1.2 --tag latest ghcr.io/acme/web@sha256:3f… ghcr.io/acme/web@sha256:a1…`,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.runMerge(cmd.Context(), args, f) },
	}
	flags := cmd.Flags()
	f.registries.add(flags)
	flags.StringArrayVar(&f.tags, "tag", nil, "tag to move: a word, or REPOSITORY:TAG (repeat)")
	flags.StringArrayVar(&f.annotations, "annotation", nil, "annotation of the index, NAME=VALUE (repeat)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "look at the images, but push nothing")
	flags.StringVar(&f.record, "record", "", "write what was joined and pushed to this JSON file")
	return cmd
}

// Merged is what merge did: its record.
type Merged struct {
	Version     int               `json:"version"` // of this format, 1
	Digest      string            `json:"digest"`
	MediaType   string            `json:"media_type"`
	Platforms   []MergedImage     `json:"platforms"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Published   []string          `json:"published,omitempty"` // references by digest
	Tags        []string          `json:"tags,omitempty"`      // that were moved
}

// MergedImage is one image of the index.
type MergedImage struct {
	Platform string `json:"platform,omitempty"`
	Digest   string `json:"digest"`
}

func (a *App) runMerge(ctx context.Context, args []string, f mergeFlags) error {
	m, err := a.mergeImages(ctx, args, f)
	if err != nil {
		return err
	}
	return writeText(a.Stdout, m.index.Digest.String()+"\n")
}

// merged is an index with the names it has now.
type merged struct {
	index        bake.Artifact
	refs, pushed []bake.Ref
}

func (a *App) mergeImages(ctx context.Context, args []string, f mergeFlags) (m merged, err error) {
	sources, err := digests(args)
	if err != nil {
		return m, err
	}
	annotations, err := pairs("annotation", f.annotations)
	if err != nil {
		return m, err
	}
	say := func(text string) { fmt.Fprintln(a.Stderr, text) }
	client, err := f.registries.client(a, say, nil)
	if err != nil {
		return m, err
	}
	defer client.Close()
	if m.index, err = join(ctx, client, sources, annotations); err != nil {
		return m, &exitError{ExitFailed, err}
	}
	if m.refs, err = mergeRefs(sources[0].Context(), f.tags, m.index); err != nil {
		return m, err
	}
	var to bake.Publisher = publish.Registry{Client: client, Notify: say}
	if f.dryRun {
		to = publish.Nowhere{Notify: say}
	}
	if m.pushed, err = to.Publish(ctx, m.index, m.refs); err != nil {
		return m, &exitError{ExitFailed, fmt.Errorf("publishing: %w", err)}
	}
	if f.record != "" {
		if err := writeMerged(a.path(f.record), m.index, annotations, m.refs, m.pushed); err != nil {
			return m, &exitError{ExitFailed, err}
		}
	}
	return m, nil
}

// digests reads the images to join. A tag is refused: it may have moved since
// the image was baked.
func digests(args []string) ([]name.Digest, error) {
	out := make([]name.Digest, len(args))
	for i, arg := range args {
		ref, err := name.NewDigest(arg)
		if err != nil {
			return nil, usage("image %q: want REPOSITORY@sha256:..., as a build tells it in `published`", arg)
		}
		out[i] = ref
	}
	return out, nil
}

// pairs reads entries NAME=VALUE.
func pairs(flag string, entries []string) (map[string]string, error) {
	out := map[string]string{}
	for _, entry := range entries {
		key, v, ok := strings.Cut(entry, "=")
		if !ok || key == "" {
			return nil, usage("--%s %q: want NAME=VALUE", flag, entry)
		}
		out[key] = v
	}
	return out, nil
}

// join fetches the manifests and makes the index.
func join(ctx context.Context, client *registry.Client, sources []name.Digest, annotations map[string]string) (bake.Artifact, error) {
	var members []mutate.IndexAddendum
	for _, ref := range sources {
		found, err := client.Members(ctx, ref, registry.Auth{})
		if err != nil {
			return bake.Artifact{}, err
		}
		members = append(members, found...)
	}
	index, err := bake.IndexArtifact("merge", members, annotations)
	var twice *bake.PlatformTwiceError
	if errors.As(err, &twice) {
		err = fmt.Errorf("%w (give one image for each platform)", err)
	}
	index.Base.Name = sources[0].Name() // where layers may be mounted from
	return index, err
}

// mergeRefs are what to publish under: the tags, or the digest in the home
// repository where there are none.
func mergeRefs(home name.Repository, tags []string, index bake.Artifact) ([]bake.Ref, error) {
	if len(tags) == 0 {
		return []bake.Ref{{Reference: home.Digest(index.Digest.String())}}, nil
	}
	var refs []bake.Ref
	for _, tag := range tags {
		if !strings.ContainsAny(tag, "/:") {
			made, problems := bake.TagNames(home.Name(), []string{tag}, value.Where{}, "")
			if problems.HasErrors() {
				return nil, usage("--tag: %s", problems[0].Text)
			}
			refs = append(refs, made...)
			continue
		}
		ref, err := name.NewTag(tag, name.StrictValidation)
		if err != nil {
			return nil, usage("--tag %q: want a word or REPOSITORY:TAG", tag)
		}
		refs = append(refs, bake.Ref{Reference: ref})
	}
	return refs, nil
}

func writeMerged(path string, index bake.Artifact, annotations map[string]string, refs, pushed []bake.Ref) error {
	manifest, err := index.Index.IndexManifest()
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	out := Merged{Version: 1, Digest: index.Digest.String(), MediaType: string(index.MediaType), Annotations: annotations}
	for _, m := range manifest.Manifests {
		one := MergedImage{Digest: m.Digest.String()}
		if m.Platform != nil {
			one.Platform = m.Platform.String()
		}
		out.Platforms = append(out.Platforms, one)
	}
	for i, ref := range pushed {
		out.Published = append(out.Published, ref.Name())
		if _, isTag := refs[i].Reference.(name.Tag); isTag {
			out.Tags = append(out.Tags, refs[i].Name())
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}
