package dockertag_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/post/dockertag"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, dockertag.Kind(),
		map[string]map[string]any{
			"repository": {"repository": "ghcr.io/acme/web"},
			"packer":     {"repository": "acme/web", "tag": "1.0", "force": true, "docker_path": "podman"},
			"tags":       {"repository": "localhost:5000/web", "tags": []string{"1", "latest"}},
		},
		map[string]map[string]any{
			"no repository": {"tags": "1"}, "bad repository": {"repository": "Acme/Web"},
			"bad tag": {"repository": "web", "tags": []string{"ok", "-no"}}, "tag in repository": {"repository": "web:1"},
		})
}

func TestNames(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	in := []bake.Artifact{baketest.Image(t, "layer", "localhost:5000/first:1"), {Builder: "checksum", Files: []string{"/sums"}}}
	tests := []struct {
		body map[string]any
		want []string
	}{
		{map[string]any{"repository": "ghcr.io/acme/web"}, []string{"ghcr.io/acme/web:latest"}},
		{map[string]any{"repository": "acme/web", "tag": "1.0"}, []string{"index.docker.io/acme/web:1.0"}},
		{map[string]any{"repository": "localhost:5000/web", "tags": []string{"1", "2"}}, []string{"localhost:5000/web:1", "localhost:5000/web:2"}},
	}
	for _, test := range tests {
		out, keep, err := baketest.NewPost(t, dockertag.Kind(), test.body).Process(t.Context(), env, in)
		if err != nil || !keep || len(out) != 2 {
			t.Fatalf("got %v, keep %t, error %v", out, keep, err)
		}
		if diff := cmp.Diff(append([]string{"localhost:5000/first:1"}, test.want...), out[0].Summary().Tags); diff != "" {
			t.Errorf("%v, -want +got:\n%s", test.body, diff)
		}
	}
	if len(in[0].Refs) != 1 {
		t.Errorf("the artifact given was changed: %v", in[0].Refs)
	}
}

func TestNoImage(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	_, _, err := baketest.NewPost(t, dockertag.Kind(), map[string]any{"repository": "web"}).Process(t.Context(), env, []bake.Artifact{{Files: []string{"/x.tar"}}})
	if err == nil || !strings.Contains(err.Error(), "docker-import") {
		t.Errorf("got %v", err)
	}
}

// A bad tag is reported at its own place, whatever the key is called.
func TestPlaceOfABadTag(t *testing.T) {
	for _, key := range []string{"tag", "tags"} {
		at := func(line int) diag.Pos { return diag.Pos{File: "t.yaml", Line: line} }
		body := value.Node{Pos: at(1), V: value.Object{
			{Key: "repository", Node: value.Of(at(2), "web")},
			{Key: key, Node: value.Node{Pos: at(3), V: value.List{value.Of(at(4), "ok"), value.Of(at(5), "not ok")}}},
		}}
		problems := dockertag.Kind().Check(body)
		if len(problems) != 1 || problems[0].Pos != at(5) {
			t.Errorf("%s: got %v", key, problems)
		}
	}
}
