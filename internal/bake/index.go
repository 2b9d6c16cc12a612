package bake

import (
	"cmp"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// PlatformTwiceError says that two images of an index are for one platform.
type PlatformTwiceError struct {
	Platform      string
	First, Second v1.Hash
}

// Error names the platform and both images.
func (e *PlatformTwiceError) Error() string {
	return fmt.Sprintf("two images for %s: %s and %s", e.Platform, e.First, e.Second)
}

// IndexArtifact makes the artifact of images for several platforms, one each:
// an index, the same whatever order they are given in. An image that is given
// twice is in it once. What is for no platform, such as an attestation, is
// passed on.
func IndexArtifact(builder string, members []mutate.IndexAddendum, annotations map[string]string) (Artifact, error) {
	members, err := distinct(members)
	if err != nil {
		return Artifact{}, err
	}
	index := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, members...), types.OCIImageIndex)
	if len(annotations) > 0 {
		index = mutate.Annotations(index, annotations).(v1.ImageIndex)
	}
	digest, err := index.Digest()
	if err != nil {
		return Artifact{}, fmt.Errorf("index: %w", err)
	}
	a := Artifact{Builder: builder, MediaType: types.OCIImageIndex, Digest: digest, Index: index}
	for _, m := range members {
		if img, ok := m.Add.(v1.Image); ok {
			one, err := ImageArtifact(builder, img)
			if err != nil {
				return Artifact{}, err
			}
			a.Size += one.Size
		}
	}
	return a, nil
}

// distinct sorts the images by platform, each once.
func distinct(members []mutate.IndexAddendum) ([]mutate.IndexAddendum, error) {
	var out []mutate.IndexAddendum
	seen := map[string]v1.Hash{}
	given := map[v1.Hash]bool{}
	for _, m := range members {
		digest, err := m.Add.Digest()
		if err != nil {
			return nil, fmt.Errorf("image digest: %w", err)
		}
		if given[digest] {
			continue
		}
		given[digest] = true
		platform := platformKey(m.Platform)
		if first, taken := seen[platform]; taken && platform != "" {
			return nil, &PlatformTwiceError{platform, first, digest}
		}
		seen[platform] = digest
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b mutate.IndexAddendum) int {
		return cmp.Or(compareEmpty(platformKey(a.Platform), platformKey(b.Platform)), cmp.Compare(platformKey(a.Platform), platformKey(b.Platform)))
	})
	return out, nil
}

// compareEmpty puts what is for no platform last.
func compareEmpty(a, b string) int {
	switch {
	case a != "" && b == "":
		return -1
	case a == "" && b != "":
		return 1
	}
	return 0
}

// platformKey is the platform without a variant that every machine of the
// architecture has; "" for none.
func platformKey(p *v1.Platform) string {
	if p == nil || p.OS == "" || p.OS == "unknown" {
		return ""
	}
	key := *p
	if key.Architecture == "arm64" && key.Variant == "v8" || key.Architecture == "amd64" && key.Variant == "v1" {
		key.Variant = ""
	}
	return key.String()
}
