// Package local runs commands on this machine: Host for what a template may do
// outside of its image, with an environment that holds none of the caller's
// secrets, and Communicator for tests that want a real shell without an engine.
package local

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Inherited are the only variables a command gets from imgbake's own
// environment. Tokens, workflow inputs and the runner's variables are not
// among them, and no IMGBAKE_VAR_x either: it may be a secret.
var Inherited = []string{"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM"}

// defaultPath serves where imgbake itself was started without a PATH.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Host runs commands on this machine as the user imgbake runs as.
type Host struct {
	Dir   string        // where a command with a relative directory, or none, starts
	Env   []string      // imgbake's environment, of which the Inherited part is passed on
	Grace time.Duration // between SIGTERM and SIGKILL on cancellation; 0: two seconds
}

// Exec runs the command in a process group of its own. Cancelling the context
// ends the whole group.
func (h Host) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if cmd.User != "" {
		return 0, fmt.Errorf("user %q: commands on the host run as the user of imgbake", cmd.User)
	}
	if len(cmd.Args) == 0 {
		return 0, errors.New("no command to run")
	}
	c := exec.CommandContext(ctx, cmd.Args[0], cmd.Args[1:]...)
	c.Env = environment(h.Env, cmd.Env)
	c.Dir = h.Dir
	if cmd.Dir != "" {
		c.Dir = cmd.Dir
		if !filepath.IsAbs(cmd.Dir) {
			c.Dir = filepath.Join(h.Dir, cmd.Dir)
		}
	}
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = h.Grace
	if h.Grace == 0 {
		c.WaitDelay = 2 * time.Second
	}
	return run(ctx, c)
}

func run(ctx context.Context, c *exec.Cmd) (int, error) {
	if err := c.Start(); err != nil {
		return 0, err
	}
	err := c.Wait()
	if ctx.Err() != nil {
		// What ignored SIGTERM is still in the group.
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		return 0, context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return status(exit), nil
	case errors.Is(err, exec.ErrWaitDelay), errors.Is(err, syscall.EPIPE):
		return c.ProcessState.ExitCode(), nil // left something in the background, or did not read its input
	}
	return 0, err
}

// status is the exit status as a shell reports it.
func status(exit *exec.ExitError) int {
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return exit.ExitCode()
}

// environment is the inherited part of the host's environment and what the
// command is given; the latter wins.
func environment(host, given []string) []string {
	out := []string{defaultPath}
	for _, kv := range host {
		if name, value, _ := strings.Cut(kv, "="); slices.Contains(Inherited, name) && value != "" {
			out = append(out, kv)
		}
	}
	return append(out, given...) // os/exec keeps the last of each name
}
