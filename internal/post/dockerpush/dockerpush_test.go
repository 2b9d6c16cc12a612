package dockerpush_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/dockerpush"
)

const password = "canary-pa55word"

func TestSuite(t *testing.T) {
	login := map[string]any{"login": true, "login_username": "me", "login_password": password}
	baketest.PostSuite(t, dockerpush.Kind(),
		map[string]map[string]any{"plain": {}, "login": login},
		map[string]map[string]any{
			"login without a password": {"login": true, "login_username": "me"},
			"login without a user":     {"login": true, "login_password": password},
			"server":                   {"login_server": "no registry"},
			"ecr":                      {"ecr_login": true},
			"aws":                      {"aws_profile": "x"},
		})
}

func TestUnusedLoginIsAWarning(t *testing.T) {
	problems := dockerpush.Kind().Check(baketest.Body(map[string]any{"login_username": "me", "login_password": password}))
	if len(problems) != 1 || problems.HasErrors() || !strings.Contains(problems[0].Text, "without login") {
		t.Errorf("got %v", problems)
	}
}

// Every name of the image goes out in one call, and it is kept.
func TestPush(t *testing.T) {
	env, publisher, sink := baketest.PostEnv(t)
	image := baketest.Image(t, "layer", "ghcr.io/acme/web:1", "ghcr.io/acme/web:latest", "localhost:5000/web:1")
	in := []bake.Artifact{image, {Builder: "checksum", Files: []string{"/sums"}}}
	out, keep, err := baketest.NewPost(t, dockerpush.Kind(), nil).Process(t.Context(), env, in)
	if err != nil || !keep || len(out) != 2 {
		t.Fatalf("got %v, keep %t, error %v", out, keep, err)
	}
	pushes := publisher.Pushes()
	if len(pushes) != 1 || len(pushes[0].Refs) != 3 || pushes[0].Artifact.Digest != image.Digest {
		t.Fatalf("pushed %v", pushes)
	}
	if events := sink.Events(); len(events) != 0 {
		t.Errorf("telling what was published is the publisher's: %v", events)
	}
}

// Credentials of the template go to their registry only. Packer's templates
// write the server as a URL, too.
func TestLogin(t *testing.T) {
	tests := map[string]struct {
		server string
		want   []string // the users by ref: Docker Hub, ghcr
		warned bool
	}{
		"every registry": {"", []string{"me", "me"}, false},
		"host":           {"ghcr.io", []string{"", "me"}, false},
		"url":            {"https://ghcr.io/", []string{"", "me"}, false},
		"hub":            {"docker.io", []string{"me", ""}, false},
		"hub's url":      {"https://index.docker.io/v1/", []string{"me", ""}, false},
		"another":        {"quay.io", []string{"", ""}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env, publisher, sink := baketest.PostEnv(t)
			image := baketest.Image(t, "layer", "acme/web:1", "ghcr.io/acme/web:1")
			body := map[string]any{"login": true, "login_username": "me", "login_password": password}
			if test.server != "" {
				body["login_server"] = test.server
			}
			if _, _, err := baketest.NewPost(t, dockerpush.Kind(), body).Process(t.Context(), env, []bake.Artifact{image}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ref := range publisher.Pushes()[0].Refs {
				got = append(got, ref.Auth.Username)
				if ref.Auth.Username != "" && ref.Auth.Password.Reveal() != password {
					t.Errorf("%s: the password is not that of the template", ref)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("users, -want +got:\n%s", diff)
			}
			if warned := len(sink.Texts(bake.Warned)) > 0; warned != test.warned {
				t.Errorf("warned %t, want %t", warned, test.warned)
			}
			if shown := fmt.Sprintf("%+v %+v", sink.Events(), publisher.Pushes()); strings.Contains(shown, password) {
				t.Error("the password can be seen")
			}
		})
	}
}

func TestPushFails(t *testing.T) {
	env, publisher, _ := baketest.PostEnv(t)
	post := baketest.NewPost(t, dockerpush.Kind(), nil)
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{baketest.Image(t, "layer")}); err == nil || !strings.Contains(err.Error(), "docker-tag") {
		t.Errorf("without a name: got %v", err)
	}
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{{Files: []string{"/x"}}}); err == nil {
		t.Error("without an image: got no error")
	}
	if len(publisher.Pushes()) != 0 {
		t.Errorf("pushed %v", publisher.Pushes())
	}
	publisher.Err = errors.New("denied")
	if _, _, err := post.Process(t.Context(), env, []bake.Artifact{baketest.Image(t, "layer", "web:1")}); !errors.Is(err, publisher.Err) {
		t.Errorf("got %v", err)
	}
}
