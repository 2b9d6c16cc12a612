package publish

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/store"
)

// Output is a place on disk, or a stream, that takes all images of a run at once.
type Output struct {
	Path   string
	Format Format
	Stream io.Writer // in place of Path, for the archives
}

// Write writes the images with all their layers. A layout keeps what it held;
// an archive is replaced in one go.
func (o Output) Write(ctx context.Context, images []store.Named) (err error) {
	if len(images) == 0 {
		return nil // all that was baked failed: that is told already
	}
	switch o.Format {
	case Layout, "":
		err = store.WriteLayout(ctx, o.Path, images...)
	case OCIArchive:
		err = o.archive(func(w io.Writer) error { return ociStream(ctx, w, images) })
	case DockerArchive:
		err = o.archive(func(w io.Writer) error { return dockerStream(w, images) })
	default:
		err = fmt.Errorf("unknown output format %q", o.Format)
	}
	if err != nil {
		return fmt.Errorf("output %s: %w", o.Path, err)
	}
	return nil
}

func (o Output) archive(write func(io.Writer) error) error {
	if o.Stream != nil {
		return write(o.Stream)
	}
	return Folder{Path: o.Path}.replace(write)
}

func ociStream(ctx context.Context, w io.Writer, images []store.Named) error {
	dir, err := os.MkdirTemp("", "imgbake-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := store.WriteLayout(ctx, dir, images...); err != nil {
		return err
	}
	return tarDir(w, dir)
}

// dockerStream writes what docker load reads. Images without a name get one
// that such archives allow, or else none.
func dockerStream(w io.Writer, images []store.Named) error {
	refs := map[name.Reference]v1.Image{}
	for _, n := range images {
		if n.Image == nil {
			continue // it has no place for several platforms: their images are in it
		}
		ref, err := archiveName(n)
		if err != nil {
			return err
		}
		refs[ref] = store.Loadable(n.Image)
	}
	return tarball.MultiRefWrite(refs, w)
}

// archiveName is the image's tag; a bake's name with a platform becomes one.
func archiveName(n store.Named) (name.Reference, error) {
	text := n.Name
	if bake, platform, several := strings.Cut(text, "@"); several {
		text = bake + ":" + strings.ReplaceAll(platform, "/", "-")
	}
	if tag, err := name.NewTag(strings.ToLower(text)); err == nil {
		return tag, nil
	}
	digest, err := n.Image.Digest()
	if err != nil {
		return nil, err
	}
	return name.NewDigest("image@" + digest.String())
}
