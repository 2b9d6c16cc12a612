package stepcache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/plan"
)

// Ref says where in a registry checkpoints are kept: a repository, and what
// tells apart those who share it.
type Ref struct {
	Repository name.Repository
	Tag        string // what tags begin with; may be empty
	Scope      string // may be empty
}

// idle are attributes of buildx that change nothing here: what they ask for is
// done anyway.
var idle = map[string]bool{"mode": true, "image-manifest": true, "oci-mediatypes": true, "ignore-error": true}

// ParseRef reads HOST/REPO, HOST/REPO:TAG, either with ,scope=NAME behind it, or
// buildx's type=registry,ref=HOST/REPO:TAG,mode=max.
func ParseRef(text string) (Ref, error) {
	kind, target, scope := "registry", "", ""
	for i, part := range strings.Split(text, ",") {
		key, value, pair := strings.Cut(part, "=")
		switch {
		case !pair && i == 0:
			target = part
		case key == "type":
			kind = value
		case key == "ref":
			target = value
		case key == "scope" && value != "":
			scope = value
		case key == "mode" && value == "min":
			return Ref{}, fmt.Errorf("cache %q: mode=min: every step is kept, write mode=max or nothing", text)
		case pair && idle[key]:
		default:
			return Ref{}, fmt.Errorf("cache %q: unknown attribute %q: there are type, ref, scope and mode", text, part)
		}
	}
	if kind != "registry" {
		return Ref{}, fmt.Errorf("cache %q: type=%s is not supported: caches are kept in registries, write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max", text, kind)
	}
	return parseTarget(target, scope)
}

func parseTarget(target, scope string) (Ref, error) {
	if target == "" || strings.Contains(target, "@") {
		return Ref{}, fmt.Errorf("cache reference %q: want HOST/REPOSITORY or HOST/REPOSITORY:TAG", target)
	}
	if repo, err := name.NewRepository(target); err == nil {
		return Ref{Repository: repo, Scope: scope}, nil
	}
	tag, err := name.NewTag(target)
	if err != nil {
		return Ref{}, fmt.Errorf("cache reference: %w", err)
	}
	return Ref{Repository: tag.Context(), Tag: tag.TagStr(), Scope: scope}, nil
}

// String is the reference as it may be written.
func (r Ref) String() string {
	text := r.Repository.Name()
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Scope != "" {
		text += ",scope=" + r.Scope
	}
	return text
}

// maxWords is how much of a tag is for people: with the digest behind it, it
// keeps within the 128 characters that a tag may have.
const maxWords = 100

var notInTags = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// tag is where one bake's checkpoints are. The digest at its end keeps apart
// what looks alike once it is short and plain.
func (r Ref) tag(b plan.Bake, platform string) name.Tag {
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
