package bake

import (
	"fmt"
	"regexp"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Images are the container images among artifacts. It is an error that there
// is none, saying what is needed by whom.
func Images(list []Artifact, who string) ([]Artifact, error) {
	var images []Artifact
	for _, a := range list {
		if a.Image != nil {
			images = append(images, a)
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%s works on a container image, and was given none: use it after a builder that commits one, docker-import or docker-tag", who)
	}
	return images, nil
}

// CheckRepository reports a repository name that no registry would take.
func CheckRepository(repository string, pos diag.Pos) (problems diag.List) {
	if _, err := name.NewRepository(repository); err != nil {
		problems.Add(pos, "write it as registry/path, such as ghcr.io/acme/web", "%q is no repository name", repository)
	}
	return problems
}

// validTag is the distribution specification's rule; package name is laxer.
var validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// TagNames makes the references repository:tag, latest when there is no tag.
// A tag that no registry would take is a problem at its place below key.
func TagNames(repository string, tags []string, where value.Where, key string) (refs []Ref, problems diag.List) {
	if len(tags) == 0 {
		tags = []string{"latest"}
	}
	repo, err := name.NewRepository(repository)
	if err != nil {
		return nil, CheckRepository(repository, where.At("repository"))
	}
	for i, tag := range tags {
		if !validTag.MatchString(tag) {
			problems.Add(where.At(key, i), "letters, digits, '_', '.' and '-', at most 128, not starting with '.' or '-'", "%q is no tag", tag)
			continue
		}
		refs = append(refs, Ref{Reference: repo.Tag(tag)})
	}
	return refs, problems
}

// ImageSize is what a registry stores of an image besides its manifest, in bytes.
func ImageSize(m *v1.Manifest) int64 {
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size
}

// ImageArtifact makes the artifact of a container image.
func ImageArtifact(builder string, img v1.Image) (Artifact, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return Artifact{}, fmt.Errorf("image manifest: %w", err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Artifact{}, fmt.Errorf("image digest: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Artifact{}, fmt.Errorf("image config: %w", err)
	}
	return Artifact{
		Builder: builder, MediaType: manifest.MediaType, Digest: digest, Size: ImageSize(manifest),
		Platform: config.Platform(), Image: img,
	}, nil
}
