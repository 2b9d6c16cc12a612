package stepcache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/plan"
)

// maxWords is how much of a tag is for people: with the digest behind it, it
// keeps within the 128 characters that a tag may have.
const maxWords = 100

var notInTags = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// tagOf is where one bake's checkpoints are. The digest at its end keeps apart
// what looks alike once it is short and plain.
func tagOf(r plan.CacheRef, b plan.Bake, platform string) name.Tag {
	parts := []string{r.Tag, r.Scope, b.Name, platform}
	exact, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	sum := sha256.Sum256(exact)
	if parts[0] == "" {
		parts[0] = "cache"
	}
	words := notInTags.ReplaceAllString(strings.Join(parts, "-"), "-")
	words = strings.Trim(strings.ReplaceAll(words, "--", "-"), ".-")
	return r.Repository.Tag(words[:min(len(words), maxWords)] + "-" + hex.EncodeToString(sum[:8]))
}
