package bake

import (
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/secret"
)

// Artifact is what a bake or a post-processor made. It is a value: to change
// one, make another. The media type tells what it is: with Image set it is a
// container image, with Index set a multi-platform one, else Files.
type Artifact struct {
	Builder   string            // the Kind that made it: docker, checksum, ...
	MediaType types.MediaType   // of the manifest or the file
	Digest    v1.Hash           // of the manifest or the only file; zero for several files
	Size      int64             // bytes of the manifest's blobs, or of the files
	Platform  *v1.Platform      // of a container image
	Image     v1.Image          // content; layers are opened (and fetched) on demand
	Index     v1.ImageIndex     // content of a multi-platform image
	Files     []string          // absolute paths
	Refs      []Ref             // names given so far: tags to load, push or both
	Base      Base              // what it was made from
	Removed   []string          // noise that was left out of the image, as paths
	EngineID  string            // the image's ID in the engine that holds it, if one does
	Facts     map[string]string // values for later expressions (build.ID and the like)
	Steps     []Checkpoint      // of a Resumer's image: what it was made of on top of Base
	Foreign   bool              // Files were there before and are never deleted as intermediate
}

// Base is the image a bake started from.
type Base struct {
	Name   string  // as the template has it; for an earlier stage the bake's name
	Digest v1.Hash // manifest digest, if known
	ID     v1.Hash // config digest
}

// Ref is a parsed reference of a container image and, optionally, the
// credentials to use for it instead of the ones found by registry.
type Ref struct {
	name.Reference
	Auth Credentials
}

// Credentials sign in to a registry. The zero value is none.
type Credentials struct {
	Username string
	Password secret.Value
}

// Summary is the artifact as events, records and reports show it.
func (a Artifact) Summary() ArtifactSummary {
	s := ArtifactSummary{
		Builder: a.Builder, MediaType: string(a.MediaType), Size: a.Size, EngineID: a.EngineID,
		Files: a.Files, Base: a.Base.Name, Removed: a.Removed,
	}
	if a.Digest != (v1.Hash{}) {
		s.Digest = a.Digest.String()
	}
	if a.Base.Digest != (v1.Hash{}) {
		s.BaseID = a.Base.Digest.String()
	}
	if a.Platform != nil {
		s.Platform = a.Platform.String()
	}
	for _, ref := range a.Refs {
		s.Tags = append(s.Tags, ref.Name())
	}
	if a.Image != nil {
		if manifest, err := a.Image.Manifest(); err == nil {
			for _, l := range manifest.Layers {
				s.Layers = append(s.Layers, l.Digest.String())
			}
		}
	}
	return s
}

// WithRefs returns the artifact with references added.
func (a Artifact) WithRefs(refs ...Ref) Artifact {
	a.Refs = append(a.Refs[:len(a.Refs):len(a.Refs)], refs...)
	return a
}
