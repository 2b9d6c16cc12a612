package bake_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestImages(t *testing.T) {
	file, image := bake.Artifact{Files: []string{"/x"}}, baketest.Image(t, "layer")
	got, err := bake.Images([]bake.Artifact{file, image}, "docker-tag")
	if err != nil || len(got) != 1 || got[0].Digest != image.Digest {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := bake.Images([]bake.Artifact{file}, "docker-tag"); err == nil || !strings.HasPrefix(err.Error(), "docker-tag ") {
		t.Errorf("got %v", err)
	}
}

func TestTagNames(t *testing.T) {
	long := strings.Repeat("x", 128)
	tests := []struct {
		repository string
		tags       []string
		want       []string
		problems   int
	}{
		{"web", nil, []string{"index.docker.io/library/web:latest"}, 0},
		{"ghcr.io/acme/web", []string{"1.2", "v_x"}, []string{"ghcr.io/acme/web:1.2", "ghcr.io/acme/web:v_x"}, 0},
		{"localhost:5000/web", []string{long}, []string{"localhost:5000/web:" + long}, 0},
		{"web", []string{"ok", "", ".x", "-x", "a b", "a:b", long + "x"}, []string{"index.docker.io/library/web:ok"}, 6},
		{"Web", []string{"1"}, nil, 1},
		{"ghcr.io/acme/web:1", nil, nil, 1},
		{"", nil, nil, 1},
	}
	for _, test := range tests {
		refs, problems := bake.TagNames(test.repository, test.tags, value.Where{}, "tags")
		var got []string
		for _, ref := range refs {
			got = append(got, ref.Name())
		}
		if diff := cmp.Diff(test.want, got); diff != "" || len(problems) != test.problems {
			t.Errorf("%s %q: problems %v, -want +got:\n%s", test.repository, test.tags, problems, diff)
		}
	}
}

// The problems stand at the key and the index they are about.
func TestTagNamesPlaces(t *testing.T) {
	line := func(n int) diag.Pos { return diag.Pos{File: "t.yaml", Line: n} }
	var config struct {
		Repository string   `key:"repository"`
		Tags       []string `key:"tags"`
	}
	where, _ := value.Decode(value.Node{Pos: line(1), V: value.Object{
		{Key: "repository", Node: value.Of(line(2), "web")},
		{Key: "tags", Node: value.Node{Pos: line(3), V: value.List{value.Of(line(4), "ok"), value.Of(line(5), "-no")}}},
	}}, &config)
	if _, problems := bake.TagNames(config.Repository, config.Tags, where, "tags"); len(problems) != 1 || problems[0].Pos != line(5) {
		t.Errorf("tag: %v", problems)
	}
	if _, problems := bake.TagNames("No Repository", nil, where, "tags"); len(problems) != 1 || problems[0].Pos != line(2) {
		t.Errorf("repository: %v", problems)
	}
}

func TestImageArtifact(t *testing.T) {
	a := baketest.Image(t, "layer")
	manifest, err := a.Image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if want := manifest.Config.Size + int64(len("layer")); a.Size != want || a.MediaType != manifest.MediaType || a.Builder != "docker" {
		t.Errorf("size %d, want %d; %+v", a.Size, want, a)
	}
	digest, err := a.Image.Digest()
	if err != nil || digest != a.Digest {
		t.Errorf("digest %s, want %s, %v", a.Digest, digest, err)
	}
}

func TestArtifactIsAValue(t *testing.T) {
	one := baketest.Image(t, "layer", "web:1")
	two, three := one.WithRefs(baketest.Image(t, "x", "web:2").Refs...), one.WithRefs(baketest.Image(t, "x", "web:3").Refs...)
	for want, a := range map[string]bake.Artifact{"1": one, "1 2": two, "1 3": three} {
		var tags []string
		for _, ref := range a.Summary().Tags {
			tags = append(tags, strings.TrimPrefix(ref, "index.docker.io/library/web:"))
		}
		if got := strings.Join(tags, " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	two.Base = bake.Base{Name: "debian", Digest: v1.Hash{Algorithm: "sha256", Hex: "ab"}}
	s := two.Summary()
	if s.Base != "debian" || s.BaseID != "sha256:ab" || s.Digest != two.Digest.String() || len(s.Layers) != 1 {
		t.Errorf("summary %+v", s)
	}
}
