// Package shell is the provisioner that runs shell scripts in the machine.
package shell

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/shellscript"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what a template says of a shell step.
type Config struct {
	shellscript.Config
	User              string        `key:"user" doc:"Who runs the script: a name or number, optionally with :group. The machine's root if not given."`
	WorkingDirectory  string        `key:"working_directory" doc:"Where the script starts, an absolute path in the machine."`
	ExecuteCommand    string        `key:"execute_command" doc:"The command that runs a script, for instance with sudo: {{.Path}} is the script, {{.Vars}} stands where its variables go, {{.EnvVarFile}} is a file that sets them. Without it the script is run directly."`
	Binary            bool          `key:"binary" doc:"Upload scripts byte by byte; otherwise Windows line ends become those of Unix." opt:"default=false"`
	RemoteFolder      string        `key:"remote_folder" doc:"Where a script that must be a file is put." opt:"default=/tmp"`
	RemoteFile        string        `key:"remote_file" doc:"Name of that file. A random one if not given."`
	RemotePath        string        `key:"remote_path" doc:"Full path of that file, instead of remote_folder and remote_file."`
	SkipClean         bool          `key:"skip_clean" doc:"Leave uploaded scripts in the machine." opt:"default=false"`
	UseEnvVarFile     bool          `key:"use_env_var_file" doc:"Accepted for Packer templates: variables never stand on a command line unless execute_command puts them there."`
	PauseAfter        time.Duration `key:"pause_after" doc:"Wait this long after the scripts."`
	StartRetryTimeout time.Duration `key:"start_retry_timeout" doc:"Accepted for Packer templates; has no effect."`
	ExpectDisconnect  bool          `key:"expect_disconnect" doc:"Losing the connection while a script runs, as in a reboot, is no failure." opt:"default=false"`
}

const doc = `Runs shell commands or scripts in the machine.

Inline commands are one script, run by /bin/sh -e: the first command that fails fails the step. Standard input is empty.

The script and its variables are handed over through standard input and the environment, so neither shows in a process list. With ` + "`execute_command`" + ` a script is uploaded to a folder of its own with an unguessable name, which is removed afterwards; there, a shell script reads its variables from a file, and only for a script in another language, or with ` + "`env_var_format`" + `, are they written where {{.Vars}} stands.`

const example = `- shell:
    inline:
      - apt-get update
      - apt-get install -y --no-install-recommends nginx
    env: { DEBIAN_FRONTEND: noninteractive }
- shell: { script: scripts/harden.sh, user: www-data }`

// Kind describes the provisioner.
func Kind() bake.Kind[bake.Provisioner] {
	return bake.Define(bake.Spec[Config, bake.Provisioner]{
		Name: "shell", Doc: doc, Example: example,
		Zero:   Config{RemoteFolder: "/tmp"},
		Check:  check,
		Inputs: func(c Config, w value.Where) []bake.Input { return c.Inputs(w) },
		Title:  func(c Config) string { return c.Title() },
		New:    func(c Config) (bake.Provisioner, error) { return provisioner{c}, nil },
	})
}

func check(c Config, w value.Where) diag.List {
	problems := c.Check(w)
	if c.ExecuteCommand != "" {
		problems.Append(shellscript.CheckCommand(c.ExecuteCommand, w.At("execute_command")))
	}
	for key, p := range map[string]string{"working_directory": c.WorkingDirectory, "remote_folder": c.RemoteFolder, "remote_path": c.RemotePath} {
		if p != "" && !path.IsAbs(p) {
			problems.Add(w.At(key), "write the full path in the machine", "%s %q is not absolute", key, p)
		}
	}
	if w.Given("remote_path") && w.Given("remote_file") {
		problems.Add(w.At("remote_file"), "", "remote_file cannot be combined with remote_path")
	}
	return problems
}

type provisioner struct{ Config }

// script is one script to run.
type script struct {
	title  string
	text   []byte
	inline bool
}

// Provision runs the scripts in order.
func (p provisioner) Provision(ctx context.Context, env bake.Env) error {
	if env.Communicator == nil {
		return errors.New("this builder has no machine to run commands in")
	}
	scripts, err := p.scripts(env)
	if err != nil {
		return err
	}
	r := shellscript.Runner{Executor: env.Communicator, Keep: p.SkipClean, Cmd: bake.Cmd{
		Env: p.vars(env), Dir: p.WorkingDirectory, User: p.User, Stdout: env.Stdout, Stderr: env.Stderr,
	}}
	for _, s := range scripts {
		status, err := p.run(ctx, env, r, s)
		if err != nil && p.ExpectDisconnect && ctx.Err() == nil {
			env.Note("%s: the connection was lost, as expected: %v", s.title, err)
			continue
		}
		if err := p.Result(s.title, status, err); err != nil {
			return err
		}
	}
	return bake.Wait(ctx, p.PauseAfter)
}

func (p provisioner) vars(env bake.Env) []string {
	return slices.Concat(env.Vars, p.EnvironmentVars)
}

// scripts reads what is to be run, all of it before anything runs.
func (p provisioner) scripts(env bake.Env) ([]script, error) {
	if len(p.Inline) > 0 {
		return []script{{title: p.Title(), text: p.InlineText(), inline: true}}, nil
	}
	var scripts []script
	for _, file := range p.Files() {
		name, err := env.FilePath(file)
		if err != nil {
			return nil, err
		}
		text, err := shellscript.Read(env.Files, name, p.Binary)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, script{title: name, text: text})
	}
	return scripts, nil
}

func (p provisioner) run(ctx context.Context, env bake.Env, r shellscript.Runner, s script) (int, error) {
	if p.ExecuteCommand != "" {
		return p.runCommand(ctx, env, r, s)
	}
	if s.inline && p.RemotePath == "" && p.RemoteFile == "" {
		status, ok, err := r.Inline(ctx, p.Shebang(), strings.Join(p.Inline, "\n"))
		if ok {
			return status, err
		}
	}
	return r.File(ctx, p.remotePath(), s.text)
}

// remotePath is where a script that is run directly is put.
func (p provisioner) remotePath() string {
	switch {
	case p.RemotePath != "":
		return p.RemotePath
	case p.RemoteFile != "":
		return path.Join(p.RemoteFolder, p.RemoteFile)
	}
	return shellscript.TempPath(p.RemoteFolder, ".sh")
}
