package compress_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/post/compress"
)

func TestSuite(t *testing.T) {
	baketest.PostSuite(t, compress.Kind(),
		map[string]map[string]any{
			"defaults": {}, "zip": {"output": "a.zip"}, "tgz": {"output": "a.tgz", "compression_level": 9},
			"no ending": {"output": "a"}, "format": {"output": "a.img", "format": "zst"}, "archive": {"output": "a", "archive": "tar"},
		},
		map[string]map[string]any{
			"level": {"compression_level": 10}, "level 0": {"compression_level": 0},
			"format": {"output": "a.rar"}, "field": {"output": "{{.Nothing}}.zip"},
		})
}

// unpack reads an archive into names and contents.
func unpack(t *testing.T, path string, data []byte) map[string]string {
	t.Helper()
	var r io.Reader = bytes.NewReader(data)
	var err error
	switch {
	case strings.HasSuffix(path, ".zip"):
		return unzip(t, data)
	case strings.HasSuffix(path, "gz"):
		r, err = gzip.NewReader(r)
	case strings.HasSuffix(path, "zst"):
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(path, "tar") && !strings.HasSuffix(path, "tgz") {
		return map[string]string{"": string(plain)}
	}
	files, err := baketest.Untar(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		got[f.Name] = f.Content
	}
	return got
}

func unzip(t *testing.T, data []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range r.File {
		text, err := fs.ReadFile(r, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = string(text)
	}
	return got
}

func files(t *testing.T, dir string, names ...string) bake.Artifact {
	t.Helper()
	a := bake.Artifact{Builder: "file"}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		a.Files = append(a.Files, path)
	}
	return a
}

func TestFormats(t *testing.T) {
	two := map[string]string{"a.txt": "content of a.txt", "b.txt": "content of b.txt"}
	one := map[string]string{"": "content of a.txt"}
	tests := []struct {
		output string
		names  []string
		want   map[string]string
	}{
		{"x.tar", []string{"a.txt", "b.txt"}, two},
		{"x.tar.gz", []string{"a.txt", "b.txt"}, two},
		{"out/x.tgz", []string{"a.txt", "b.txt"}, two},
		{"x.tar.zst", []string{"a.txt", "b.txt"}, two},
		{"x.zip", []string{"a.txt", "b.txt"}, two},
		{"x.gz", []string{"a.txt"}, one},
		{"x.zst", []string{"a.txt"}, one},
		{"packer_{{.BuildName}}_{{.Provider}}.zip", []string{"a.txt", "b.txt"}, two},
	}
	for _, test := range tests {
		t.Run(test.output, func(t *testing.T) {
			env, _, _ := baketest.PostEnv(t)
			in := files(t, env.OutDir, test.names...)
			out, keep, err := baketest.NewPost(t, compress.Kind(), map[string]any{"output": test.output}).Process(t.Context(), env, []bake.Artifact{in})
			if err != nil || keep || len(out) != 1 || len(out[0].Files) != 1 {
				t.Fatalf("got %v, keep %t, error %v", out, keep, err)
			}
			path := out[0].Files[0]
			if !strings.HasPrefix(path, env.OutDir) || strings.Contains(filepath.Base(path), "{{") {
				t.Errorf("made %s", path)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, unpack(t, path, data)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if out[0].Size != int64(len(data)) {
				t.Errorf("size %d, want %d", out[0].Size, len(data))
			}
			if left, _ := filepath.Glob(filepath.Join(env.OutDir, "*.tmp")); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	tests := map[string]struct {
		ctx    context.Context
		output string
		names  []string
		want   string
	}{
		"two into gz":   {context.Background(), "x.gz", []string{"a", "b"}, "holds one file"},
		"same name":     {context.Background(), "x.tar", []string{"a", "deep/a"}, "same name"},
		"no files":      {context.Background(), "x.tar", nil, "was given none"},
		"cancelled":     {cancelled, "x.tar.gz", []string{"a"}, "context canceled"},
		"cancelled zip": {cancelled, "x.zip", []string{"a"}, "context canceled"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env, _, _ := baketest.PostEnv(t)
			in := files(t, env.OutDir, test.names...)
			_, _, err := baketest.NewPost(t, compress.Kind(), map[string]any{"output": test.output}).Process(test.ctx, env, []bake.Artifact{in})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			if left, _ := filepath.Glob(filepath.Join(env.OutDir, "x.*")); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestMissingInput(t *testing.T) {
	env, _, _ := baketest.PostEnv(t)
	_, _, err := baketest.NewPost(t, compress.Kind(), nil).Process(t.Context(), env, []bake.Artifact{{Files: []string{"/no/such/file"}}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
