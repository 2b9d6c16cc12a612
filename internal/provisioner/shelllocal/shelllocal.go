// Package shelllocal is the provisioner that runs shell scripts on the host.
package shelllocal

import (
	"context"
	"runtime"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/shellscript"
	"github.com/imgbake/imgbake-action/internal/value"
)

const doc = `Runs shell commands or scripts on the host, not in the machine.

They start in the template's folder, with a small environment: PATH, HOME, LANG, LC_ALL, TMPDIR and TERM of the host, what imgbake tells every step, and the variables given here. Tokens and workflow inputs are not passed on. Under CI, commands on the host must be permitted.`

const example = `- shell-local:
    inline: [npm ci, npm run build]
    working_directory: frontend`

// Kind describes the provisioner.
func Kind() bake.Kind[bake.Provisioner] {
	return bake.Define(bake.Spec[shellscript.Local, bake.Provisioner]{
		Name: "shell-local", Doc: doc, Example: example, HostExec: true, Files: true,
		Check:  shellscript.Local.Check,
		Inputs: func(c shellscript.Local, w value.Where) []bake.Input { return c.Inputs(w) },
		Title:  shellscript.Local.Title,
		New:    func(c shellscript.Local) (bake.Provisioner, error) { return provisioner{c}, nil },
	})
}

type provisioner struct{ config shellscript.Local }

// Provision runs the scripts on the host.
func (p provisioner) Provision(ctx context.Context, env bake.Env) error {
	return p.config.Run(ctx, shellscript.LocalEnv{
		Host: env.Host, Dir: env.HostDir, Vars: env.Vars, OS: runtime.GOOS,
		Stdout: env.Stdout, Stderr: env.Stderr, Note: env.Note,
	})
}
