// Package runner is GitHub's runner as far as a container action can tell: the
// environment and the files that it gives to a step, and how it reads what the
// step wrote. It is for tests.
package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Step is one step to run: as a process of this machine, or in a container.
type Step struct {
	Program   []string          // the action's entry point; in a container what replaces that of the image, if anything
	Inputs    map[string]string // every input that action.yml declares is there
	Env       map[string]string // GITHUB_ and others
	Event     []byte            // the payload
	Dir       string            // a folder that is not there yet, or that an earlier step of the job had
	Files     map[string]string // of the workspace
	Owner     int               // who has the workspace: the user that the runner runs as; 0: whoever runs this
	Output    io.Writer         // sees the log as it comes; may be nil
	Container *Container        // nil: a process
}

// Result is what the runner sees of a step.
type Result struct {
	ExitCode  int
	Log       string // as people see it: masked, without commands
	Raw       string
	Outputs   map[string]string
	State     map[string]string
	Summary   string
	Artifacts []string
	Commands  []Command
	Masks     []string
	Workspace string
}

// files are the file commands, by variable.
var files = []string{"GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS"}

// How a step is cancelled: it is asked twice, and then killed
// (ProcessInvoker.cs).
const (
	interruptTime = 7500 * time.Millisecond
	terminateTime = 2500 * time.Millisecond
)

// Run runs the step to its end. The end of the context cancels it.
func (s Step) Run(ctx context.Context) (Result, error) {
	r := Result{Workspace: s.workspace()}
	env, err := s.prepare()
	if err != nil {
		return r, err
	}
	args, values := s.Program, pairs(env)
	if s.Container != nil {
		args, values = s.docker(env)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout = r.Workspace, values, &out
	if s.Output != nil {
		cmd.Stdout = io.MultiWriter(&out, s.Output)
	}
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = interruptTime + terminateTime
	cmd.Cancel = func() error {
		time.AfterFunc(interruptTime, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		return cmd.Process.Signal(os.Interrupt)
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) || ctx.Err() != nil && cmd.ProcessState != nil {
		r.ExitCode, err = cmd.ProcessState.ExitCode(), nil
	}
	r.Raw = out.String()
	if err != nil {
		return r, err
	}
	r.Log, r.Commands, r.Masks = ReadLog(r.Raw)
	return r, s.collect(&r)
}

// prepare makes the folders and the files, and gives the environment.
func (s Step) prepare() (map[string]string, error) {
	_, err := os.Stat(s.workspace())
	first := err != nil
	env := map[string]string{
		"HOME": s.home(), "CI": "true", "GITHUB_ACTIONS": "true",
		"GITHUB_WORKSPACE": s.workspace(), "RUNNER_TEMP": s.temp(), "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64",
		"RUNNER_WORKSPACE": s.runnerWorkspace(), "RUNNER_TOOL_CACHE": filepath.Join(s.Dir, "_tool"), "RUNNER_NAME": "runner", "RUNNER_ENVIRONMENT": "github-hosted",
		"GITHUB_EVENT_PATH": filepath.Join(s.workflow(), "event.json"), "GITHUB_REPOSITORY": "acme/web",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_WORKFLOW": "Images", "GITHUB_JOB": "bake",
		"GITHUB_RUN_ID": "1001", "GITHUB_RUN_NUMBER": "42", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_ACTOR": "octocat",
	}
	if s.Container == nil {
		env["DOCKER_HOST"] = "unix://" + filepath.Join(s.Dir, "no-engine.sock")
	}
	for _, name := range files {
		env[name] = s.fileCommand(name)
		s.put(env[name], "")
	}
	for _, dir := range []string{s.home(), s.workspace()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	s.put(env["GITHUB_EVENT_PATH"], string(s.Event))
	for name, text := range s.Files {
		s.put(filepath.Join(s.workspace(), name), text)
	}
	maps.Copy(env, s.Env)
	for name, value := range s.Inputs {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = value
	}
	if first && s.Owner != 0 {
		return env, s.own()
	}
	return env, nil
}

// own gives the job's files to the user that the runner runs as.
func (s Step) own() error {
	return filepath.WalkDir(s.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, s.Owner, s.Owner)
	})
}

func pairs(env map[string]string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

func (s Step) fileCommand(name string) string {
	return filepath.Join(s.fileCommands(), strings.ToLower(name))
}

// put writes a file, and makes its folder. What cannot be written is missed by
// who reads it.
func (s Step) put(path, text string) {
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	_ = os.WriteFile(path, []byte(text), 0o644)
}

func (s Step) collect(r *Result) error {
	read := func(name string) string {
		text, _ := os.ReadFile(s.fileCommand(name))
		return string(text)
	}
	var err, more error
	r.Outputs, err = ReadPairs(read("GITHUB_OUTPUT"))
	r.State, more = ReadPairs(read("GITHUB_STATE"))
	r.Summary = read("GITHUB_STEP_SUMMARY")
	for line := range strings.Lines(read("GITHUB_ARTIFACTS")) {
		r.Artifacts = append(r.Artifacts, strings.TrimSpace(line))
	}
	return errors.Join(err, more)
}

// ReadPairs reads a file of NAME=VALUE and NAME<<END entries, as
// FileCommandManager.cs does: the last value of a name counts.
func ReadPairs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			pairs[line[:equals]] = line[equals+1:]
		case heredoc > 0:
			name, end := line[:heredoc], line[heredoc+2:]
			length := slices.Index(lines[i+1:], end)
			if end == "" || length < 0 {
				return pairs, fmt.Errorf("matching delimiter not found %q", end)
			}
			pairs[name] = strings.Join(lines[i+1:i+1+length], "\n")
			i += length + 1
		default:
			return pairs, fmt.Errorf("invalid format %q", line)
		}
	}
	return pairs, nil
}
