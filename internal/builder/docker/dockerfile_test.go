package docker

import (
	"archive/tar"
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuildContext(t *testing.T) {
	content := map[string]string{"Dockerfile": "FROM x", "a.txt": "a", "node_modules/x/y": "y", "logs/keep/z": "z", "logs/other": "o", "sub/secret.key": "k"}
	tests := map[string]struct {
		ignore, file string
		want         []string
	}{
		"nothing ignored": {"", "Dockerfile", []string{"Dockerfile", "a.txt", "logs/", "logs/keep/", "logs/keep/z", "logs/other", "node_modules/", "node_modules/x/", "node_modules/x/y", "sub/", "sub/secret.key"}},
		"patterns":        {"node_modules\n**/*.key\nlogs\n!logs/keep\nDockerfile\n", "Dockerfile", []string{".dockerignore", "Dockerfile", "a.txt", "logs/keep/", "logs/keep/z", "sub/"}},
		"file outside":    {"**\n!a.txt\n", "../Outside", []string{".imgbake.Dockerfile", "a.txt"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"Outside": "FROM y"}
			for file, text := range content {
				all["ctx/"+file] = text
			}
			if test.ignore != "" {
				all["ctx/.dockerignore"] = test.ignore
			}
			folder := filepath.Join(files(t, all), "ctx")
			c := buildContext{folder: folder, file: filepath.Join(folder, test.file)}
			if err := c.prepare(); err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if err := c.write(&buf); err != nil {
				t.Fatal(err)
			}
			var got []string
			for tr := tar.NewReader(&buf); ; {
				h, err := tr.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, h.Name)
				if h.Uid != 0 || h.Uname != "" {
					t.Errorf("%s belongs to %d %s", h.Name, h.Uid, h.Uname)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestFromImages(t *testing.T) {
	got := fromImages([]byte("ARG TAG=1\nARG REG=ghcr.io\nFROM --platform=linux/amd64 ${REG}/a/b:$TAG AS one\nRUN x\nfrom one\n"), map[string]string{"TAG": "2"})
	if diff := cmp.Diff([]string{"ghcr.io/a/b:2", "one"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestReadMessages(t *testing.T) {
	tests := map[string]string{
		`{"status":"a"}{"errorDetail":{"message":"denied"},"error":"denied"}`: "denied",
		`{"status":"a"`: "unexpected EOF",
		`{"error":"x"}`: "x",
	}
	for text, want := range tests {
		if err := readMessages(strings.NewReader(text), func(message) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	id, err := followBuild(strings.NewReader(`{"stream":"Step 1\n"}{"aux":{"ID":"sha256:1"}}`), func(string) {})
	if err != nil || id != "sha256:1" {
		t.Errorf("got %q, %v", id, err)
	}
}
