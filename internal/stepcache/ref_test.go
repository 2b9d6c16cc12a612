package stepcache

import (
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/plan"
)

func TestParseRef(t *testing.T) {
	tests := []struct{ text, want string }{
		{"ghcr.io/acme/cache", "ghcr.io/acme/cache"},
		{"ghcr.io/acme/cache:main", "ghcr.io/acme/cache:main"},
		{"localhost:5000/cache", "localhost:5000/cache"},
		{"localhost:5000/cache:main,scope=pr-1", "localhost:5000/cache:main,scope=pr-1"},
		{"type=registry,ref=ghcr.io/acme/cache:x,mode=max", "ghcr.io/acme/cache:x"},
		{"type=registry,ref=ghcr.io/acme/cache,mode=max,image-manifest=true,scope=s", "ghcr.io/acme/cache,scope=s"},
		{"type=gha", `cache "type=gha": type=gha is not supported: caches are kept in registries, write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max`},
		{"type=local,dest=x", `cache "type=local,dest=x": unknown attribute "dest=x": there are type, ref, scope and mode`},
		{"type=inline", `cache "type=inline": type=inline is not supported: caches are kept in registries, write type=registry,ref=ghcr.io/OWNER/REPOSITORY/cache,mode=max`},
		{"type=registry,ref=a/b,mode=min", `cache "type=registry,ref=a/b,mode=min": mode=min: every step is kept, write mode=max or nothing`},
		{"", `cache reference "": want HOST/REPOSITORY or HOST/REPOSITORY:TAG`},
		{"type=registry", `cache reference "": want HOST/REPOSITORY or HOST/REPOSITORY:TAG`},
		{"a/b@sha256:" + strings.Repeat("0", 64), `cache reference "a/b@sha256:` + strings.Repeat("0", 64) + `": want HOST/REPOSITORY or HOST/REPOSITORY:TAG`},
	}
	for _, test := range tests {
		ref, err := ParseRef(test.text)
		got := ref.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q:\n got %s\nwant %s", test.text, got, test.want)
		}
	}
}

// Tags are valid, readable, and no two bakes share one.
func TestTags(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("x", 200)
	for _, ref := range []string{"a.io/b", "a.io/b:main", "a.io/b,scope=main", "a.io/b,scope=pr-1", "a.io/b,scope=" + long} {
		for _, bakeName := range []string{"web.docker", "web-docker", "pr-1-web.docker", "größe.docker", long + ".docker", long + ".oci"} {
			for _, platform := range []string{"linux/amd64", "linux/arm64/v8"} {
				r, err := ParseRef(ref)
				if err != nil {
					t.Fatal(err)
				}
				tag := r.tag(plan.Bake{Name: bakeName}, platform)
				if again, err := ParseRef(tag.Name()); err != nil || again.Tag != tag.TagStr() {
					t.Errorf("%s: %v", tag, err)
				}
				of := strings.Join([]string{ref, bakeName, platform}, " ")
				if other, ok := seen[tag.Name()]; ok {
					t.Errorf("%s is the tag of %q and of %q", tag, of, other)
				}
				seen[tag.Name()] = of
			}
		}
	}
	r, _ := ParseRef("a.io/b,scope=pr-1")
	if got := r.tag(plan.Bake{Name: "web.docker"}, "linux/amd64").TagStr(); !strings.HasPrefix(got, "cache-pr-1-web.docker-linux-amd64-") {
		t.Errorf("got %s", got)
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("type=registry,ref=ghcr.io/acme/cache:x,mode=max")
	f.Add("localhost:5000/cache:main,scope=pr-1")
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseRef(text)
		if err != nil {
			return
		}
		tag := ref.tag(plan.Bake{Name: text}, "linux/amd64")
		if again, err := ParseRef(tag.Name()); err != nil || again.Tag != tag.TagStr() {
			t.Errorf("%q gives the tag %s: %v", text, tag, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"writes":1,"chains":[[{"key":"k","layer":{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"diffID":"sha256:` + strings.Repeat("1", 64) + `"}}]]}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		held, err := parse(config)
		if err != nil {
			return
		}
		for _, chain := range held.Chains {
			if !held.has(chain) || !held.with(chain).has(chain) {
				t.Errorf("a chain is not found: %v", chain)
			}
		}
	})
}
