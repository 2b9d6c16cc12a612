//go:build engine

package sandbox_test

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// limited starts a machine with limits, and tells its notes. Where no control
// group can be made, as in most containers, there is nothing to test: it is
// refused, and that is right.
func limited(t *testing.T, o sandbox.Options) (m *sandbox.Machine, notes func() string) {
	t.Helper()
	base := rootfs(t)
	roots, err := sandbox.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	o.Notify = func(note string) { all = append(all, note) }
	m, err = roots.Start(t.Context(), []sandbox.Layer{base}, o)
	if errors.Is(err, sandbox.ErrUnavailable) {
		t.Skipf("this machine has no limits: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m, func() string { return strings.Join(all, "; ") }
}

// What takes more memory than there may be is ended, and nothing else.
func TestMemoryLimit(t *testing.T) {
	for _, isolation := range isolations {
		t.Run(isolation, func(t *testing.T) {
			m, notes := limited(t, sandbox.Options{Isolation: isolation, Limits: sandbox.Limits{Memory: 128 << 20, CPUs: 1.5}})
			status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"perl", "-e", "$x .= 'x' x (1 << 20) for 1 .. 1024; print length $x"}, Dir: "/"})
			if status == 0 || !strings.Contains(notes(), "memory limit") {
				t.Errorf("status %d, %v, %q", status, err, notes())
			}
			if got := sh(t, m, "echo on"); got != "on" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// With too little memory for the first process the error says so.
func TestTooLittleMemory(t *testing.T) {
	limited(t, sandbox.Options{Limits: sandbox.Limits{Memory: 64 << 20}})
	roots, err := sandbox.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := roots.Start(t.Context(), nil, sandbox.Options{Limits: sandbox.Limits{Memory: 1 << 16}})
	if err == nil {
		m.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "memory limit") {
		t.Errorf("got %v", err)
	}
}

// A fork bomb is a step that fails.
func TestProcessLimit(t *testing.T) {
	m, notes := limited(t, sandbox.Options{Limits: sandbox.Limits{PIDs: 64}})
	const bomb = "for i in $(seq 500); do sleep 7654323 & done"
	status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-ec", bomb}, Dir: "/"})
	switch { // where the first process itself finds no room, its machine is gone
	case err == nil && status == 0:
		t.Error("no limit")
	case err != nil && !strings.Contains(err.Error(), "limit of processes"), err == nil && !strings.Contains(notes(), "limit of processes"):
		t.Errorf("status %d, %v, %q", status, err, notes())
	}
	if err := m.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if running(t, "7654323") {
		t.Error("the bomb lives on")
	}
}

// The control groups of a killed process are removed by the next Open.
func TestLimitsOfTheKilled(t *testing.T) {
	limited(t, sandbox.Options{Limits: sandbox.Limits{PIDs: 100}})
	dir := t.TempDir()
	cmd := other(t, os.Args[0], dir, "echo up; sleep 7654324")
	cmd.Env = append(cmd.Env, "IMGBAKE_TEST_PIDS="+strings.Repeat("1", 100))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for up := false; !up; up = lines.Text() == "up" {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", cmd.Wait())
		}
	}
	records, _ := filepath.Glob(filepath.Join(dir, "*", "work", "*", "cgroups"))
	if len(records) != 1 {
		t.Fatalf("found %q", records)
	}
	text, err := os.ReadFile(records[0])
	if err != nil {
		t.Fatal(err)
	}
	group := strings.Fields(string(text))[0]
	if procs, err := os.ReadFile(filepath.Join(group, "cgroup.procs")); err != nil || len(strings.Fields(string(procs))) < 2 {
		t.Errorf("in the group: %q, %v", procs, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for i := 0; i < 1000; i++ {
		if _, err := sandbox.Open(dir, false); err != nil {
			t.Fatal(err)
		}
		if _, err = os.Stat(group); errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	t.Errorf("%s is left", group)
}
