package stepcache

import (
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/plan"
)

// Tags are valid, readable, and no two bakes share one.
func TestTags(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("x", 200)
	for _, ref := range []string{"a.io/b", "a.io/b:main", "a.io/b,scope=main", "a.io/b,scope=pr-1", "a.io/b,scope=" + long} {
		for _, bakeName := range []string{"web.docker", "web-docker", "pr-1-web.docker", "größe.docker", long + ".docker", long + ".oci"} {
			for _, platform := range []string{"linux/amd64", "linux/arm64/v8"} {
				r, err := plan.ParseCacheRef(ref)
				if err != nil {
					t.Fatal(err)
				}
				tag := tagOf(r, plan.Bake{Name: bakeName}, platform)
				if again, err := plan.ParseCacheRef(tag.Name()); err != nil || again.Tag != tag.TagStr() {
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
	r, _ := plan.ParseCacheRef("a.io/b,scope=pr-1")
	if got := tagOf(r, plan.Bake{Name: "web.docker"}, "linux/amd64").TagStr(); !strings.HasPrefix(got, "cache-pr-1-web.docker-linux-amd64-") {
		t.Errorf("got %s", got)
	}
}

func FuzzTag(f *testing.F) {
	f.Add("type=registry,ref=ghcr.io/acme/cache:x,mode=max")
	f.Add("localhost:5000/cache:main,scope=pr-1")
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := plan.ParseCacheRef(text)
		if err != nil {
			return
		}
		tag := tagOf(ref, plan.Bake{Name: text}, "linux/amd64")
		if again, err := plan.ParseCacheRef(tag.Name()); err != nil || again.Tag != tag.TagStr() {
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
