// Package file is the file builder: its artifact is a file with given content,
// or a copy of another file. It serves to try post-processors.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Source  string `key:"source" doc:"File to copy, below the template's folder." opt:"known"`
	Content string `key:"content" doc:"Text to write."`
	Target  string `key:"target" doc:"File to make, relative to the template's folder." opt:"required,known"`
}

// Kind describes the builder.
func Kind() bake.Kind[bake.Builder] {
	return bake.Define(bake.Spec[Config, bake.Builder]{
		Name: "file", Commit: bake.CommitAtEnd,
		Doc:     "Makes a file, in place of one that is there. It serves to try post-processors.",
		Example: "builders: {file: {content: hello, target: out/hello.txt}}",
		Check: func(c Config, w value.Where) (problems diag.List) {
			if w.Given("source") && w.Given("content") {
				problems.Add(w.At("content"), "", "content cannot be combined with source")
			}
			return problems
		},
		Inputs: func(c Config, w value.Where) []bake.Input {
			if c.Source == "" {
				return nil
			}
			return []bake.Input{{Path: c.Source, Pos: w.At("source")}}
		},
		Title: func(c Config) string { return "file: " + c.Target },
		New:   func(c Config) (bake.Builder, error) { return builder{c}, nil },
	})
}

type builder struct{ Config }

// Start writes the file, whole or not at all. As in Packer, one that is there
// already is replaced.
func (b builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target := b.Target
	if !filepath.IsAbs(target) {
		target = filepath.Join(job.Dir, target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return nil, err
	}
	temp := target + ".tmp"
	defer os.Remove(temp)
	f, err := os.Create(temp)
	if err != nil {
		return nil, err
	}
	err = errors.Join(b.fill(f, job.Dir), f.Close())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Target, err)
	}
	return machine{target}, os.Rename(temp, target)
}

func (b builder) fill(w io.Writer, dir string) error {
	if b.Source == "" {
		_, err := io.WriteString(w, b.Content)
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	src, err := root.Open(filepath.FromSlash(b.Source))
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(w, src)
	return err
}

type machine struct{ target string }

func (machine) Communicator() bake.Communicator { return nil }
func (machine) Facts() map[string]string        { return nil }
func (machine) Close() error                    { return nil }
func (machine) Detach() []string                { return nil }

// Commit is the file.
func (m machine) Commit(context.Context, bake.LayerInfo) (bake.Artifact, error) {
	info, err := os.Stat(m.target)
	if err != nil {
		return bake.Artifact{}, err
	}
	return bake.Artifact{Builder: "file", MediaType: "application/octet-stream", Size: info.Size(), Files: []string{m.target}}, nil
}
