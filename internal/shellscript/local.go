package shellscript

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Local is the config of shell-local, the provisioner and the post-processor.
type Local struct {
	Config
	Command           string   `key:"command" doc:"One inline command."`
	ExecuteCommand    []string `key:"execute_command" doc:"The command and its arguments that run the script, with {{.Script}} for its path. {{.Vars}} stands where Packer writes the variables; here they are in the environment already."`
	WorkingDirectory  string   `key:"working_directory" doc:"Where the script starts. Relative to the template's folder, which is the default."`
	OnlyOn            []string `key:"only_on" doc:"Run on these operating systems only." opt:"enum=linux|darwin|windows|freebsd|openbsd|netbsd|solaris"`
	TempfileExtension string   `key:"tempfile_extension" doc:"Extension of the file that holds the inline commands, where one is needed."`
	UseLinuxPathing   bool     `key:"use_linux_pathing" doc:"Accepted for Packer templates; has no effect."`
}

// LocalEnv is what a shell-local component passes on.
type LocalEnv struct {
	Host           bake.Executor // nil where host commands are not allowed
	Dir            string        // the template's folder
	Vars           []string      // K=V
	OS             string        // of the host, as runtime.GOOS names it
	Stdout, Stderr io.Writer
	Note           func(format string, args ...any)
}

// ErrHostNotAllowed says that commands on the host must be permitted first.
var ErrHostNotAllowed = errors.New("commands on the host are not allowed here")

// Check reports what is wrong across keys.
func (l Local) Check(w value.Where) diag.List {
	if w.Given("command") {
		var problems diag.List
		for _, key := range []string{"inline", "script", "scripts"} {
			if w.Given(key) {
				problems.Add(w.At(key), "", "%s cannot be combined with command", key)
			}
		}
		return problems
	}
	problems := l.Config.Check(w)
	for i, arg := range l.ExecuteCommand {
		if _, err := Render(arg, CommandData{}); err != nil {
			problems.AppendErr(w.At("execute_command", i), atPos(err, w.At("execute_command", i)))
		}
	}
	return problems
}

// atPos gives a problem without a place one.
func atPos(err error, pos diag.Pos) error {
	var p diag.Problem
	if errors.As(err, &p) && p.Pos.IsZero() {
		p.Pos = pos
		return p
	}
	return err
}

// CheckCommand reports a broken execute_command at its place.
func CheckCommand(command string, pos diag.Pos) diag.List {
	var problems diag.List
	_, err := Render(command, CommandData{})
	problems.AppendErr(pos, atPos(err, pos))
	return problems
}

// Title is the script in a few words.
func (l Local) Title() string { return l.script().Title() }

// script is the config with command as what it means.
func (l Local) script() Config {
	c := l.Config
	if l.Command != "" {
		c.Inline = []string{l.Command}
	}
	return c
}

// Run runs the scripts on the host.
func (l Local) Run(ctx context.Context, env LocalEnv) error {
	if env.Host == nil {
		return fmt.Errorf("shell-local: %w", ErrHostNotAllowed)
	}
	if len(l.OnlyOn) > 0 && !slices.Contains(l.OnlyOn, env.OS) {
		env.Note("skipped on %s: only_on is %s", env.OS, strings.Join(l.OnlyOn, ", "))
		return nil
	}
	c := l.script()
	r := Runner{Executor: env.Host, Cmd: bake.Cmd{
		Env: slices.Concat(env.Vars, c.EnvironmentVars),
		Dir: below(env.Dir, l.WorkingDirectory), Stdout: env.Stdout, Stderr: env.Stderr,
	}}
	if len(c.Inline) > 0 {
		status, err := l.inline(ctx, r, c)
		return c.Result(c.Title(), status, err)
	}
	for _, file := range c.Files() {
		status, err := l.file(ctx, r, below(env.Dir, file))
		if err := c.Result(oneLine(file), status, err); err != nil {
			return err
		}
	}
	return nil
}

func below(dir, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func (l Local) inline(ctx context.Context, r Runner, c Config) (int, error) {
	if len(l.ExecuteCommand) == 0 {
		status, ok, err := r.Inline(ctx, c.Shebang(), strings.Join(c.Inline, "\n"))
		if ok {
			return status, err
		}
	}
	suffix := l.TempfileExtension
	if suffix == "" {
		suffix = ".sh"
	}
	file := TempPath("/tmp", suffix)
	args, err := l.command(CommandData{Path: file, Script: file, Command: file})
	if err != nil {
		return 0, err
	}
	return r.File(ctx, file, c.InlineText(), args...)
}

func (l Local) file(ctx context.Context, r Runner, file string) (int, error) {
	if len(l.ExecuteCommand) == 0 {
		return r.InPlace(ctx, file)
	}
	args, err := l.command(CommandData{Path: file, Script: file})
	if err != nil {
		return 0, err
	}
	r.Cmd.Args = args
	return r.Executor.Exec(ctx, r.Cmd)
}

// command renders execute_command.
func (l Local) command(data CommandData) ([]string, error) {
	data.Vars = Marker
	var args []string
	for _, arg := range l.ExecuteCommand {
		rendered, err := Render(arg, data)
		if err != nil {
			return nil, err
		}
		args = append(args, rendered)
	}
	return args, nil
}
