// Package runner is GitHub's runner as far as a container action can tell: the
// environment and the files that it gives to a step, and how it reads what the
// step wrote. It is for tests.
package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Step is one step to run.
type Step struct {
	Program []string          // the action's entry point
	Inputs  map[string]string // every input that action.yml declares is there
	Env     map[string]string // GITHUB_ and others
	Event   []byte            // the payload
	Dir     string            // a folder that is not there yet
	Files   map[string]string // of the workspace
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

// Run runs the step to its end.
func (s Step) Run(ctx context.Context) (Result, error) {
	r := Result{Workspace: filepath.Join(s.Dir, "workspace")}
	env, err := s.prepare(r.Workspace)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, s.Program[0], s.Program[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.Workspace, env, &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.ExitCode, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, err
	}
	r.Raw = out.String()
	r.Log, r.Commands, r.Masks = ReadLog(r.Raw)
	return r, s.collect(&r)
}

// prepare makes the mounts' folders and the files, and gives the environment.
func (s Step) prepare(workspace string) ([]string, error) {
	all := map[string]string{
		"HOME": filepath.Join(s.Dir, "home"), "CI": "true", "GITHUB_ACTIONS": "true",
		"GITHUB_WORKSPACE": workspace, "RUNNER_TEMP": filepath.Join(s.Dir, "temp"), "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64",
		"GITHUB_EVENT_PATH": filepath.Join(s.Dir, "workflow", "event.json"), "GITHUB_REPOSITORY": "acme/web",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_WORKFLOW": "Images", "GITHUB_JOB": "bake",
		"GITHUB_RUN_ID": "1001", "GITHUB_RUN_NUMBER": "42", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_ACTOR": "octocat",
		"DOCKER_HOST": "unix://" + filepath.Join(s.Dir, "no-engine.sock"),
	}
	for _, name := range files {
		all[name] = filepath.Join(s.Dir, "file_commands", strings.ToLower(name))
		s.put(all[name], "")
	}
	for _, dir := range []string{all["HOME"], workspace, all["RUNNER_TEMP"]} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	s.put(all["GITHUB_EVENT_PATH"], string(s.Event))
	for name, text := range s.Files {
		s.put(filepath.Join(workspace, name), text)
	}
	maps.Copy(all, s.Env)
	for name, value := range s.Inputs {
		all["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = value
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env, nil
}

// put writes a file, and makes its folder. What cannot be written is missed by
// who reads it.
func (s Step) put(path, text string) {
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	_ = os.WriteFile(path, []byte(text), 0o644)
}

func (s Step) collect(r *Result) error {
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(s.Dir, "file_commands", strings.ToLower(name)))
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
