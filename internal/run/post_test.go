package run_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// files makes a world whose builder makes the file "built", and post-processors
// that each make a file of their name: "keep…" ones ask for what they were
// given to be kept, "pass…" ones hand it on as well.
func files(t *testing.T) (w *world, b plan.Bake, left func() []string) {
	w = newWorld(t)
	dir := t.TempDir()
	write := func(name string) bake.Artifact {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Error(err)
		}
		return bake.Artifact{Builder: name, Files: []string{path}}
	}
	w.made = func(bake.Job) bake.Artifact { return write("built") }
	for _, name := range []string{"zip", "sum", "keep-sum", "keep-zip", "pass-sum"} {
		w.posts[name] = func(_ bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
			out := []bake.Artifact{write(name)}
			if strings.HasPrefix(name, "pass") {
				out = append(slices.Clone(in), out...)
			}
			return out, strings.HasPrefix(name, "keep") || strings.HasPrefix(name, "pass"), nil
		}
	}
	w.posts["break"] = func(bake.PostEnv, []bake.Artifact) ([]bake.Artifact, bool, error) { return nil, false, errBroken }
	w.posts["found"] = func(bake.PostEnv, []bake.Artifact) ([]bake.Artifact, bool, error) {
		a := write("found")
		a.Foreign = true
		return []bake.Artifact{a}, false, nil
	}
	b = baked("web.a")
	b.Type = "made"
	return w, b, func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
}

// What is kept is what Packer keeps: the builder's artifact unless the first
// post-processor of every sequence gives it up, intermediate ones where the
// next keeps them, and the last of each sequence.
func TestPostSequences(t *testing.T) {
	no, yes := false, true
	type sequence = []string
	tests := map[string]struct {
		posts []sequence
		keep  map[string]*bool // keep_input_artifact by name
		made  []string         // artifacts, in order
		left  []string         // files, sorted
	}{
		"none":                     {nil, nil, []string{"built"}, []string{"built"}},
		"gives up":                 {[]sequence{{"zip"}}, nil, []string{"zip"}, []string{"zip"}},
		"keeps":                    {[]sequence{{"keep-sum"}}, nil, []string{"built", "keep-sum"}, []string{"built", "keep-sum"}},
		"told to keep":             {[]sequence{{"zip"}}, map[string]*bool{"zip": &yes}, []string{"built", "zip"}, []string{"built", "zip"}},
		"told not to keep":         {[]sequence{{"keep-sum"}}, map[string]*bool{"keep-sum": &no}, []string{"keep-sum"}, []string{"keep-sum"}},
		"intermediate given up":    {[]sequence{{"zip", "sum"}}, nil, []string{"sum"}, []string{"sum"}},
		"intermediate kept":        {[]sequence{{"zip", "keep-sum"}}, nil, []string{"zip", "keep-sum"}, []string{"keep-sum", "zip"}},
		"one of two keeps":         {[]sequence{{"zip"}, {"keep-sum"}}, nil, []string{"built", "zip", "keep-sum"}, []string{"built", "keep-sum", "zip"}},
		"both give up":             {[]sequence{{"zip"}, {"sum"}}, nil, []string{"zip", "sum"}, []string{"sum", "zip"}},
		"passed on, then given up": {[]sequence{{"pass-sum", "zip"}, {"sum"}}, nil, []string{"built", "zip", "sum"}, []string{"built", "sum", "zip"}},
		"passed on, told not to":   {[]sequence{{"pass-sum"}}, map[string]*bool{"pass-sum": &no}, []string{"built", "pass-sum"}, []string{"built", "pass-sum"}},
		"foreign is never removed": {[]sequence{{"found", "zip"}}, nil, []string{"zip"}, []string{"found", "zip"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, b, left := files(t)
			for _, names := range test.posts {
				sequence := posts(names...)
				for i, name := range names {
					sequence[i].Common.Keep = test.keep[name]
				}
				b.Posts = append(b.Posts, sequence)
			}
			res := w.one(t, b)
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			var got []string
			for _, a := range res.Artifacts {
				got = append(got, a.Builder)
			}
			if diff := cmp.Diff(test.made, got); diff != "" {
				t.Errorf("artifacts, -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(test.left, left()); diff != "" {
				t.Errorf("files, -want +got:\n%s", diff)
			}
			if n := len(test.made); strings.Count(strings.Join(w.sink.story(), "\n"), "artifact web.a") != n {
				t.Errorf("%d artifacts were not announced: %q", n, w.sink.story())
			}
		})
	}
}

func TestPostFails(t *testing.T) {
	w, b, left := files(t)
	b.Posts = [][]plan.Post{posts("zip"), posts("keep-sum", "break")}
	b.Posts[1][1].Pos.File, b.Posts[1][1].Pos.Line = "t.yaml", 9
	res := w.one(t, b)
	if !errors.Is(res.Err, errBroken) || res.Err.Error() != "t.yaml:9: post-processor 2.2 (post): broken" || res.Artifacts != nil {
		t.Errorf("got %v, %v", res.Err, res.Artifacts)
	}
	if diff := cmp.Diff([]string{"built", "keep-sum", "zip"}, left()); diff != "" {
		t.Errorf("files, -want +got:\n%s", diff)
	}
}

// A builder that makes nothing still has its post-processors run.
// Packer runs the other sequences too, and reports every error.
func TestPostFailsAndTheOthersRun(t *testing.T) {
	w, b, left := files(t)
	b.Posts = [][]plan.Post{posts("break", "zip"), posts("keep-sum"), posts("break")}
	res := w.one(t, b)
	want := "post-processor 1.1 (post): broken\npost-processor 3.1 (post): broken"
	if !errors.Is(res.Err, errBroken) || res.Err.Error() != want || res.Artifacts != nil {
		t.Errorf("got %v, %v", res.Err, res.Artifacts)
	}
	if diff := cmp.Diff([]string{"built", "keep-sum"}, left()); diff != "" {
		t.Errorf("files, -want +got:\n%s", diff)
	}
}

func TestPostsAfterABuilderThatMakesNothing(t *testing.T) {
	w := newWorld(t)
	w.made = func(bake.Job) bake.Artifact { return bake.Artifact{Builder: "null"} }
	ran := false
	w.posts["look"] = func(_ bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
		ran = true
		return in, true, nil
	}
	b := baked("web.a")
	b.Type, b.Posts = "made", [][]plan.Post{posts("look")}
	if res := w.one(t, b); res.Err != nil || res.Artifacts != nil || !ran {
		t.Errorf("got %+v, ran %t", res, ran)
	}
}

// An image under several names is one artifact; the next stage starts from
// what post-processors made last.
func TestImagesAreMerged(t *testing.T) {
	w := newWorld(t)
	imported := baketest.Image(t, "imported", "local/base:1")
	tag := func(ref string) postFunc {
		return func(_ bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
			return []bake.Artifact{in[0].WithRefs(bake.Ref{Reference: name.MustParseReference("web:1")}, bake.Ref{Reference: mustParse(t, ref)})}, true, nil
		}
	}
	w.posts["tag 2"], w.posts["tag 3"] = tag("web:2"), tag("web:3")
	w.posts["import"] = func(bake.PostEnv, []bake.Artifact) ([]bake.Artifact, bool, error) {
		return []bake.Artifact{imported}, false, nil
	}
	b := baked("web.a", "x")
	b.Posts = [][]plan.Post{posts("tag 2"), posts("tag 3"), posts("import")}
	results := w.run(t.Context(), b, from("web.a", baked("child.a")))
	if results[0].Err != nil || len(results[0].Artifacts) != 2 {
		t.Fatalf("got %+v", results[0])
	}
	var tags []string
	for _, ref := range results[0].Artifacts[0].Refs {
		tags = append(tags, ref.Identifier())
	}
	if diff := cmp.Diff([]string{"1", "2", "3"}, tags); diff != "" {
		t.Errorf("tags, -want +got:\n%s", diff)
	}
	if got := w.builder.Machines()[1].Job.From.Digest; got != imported.Digest {
		t.Errorf("the child starts from %s, want the imported %s", got, imported.Digest)
	}
}

func mustParse(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
