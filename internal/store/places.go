package store

import (
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// places is the cache kind that holds the repositories of a registry in which
// a blob was seen.
const places = "places"

// maxPlaces is how many repositories are remembered for one blob.
const maxPlaces = 8

// Places implements registry.Places: what one run pushed or pulled, the next
// one mounts.
func (s *Store) Places(registry string, blob v1.Hash) []string {
	known, ok := s.Cached(places, registry+"/"+blob.String())
	if !ok {
		return nil
	}
	return strings.Fields(string(known))
}

// AddPlace implements registry.Places. A hint that cannot be kept is none.
func (s *Store) AddPlace(registry string, blob v1.Hash, repository string) {
	known := s.Places(registry, blob)
	if len(known) > 0 && known[0] == repository {
		return
	}
	known = slices.DeleteFunc(known, func(r string) bool { return r == repository })
	known = append([]string{repository}, known[:min(len(known), maxPlaces-1)]...)
	_ = s.PutCached(places, registry+"/"+blob.String(), []byte(strings.Join(known, "\n")))
}
