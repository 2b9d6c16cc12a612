// Package dockersave is the docker-save post-processor: it writes an image to
// an archive that `docker load` takes.
package dockersave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Config is what the template says.
type Config struct {
	Path       string `key:"path" doc:"File to write, relative to the folder imgbake is started in." opt:"required,known"`
	DockerPath string `key:"docker_path" doc:"Accepted for Packer templates: the docker command is not used."`
}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "docker-save",
		Doc:     "Writes the image, with its names, to an archive that docker load takes.",
		Example: "- docker-save: {path: out/web.tar}",
		Title:   func(c Config) string { return "docker-save: " + c.Path },
		New:     func(c Config) (bake.Post, error) { return saver{c}, nil },
	})
}

type saver struct{ Config }

// Process writes the archive and passes the image on, kept.
func (s saver) Process(ctx context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	images, err := bake.Images(in, "docker-save")
	if err != nil {
		return nil, false, err
	}
	path := env.OutPath(s.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, false, err
	}
	temp := path + ".tmp"
	defer os.Remove(temp)
	if err := write(ctx, temp, names(images)); err != nil {
		return nil, false, fmt.Errorf("archive %s: %w", s.Path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, false, err
	}
	return in, true, nil
}

func write(ctx context.Context, path string, images map[name.Reference]v1.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = tarball.MultiRefWrite(images, cancellable{ctx, f})
	return errors.Join(err, f.Close())
}

// cancellable ends writing with its context.
type cancellable struct {
	ctx context.Context
	io.Writer
}

func (c cancellable) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.Writer.Write(p)
}

// names are the images' names; one without any is saved under its digest.
func names(images []bake.Artifact) map[name.Reference]v1.Image {
	refs := map[name.Reference]v1.Image{}
	for _, a := range images {
		for _, ref := range a.Refs {
			refs[ref.Reference] = store.Loadable(a.Image)
		}
		if len(a.Refs) == 0 {
			refs[name.MustParseReference("imgbake").Context().Digest(a.Digest.String())] = store.Loadable(a.Image)
		}
	}
	return refs
}
