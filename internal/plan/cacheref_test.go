package plan_test

import (
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/plan"
)

func TestParseCacheRef(t *testing.T) {
	const forms = " (write HOST/REPOSITORY or HOST/REPOSITORY:TAG, either with ,scope=NAME behind it, or type=registry,ref=HOST/REPOSITORY:TAG,mode=max)"
	tests := []struct{ text, want string }{
		{"ghcr.io/acme/cache", "ghcr.io/acme/cache"},
		{"ghcr.io/acme/cache:main", "ghcr.io/acme/cache:main"},
		{"localhost:5000/cache", "localhost:5000/cache"},
		{"localhost:5000/cache:main,scope=pr-1", "localhost:5000/cache:main,scope=pr-1"},
		{"type=registry,ref=ghcr.io/acme/cache:x,mode=max", "ghcr.io/acme/cache:x"},
		{"type=registry,ref=ghcr.io/acme/cache,mode=max,image-manifest=true,scope=s", "ghcr.io/acme/cache,scope=s"},
		{"type=gha", `cache "type=gha": type=gha is not supported (caches are kept in registries: write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max)`},
		{"type=local,dest=x", `cache "type=local,dest=x": type=local is not supported (caches are kept in registries: write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max)`},
		{"a/b,compression=zstd", `cache "a/b,compression=zstd": unknown attribute "compression=zstd" (there are type, ref, scope and mode)`},
		{"type=registry,ref=a/b,mode=min", `cache "type=registry,ref=a/b,mode=min": mode=min is not supported (every step is kept: write mode=max or nothing)`},
		{"", `cache "" names no repository` + forms},
		{"always", `cache "always" names no repository` + forms},
		{"type=registry", `cache "type=registry" names no repository` + forms},
		{"Ghcr.io/Acme/Cache", `cache "Ghcr.io/Acme/Cache" names no repository` + forms},
		{"a/b@sha256:" + strings.Repeat("0", 64), `cache "a/b@sha256:` + strings.Repeat("0", 64) + `" names no repository` + forms},
	}
	for _, test := range tests {
		ref, err := plan.ParseCacheRef(test.text)
		got := ref.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q:\n got %s\nwant %s", test.text, got, test.want)
		}
	}
}

// No scope that a reference names leads out of the one it is put in.
func TestCacheRefWithin(t *testing.T) {
	for text, want := range map[string]string{
		"a.io/b":                     "a.io/b,scope=pr-7",
		"a.io/b:main":                "a.io/b:main,scope=pr-7",
		"a.io/b,scope=trusted":       "a.io/b,scope=pr-7/trusted",
		"a.io/b,scope=../trusted":    "a.io/b,scope=pr-7/../trusted",
		"a.io/b,scope=x,scope=pr-70": "a.io/b,scope=pr-7/pr-70",
	} {
		ref, err := plan.ParseCacheRef(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := ref.Within("pr-7").String(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
