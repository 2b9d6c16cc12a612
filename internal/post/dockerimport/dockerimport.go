// Package dockerimport is the docker-import post-processor: it makes a
// container image of a root file system tar.
package dockerimport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/store"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Repository string   `key:"repository" doc:"Repository to name the image in." opt:"required,known"`
	Tag        string   `key:"tag" doc:"Tag to give it." opt:"known,default=latest"`
	Changes    []string `key:"changes" doc:"Dockerfile instructions that change the image configuration, such as CMD and ENV." opt:"known"`
	Platform   string   `key:"platform" doc:"Platform of the file system, os/arch[/variant]. Default: linux on this machine's architecture." opt:"known"`
	DockerPath string   `key:"docker_path" doc:"Accepted for Packer templates: the docker command is not used."`
}

// Kind describes the post-processor. The layer is kept in the store.
func Kind(layers *store.Store) bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "docker-import",
		Doc:     "Makes an image with one layer of the tar that a builder exported.",
		Example: "- [docker-import: {repository: local/base, tag: \"1.0\"}, docker-push]",
		Check:   check,
		Title:   func(c Config) string { return "docker-import: " + c.Repository },
		New:     func(c Config) (bake.Post, error) { return importer{c, layers}, nil },
	})
}

func check(c Config, w value.Where) diag.List {
	_, problems := bake.TagNames(c.Repository, tags(c), w, "tag")
	var bad *imageconfig.Error
	if errors.As(imageconfig.Check(c.Changes), &bad) {
		problems.Add(w.At("changes", bad.Index), bad.Hint, "%s", bad.Text)
	}
	if _, err := platform(c.Platform); err != nil {
		problems.Add(w.At("platform"), "write os/arch, such as linux/amd64", "%q is no platform", c.Platform)
	}
	return problems
}

func tags(c Config) []string {
	if c.Tag == "" {
		return nil
	}
	return []string{c.Tag}
}

func platform(text string) (*v1.Platform, error) {
	if text == "" {
		return &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := v1.ParsePlatform(text)
	if err == nil && (p.OS == "" || p.Architecture == "") {
		err = errors.New("no architecture")
	}
	return p, err
}

type importer struct {
	Config
	layers *store.Store
}

// Process makes the image. The tar is given up unless keep_input_artifact says
// otherwise.
func (i importer) Process(ctx context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	if len(in) != 1 || len(in[0].Files) != 1 {
		return nil, false, errors.New("docker-import works on one tar file: use it after a builder with export_path")
	}
	layer, err := i.layer(ctx, in[0].Files[0], env.Job.Compression)
	if err != nil {
		return nil, false, fmt.Errorf("import of %s: %w", in[0].Files[0], err)
	}
	img, err := i.image(env.Job, layer)
	if err != nil {
		return nil, false, err
	}
	if _, err := i.layers.PutImage(img); err != nil {
		return nil, false, err
	}
	a, err := bake.ImageArtifact("docker-import", img)
	if err != nil {
		return nil, false, err
	}
	refs, problems := bake.TagNames(i.Repository, tags(i.Config), value.Where{}, "tag")
	if err := problems.Err(); err != nil {
		return nil, false, err
	}
	a.Base, a.Facts = in[0].Base, in[0].Facts
	return []bake.Artifact{a.WithRefs(refs...)}, false, nil
}

func (i importer) layer(ctx context.Context, tar string, compression bake.Compression) (v1.Layer, error) {
	f, err := os.Open(tar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w, err := i.layers.NewLayer(ctx, compression)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, f); err != nil {
		w.Abort()
		return nil, err
	}
	return w.Commit()
}

func (i importer) image(job bake.Job, layer v1.Layer) (v1.Image, error) {
	p, err := platform(i.Platform)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: job.FileTime()}
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: layer, History: v1.History{Created: created, CreatedBy: "imgbake docker-import"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.Created = p.OS, p.Architecture, p.Variant, created
	if err := imageconfig.Instruct(&config.Config, i.Changes); err != nil {
		return nil, err
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigMediaType(img, types.OCIConfigJSON), nil
}
