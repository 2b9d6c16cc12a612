package plan

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// CacheRef says where in a registry steps are kept: a repository, and what
// tells apart those who share it. The zero CacheRef is nowhere.
type CacheRef struct {
	Repository name.Repository
	Tag        string // what tags begin with; may be empty
	Scope      string // may be empty
}

// idle are attributes of buildx that change nothing here: what they ask for is
// done anyway.
var idle = map[string]bool{"mode": true, "image-manifest": true, "oci-mediatypes": true, "ignore-error": true}

// cacheForms is what a reference may look like, for people.
const cacheForms = "write HOST/REPOSITORY or HOST/REPOSITORY:TAG, either with ,scope=NAME behind it, or type=registry,ref=HOST/REPOSITORY:TAG,mode=max"

// ParseCacheRef reads HOST/REPO, HOST/REPO:TAG, either with ,scope=NAME behind
// it, or buildx's type=registry,ref=HOST/REPO:TAG,mode=max. The error is a
// diag.Problem without a place.
func ParseCacheRef(text string) (CacheRef, error) {
	kind, target, scope, odd := "registry", "", "", ""
	for i, part := range strings.Split(text, ",") {
		key, arg, pair := strings.Cut(part, "=")
		switch {
		case !pair && i == 0:
			target = part
		case key == "type":
			kind = arg
		case key == "ref":
			target = arg
		case key == "scope" && arg != "":
			scope = arg
		case pair && idle[key] && part != "mode=min":
		default:
			odd = part
		}
	}
	switch {
	case kind != "registry":
		return CacheRef{}, cacheProblem("caches are kept in registries: write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max",
			"cache %q: type=%s is not supported", text, kind)
	case odd == "mode=min":
		return CacheRef{}, cacheProblem("every step is kept: write mode=max or nothing", "cache %q: mode=min is not supported", text)
	case odd != "":
		return CacheRef{}, cacheProblem("there are type, ref, scope and mode", "cache %q: unknown attribute %q", text, odd)
	}
	ref, ok := cacheTarget(target)
	if !ok {
		return CacheRef{}, cacheProblem(cacheForms, "cache %q names no repository", text)
	}
	ref.Scope = scope
	return ref, nil
}

// cacheTarget reads a repository with or without a tag. A word alone would be
// one of Docker Hub's own images, where nobody keeps a cache.
func cacheTarget(target string) (CacheRef, bool) {
	if !strings.Contains(target, "/") || strings.Contains(target, "@") {
		return CacheRef{}, false
	}
	if repo, err := name.NewRepository(target); err == nil {
		return CacheRef{Repository: repo}, true
	}
	tag, err := name.NewTag(target)
	return CacheRef{Repository: tag.Context(), Tag: tag.TagStr()}, err == nil
}

func cacheProblem(hint, format string, args ...any) error {
	return diag.Problem{Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Within is the part of the cache that belongs to a scope. A scope that the
// reference has already lies below it, so no reference leads out of one.
func (r CacheRef) Within(scope string) CacheRef {
	if r.Scope != "" {
		scope += "/" + r.Scope
	}
	r.Scope = scope
	return r
}

// String is the reference as it may be written.
func (r CacheRef) String() string {
	text := r.Repository.Name()
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Scope != "" {
		text += ",scope=" + r.Scope
	}
	return text
}

// MarshalText makes it a text in JSON.
func (r CacheRef) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// ValueType is what the reference calls it.
func (CacheRef) ValueType() string { return "string" }

// UnmarshalValue implements value.Unmarshaler. An empty text is nowhere.
func (r *CacheRef) UnmarshalValue(n value.Node) (problems diag.List) {
	text, ok := value.Text(n)
	switch {
	case n.V == nil:
	case !ok:
		problems.Add(n.Pos, cacheForms, "expected a cache, found %s", value.Describe(n))
	case text != "":
		var err error
		*r, err = ParseCacheRef(text)
		problems.AppendErr(n.Pos, err)
	}
	return problems
}
