// Package shelllocal is the shell-local post-processor: it runs a script on the
// host, after the bake, where that is allowed.
package shelllocal

import (
	"context"
	"fmt"
	"runtime"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/shellscript"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[shellscript.Local, bake.Post]{
		Name: "shell-local", HostExec: true,
		Doc:     "Runs a script on the host with a small, fixed environment. The artifacts are passed on as they are; the first image's digest is in IMGBAKE_DIGEST.",
		Example: `- shell-local: {inline: ['echo "$IMGBAKE_DIGEST" > digest.txt']}`,
		Check:   func(c shellscript.Local, w value.Where) diag.List { return c.Check(w) },
		Inputs:  func(c shellscript.Local, w value.Where) []bake.Input { return c.Inputs(w) },
		Title:   func(c shellscript.Local) string { return "shell-local: " + c.Title() },
		New:     func(c shellscript.Local) (bake.Post, error) { return script{c}, nil },
	})
}

type script struct{ shellscript.Local }

// Process runs the script and passes the artifacts on, kept.
func (s script) Process(ctx context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	vars := env.Vars
	for _, a := range in {
		if a.Image != nil {
			vars = append(vars[:len(vars):len(vars)], "IMGBAKE_DIGEST="+a.Digest.String())
			break
		}
	}
	err := s.Run(ctx, shellscript.LocalEnv{
		Host: env.Host, Dir: env.Dir, Vars: vars, OS: runtime.GOOS, Stdout: env.Stdout, Stderr: env.Stderr,
		Note: func(format string, args ...any) {
			env.Sink.Emit(bake.Event{Type: bake.Note, Text: fmt.Sprintf(format, args...)})
		},
	})
	return in, true, err
}
