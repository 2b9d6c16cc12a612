// Package artifice is the artifice post-processor: it puts files that lie on
// this machine in the place of the artifact.
package artifice

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Files []string `key:"files" doc:"Files that are the artifact from here on, relative to the folder imgbake is started in; may hold *, ? and [a-z]." opt:"required,known"`
}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "artifice",
		Doc:     "Makes files on this machine the artifact that later post-processors of the sequence work on, such as files that a step downloaded. They are never removed, nor is what they replace.",
		Example: "- [artifice: {files: [out/app]}, compress: {output: out/app.tar.zst}]",
		Check:   check,
		Title:   func(c Config) string { return "artifice: " + strings.Join(c.Files, ", ") },
		New:     func(c Config) (bake.Post, error) { return replacer{c}, nil },
	})
}

func check(c Config, w value.Where) (problems diag.List) {
	if w.Given("files") && len(c.Files) == 0 {
		problems.Add(w.At("files"), "", "files is empty")
	}
	for i, pattern := range c.Files {
		if _, err := filepath.Match(pattern, ""); err != nil || pattern == "" {
			problems.Add(w.At("files", i), "", "%q is no file name", pattern)
		}
	}
	return problems
}

type replacer struct{ Config }

// Process finds the files. What they replace is kept unless
// keep_input_artifact says otherwise.
func (r replacer) Process(_ context.Context, env bake.PostEnv, _ []bake.Artifact) ([]bake.Artifact, bool, error) {
	out := bake.Artifact{Builder: "artifice", MediaType: "application/octet-stream", Foreign: true}
	for _, pattern := range r.Files {
		path := env.OutPath(pattern)
		found, err := filepath.Glob(path)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", pattern, err)
		}
		if len(found) == 0 {
			return nil, false, fmt.Errorf("%s: there is no such file", pattern)
		}
		for _, file := range found {
			info, err := os.Stat(file)
			if err != nil {
				return nil, false, err
			}
			if info.IsDir() {
				return nil, false, fmt.Errorf("%s is a folder, and artifice takes files: use %s", file, filepath.Join(pattern, "*"))
			}
			out.Size += info.Size()
			out.Files = append(out.Files, file)
		}
	}
	return []bake.Artifact{out}, true, nil
}
