package shelllocal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/shelllocal"
	"github.com/imgbake/imgbake-action/internal/shellscript"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, shelllocal.Kind(),
		map[string]map[string]any{"inline": {"inline": "true"}, "command": {"command": "true"}, "script": {"script": "x.sh"}},
		map[string]map[string]any{"nothing": {}, "both": {"inline": "true", "script": "x.sh"}})
	if !shelllocal.Kind().HostExec {
		t.Error("it runs on the host and does not say so")
	}
}

func TestRun(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	env.Vars = []string{"PACKER_BUILD_NAME=main", "TOKEN=" + baketest.Secret}
	host := env.Host.(*baketest.Recorder)
	image := baketest.Image(t, "layer")
	in := []bake.Artifact{{Builder: "checksum"}, image}
	out, keep, err := baketest.NewPost(t, shelllocal.Kind(), map[string]any{"inline": "echo hello"}).Process(t.Context(), env, in)
	if err != nil || !keep || len(out) != 2 {
		t.Fatalf("got %v, keep %t, error %v", out, keep, err)
	}
	calls := host.Of(baketest.OpExec)
	if len(calls) != 1 || !strings.Contains(calls[0].Stdin, "echo hello") {
		t.Fatalf("ran %v", calls)
	}
	for _, want := range append(env.Vars, "IMGBAKE_DIGEST="+image.Digest.String()) {
		if !slices.Contains(calls[0].Cmd.Env, want) {
			t.Errorf("the environment %q lacks %s", calls[0].Cmd.Env, want)
		}
	}
	if strings.Contains(host.Shown(), baketest.Secret) {
		t.Error("the environment can be seen")
	}
}

func TestFails(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	post := baketest.NewPost(t, shelllocal.Kind(), map[string]any{"inline": "false"})
	env.Host = &baketest.Recorder{OnExec: func(context.Context, bake.Cmd, string) (int, error) { return 3, nil }}
	var exit *bake.ExitError
	if _, _, err := post.Process(t.Context(), env, nil); !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("got %v", err)
	}
	env.Host = nil
	if _, _, err := post.Process(t.Context(), env, nil); !errors.Is(err, shellscript.ErrHostNotAllowed) {
		t.Errorf("without a host: got %v", err)
	}
}

func TestNoteWhenSkipped(t *testing.T) {
	env, _, sink := baketest.PostEnv(t)
	post := baketest.NewPost(t, shelllocal.Kind(), map[string]any{"inline": "true", "only_on": []string{"windows"}})
	if _, _, err := post.Process(t.Context(), env, nil); err != nil || len(sink.Texts(bake.Note)) != 1 {
		t.Errorf("error %v, notes %q", err, sink.Texts(bake.Note))
	}
}
