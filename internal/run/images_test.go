package run_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

// outside stands for the images of registries.
type outside struct{ asked []string }

func (o *outside) Digest(_ context.Context, ref string) (string, error) { return "sha256:" + ref, nil }

func (o *outside) Files(_ context.Context, ref, path string) (io.ReadCloser, error) {
	o.asked = append(o.asked, ref+" "+path)
	return io.NopCloser(strings.NewReader("")), nil
}

// A bake that copies from another image of the template waits for it.
func TestFilesOfAnotherImage(t *testing.T) {
	w := newWorld(t)
	w.Images = &outside{}
	content := baketest.Tar(baketest.File{Header: tar.Header{Name: "out/"}}, baketest.File{Header: tar.Header{Name: "out/app.js"}, Content: "let it = bake"})
	w.made = func(bake.Job) bake.Artifact { return baketest.Image(t, string(content)) }
	assets := baked("assets.b")
	assets.Type = "made"
	for _, ref := range []string{"assets", "assets.b"} {
		var got []baketest.File
		w.steps["copy"] = func(ctx context.Context, env bake.Env) error {
			stream, err := env.Image.Files(ctx, ref, "/out")
			if err != nil {
				return err
			}
			got, err = baketest.Untar(stream)
			return errors.Join(err, stream.Close())
		}
		web := baked("web.a", "copy")
		web.After = []string{"assets.b"}
		if results := w.run(t.Context(), web, assets); results[0].Err != nil {
			t.Fatalf("%s: %v", ref, results[0].Err)
		}
		var all bytes.Buffer
		for _, f := range got {
			all.WriteString(f.Name + "=" + f.Content + " ")
		}
		if !strings.Contains(all.String(), "out/app.js=let it = bake") {
			t.Errorf("%s: got %s", ref, all.String())
		}
	}
}

func TestFilesOfOtherImages(t *testing.T) {
	w := newWorld(t)
	var asked error
	w.steps["copy"] = func(ctx context.Context, env bake.Env) error {
		stream, err := env.Image.Files(ctx, "docker.io/library/node:22", "/usr")
		if asked = err; err != nil {
			return nil
		}
		return stream.Close()
	}
	if w.one(t, baked("web.a", "copy")); asked == nil || !strings.Contains(asked.Error(), "is not in the template") {
		t.Errorf("without a reader: %v", asked)
	}
	o := &outside{}
	w.Images = o
	if w.one(t, baked("web.a", "copy")); asked != nil || len(o.asked) != 1 || o.asked[0] != "docker.io/library/node:22 /usr" {
		t.Errorf("asked %q, %v", o.asked, asked)
	}
}

func TestMissingFileOfAnImage(t *testing.T) {
	w := newWorld(t)
	w.made = func(bake.Job) bake.Artifact { return baketest.Image(t, string(baketest.Tar())) }
	assets := baked("assets.b")
	assets.Type = "made"
	w.steps["copy"] = func(ctx context.Context, env bake.Env) error {
		stream, err := env.Image.Files(ctx, "assets", "/nothing")
		if err != nil {
			return err
		}
		defer stream.Close()
		_, err = io.Copy(io.Discard, stream)
		return err
	}
	web := baked("web.a", "copy")
	web.After = []string{"assets.b"}
	if res := w.run(t.Context(), assets, web)[1]; !errors.Is(res.Err, fs.ErrNotExist) {
		t.Errorf("got %v", res.Err)
	}
}

// After a bake that failed there is nothing to copy from.
func TestAfterAFailedBake(t *testing.T) {
	w := newWorld(t)
	w.steps["break"] = func(context.Context, bake.Env) error { return errBroken }
	web := baked("web.a", "x")
	web.After = []string{"assets.b"}
	if res := w.run(t.Context(), baked("assets.b", "break"), web)[1]; res.Skipped != "assets.b failed" {
		t.Errorf("got %+v", res)
	}
}
