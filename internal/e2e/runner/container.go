package runner

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Container is what the runner starts a container action in: a container with
// the engine's default rights, of which an action can change nothing.
type Container struct {
	Engine  string // DOCKER_HOST
	Image   string // the action's
	Name    string // of the container
	Network string // of the job, if it has containers or services of its own
}

// mount is a place of the runner's machine that the container sees.
type mount struct{ from, to string }

// mounts are those of every container action.
func (s Step) mounts() []mount {
	return []mount{
		{strings.TrimPrefix(s.Container.Engine, "unix://"), "/var/run/docker.sock"},
		{s.temp(), "/github/runner_temp"},
		{s.home(), "/github/home"},
		{s.workflow(), "/github/workflow"},
		{s.fileCommands(), "/github/file_commands"},
		{s.workspace(), "/github/workspace"},
	}
}

func (s Step) temp() string            { return filepath.Join(s.Dir, "_temp") }
func (s Step) home() string            { return filepath.Join(s.temp(), "_github_home") }
func (s Step) workflow() string        { return filepath.Join(s.temp(), "_github_workflow") }
func (s Step) fileCommands() string    { return filepath.Join(s.temp(), "_runner_file_commands") }
func (s Step) runnerWorkspace() string { return filepath.Join(s.Dir, "web") }
func (s Step) workspace() string       { return filepath.Join(s.runnerWorkspace(), "web") }

// inside is a value as the container gets it: a path that a mount shows is that
// of the mount, and in any other value paths stay.
func (s Step) inside(value string) string {
	for _, m := range slices.Backward(s.mounts()) {
		if rest, ok := strings.CutPrefix(value, m.from); ok && (rest == "" || rest[0] == '/') {
			return path.Join(m.to, rest)
		}
	}
	return value
}

// docker is the command that starts the container. Values are in its
// environment: an argument would show them to everybody.
func (s Step) docker(env map[string]string) (args, values []string) {
	c := s.Container
	args = []string{"docker", "--host", c.Engine, "run", "--name", c.Name, "--label", "imgbake-test-runner", "--workdir", "/github/workspace", "--rm"}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name == "GITHUB_ACTIONS" || name == "CI" {
			continue
		}
		args = append(args, "-e", name)
		values = append(values, name+"="+s.inside(env[name]))
	}
	args = append(args, "-e", "GITHUB_ACTIONS=true", "-e", "CI=true")
	if len(s.Program) > 0 {
		args = append(args, "--entrypoint", s.Program[0])
	}
	if c.Network != "" {
		args = append(args, "--network", c.Network)
	}
	for _, m := range s.mounts() {
		args = append(args, "-v", m.from+":"+m.to)
	}
	args = append(args, c.Image)
	if len(s.Program) > 1 {
		args = append(args, s.Program[1:]...)
	}
	return args, values
}
