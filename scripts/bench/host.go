package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// host runs commands on this machine, one at a time.
type host struct {
	env []string
	dir string
	log string // file with what the last command printed
}

// in is the host with another working directory.
func (h host) in(dir string) host {
	h.dir = dir
	return h
}

// with is the host with more environment.
func (h host) with(env ...string) host {
	h.env = append(h.env[:len(h.env):len(h.env)], env...)
	return h
}

// usage is what a command took, those it started and waited for included.
type usage struct {
	Started time.Time
	Wall    time.Duration
	CPU     time.Duration
	RSS     int64 // bytes, of the largest process; at least that of bench itself
}

// run runs a command to its end. Its output goes to a file, so that reading it
// takes no time from what is measured.
func (h host) run(ctx context.Context, args ...string) (usage, error) {
	printed, err := os.Create(h.log)
	if err != nil {
		return usage{}, err
	}
	defer printed.Close()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = h.env, h.dir, printed, printed
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	u := usage{Started: time.Now()}
	err = cmd.Run()
	u.Wall = time.Since(u.Started)
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, h.tail())
	}
	u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.RSS = r.Maxrss * 1024 // kilobytes on Linux
	}
	return u, nil
}

// output runs a command and returns what it printed, without the last newline.
func (h host) output(ctx context.Context, args ...string) (string, error) {
	if _, err := h.run(ctx, args...); err != nil {
		return "", err
	}
	text, err := os.ReadFile(h.log)
	return strings.TrimRight(string(text), "\n"), err
}

// all runs commands that are not measured, until one fails.
func (h host) all(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if _, err := h.run(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

// tail is the end of what the last command printed.
func (h host) tail() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// processes counts the programs that a command starts, itself included.
func (h host) processes(ctx context.Context, args ...string) (float64, error) {
	trace := h.log + ".strace"
	_, err := h.run(ctx, append([]string{"strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace}, args...)...)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(trace)
	return float64(countExecs(string(text))), err
}

// countExecs counts the calls of execve that succeeded. One that another
// thread interrupted takes two lines, of which the second has the result.
func countExecs(trace string) int {
	n := 0
	for line := range strings.Lines(trace) {
		if strings.Contains(line, "execve") && strings.HasSuffix(strings.TrimSpace(line), "= 0") {
			n++
		}
	}
	return n
}

// tool is a program and what it calls itself.
type tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// versions names every tool, and fails for one that is missing.
func versions(ctx context.Context, h host, o options) ([]tool, error) {
	ask := []struct {
		name string
		args []string
	}{
		{"imgbake", []string{o.Imgbake, "version"}},
		{"packer", []string{"packer", "version"}},
		{"docker (CLI)", []string{"docker", "version", "--format", "{{.Client.Version}}"}},
		{"dockerd", []string{"docker", "version", "--format", "{{.Server.Version}}"}},
		{"storage driver", []string{"docker", "info", "--format", "{{.Driver}}"}},
		{"buildah", []string{"buildah", "--version"}},
		{"skopeo", []string{"skopeo", "--version"}},
		{"buildx", []string{o.Buildx, "version"}},
		{"registry", []string{"docker-registry", "--version"}},
		{"gzip", []string{"gzip", "--version"}},
	}
	var tools []tool
	for _, a := range ask {
		text, err := h.output(ctx, a.args...)
		if err != nil {
			return nil, fmt.Errorf("no %s to measure: %w", a.name, err)
		}
		text, _, _ = strings.Cut(text, "\n")
		tools = append(tools, tool{a.name, text})
	}
	return tools, nil
}

// machine is what the numbers come from.
type machine struct {
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Load   string `json:"load_before"` // over 1, 5 and 15 minutes
}

func thisMachine() machine {
	read := func(file string, fields int) string {
		text, err := os.ReadFile(file)
		if err != nil {
			return "unknown"
		}
		words := strings.Fields(string(text))
		return strings.Join(words[:min(fields, len(words))], " ")
	}
	return machine{runtime.NumCPU(), read("/proc/sys/kernel/osrelease", 1), read("/proc/loadavg", 3)}
}
