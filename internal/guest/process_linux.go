package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pause is the container's first process. The end of its input says that
// imgbake is gone: the container then ends too.
func pause(stdin io.Reader) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	orphaned := make(chan struct{})
	go func() {
		input, err := io.ReadAll(stdin)
		if err != nil || bytes.IndexByte(input, Detach) < 0 {
			close(orphaned)
		}
	}()
	for {
		select {
		case <-orphaned:
			return 0
		case s := <-signals:
			if s != syscall.SIGCHLD {
				return 0
			}
			reap()
		}
	}
}

// reap takes the status of every process that ended.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// execute runs a command as its child and stays its parent, also of what the
// command's children leave behind, so that kill finds everything.
func execute(id, dir string, args []string) int {
	cannot := func(status int, err error) int {
		_ = os.WriteFile(reasonFile(id), []byte(err.Error()), 0o600)
		return status
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return cannot(StatusCannotRun, fmt.Errorf("becoming a reaper: %w", err))
	}
	if err := chdir(dir); err != nil {
		return cannot(StatusCannotRun, fmt.Errorf("working directory: %w", err))
	}
	program, err := lookPath(args[0])
	if err != nil {
		return cannot(StatusNotFound, err)
	}
	// A terminal's interrupt goes to the command as well: it decides.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT)
	terminal := isTerminal(0)
	child, err := os.StartProcess(program, args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: !terminal},
	})
	if err != nil {
		return cannot(StatusCannotRun, err)
	}
	status := await(child.Pid)
	if status >= StatusCannotRun {
		cannot(status, errors.New("")) // it did run: this status is its own
	}
	return status
}

func chdir(dir string) error {
	if optional, ok := strings.CutPrefix(dir, "?"); ok {
		if err := os.Chdir(optional); err != nil {
			return os.Chdir("/")
		}
		return nil
	}
	return os.Chdir(dir)
}

func lookPath(name string) (string, error) {
	if os.Getenv("PATH") == "" { //nolint:forbidigo // inside the container this is the main program
		os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	program, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrDot):
		return program, nil
	case err != nil:
		cause := errors.Unwrap(err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			cause = errors.New("command not found")
		}
		return "", fmt.Errorf("%s: %w", name, cause)
	}
	return program, nil
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// await waits for the command, reaping orphans of it on the way. What it left
// running lives on.
func await(command int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return StatusFailed
		case pid != command:
		case status.Signaled():
			return 128 + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// killPatience is for processes that the kernel cannot end at the moment.
const killPatience = 2 * time.Second

// kill ends everything below the helper that runs exec id, then the helper. The helper
// is stopped first: if it ended before its children did, they would be lost.
func kill(proc, id string) error {
	helpers := find(proc, func(p process) bool { return len(p.args) > 2 && p.args[1] == Exec && p.args[2] == id })
	for _, h := range helpers {
		_ = unix.Kill(h.pid, unix.SIGSTOP)
		deadline := time.Now().Add(killPatience)
		for below := descendants(proc, h.pid); len(below) > 0 && time.Now().Before(deadline); below = descendants(proc, h.pid) {
			for _, p := range below {
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
			time.Sleep(time.Millisecond)
		}
		_ = unix.Kill(h.pid, unix.SIGKILL)
	}
	return nil
}

// process is what /proc tells of one.
type process struct {
	pid, parent int
	zombie      bool
	args        []string
}

func find(proc string, match func(process) bool) []process {
	var found []process
	folders, _ := filepath.Glob(proc + "/[0-9]*")
	for _, folder := range folders {
		if p, ok := readProcess(folder); ok && match(p) {
			found = append(found, p)
		}
	}
	return found
}

// descendants are the living processes below pid.
func descendants(proc string, pid int) []process {
	below := map[int]bool{pid: true}
	all := find(proc, func(process) bool { return true })
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if below[p.parent] && !below[p.pid] {
				below[p.pid], grown = true, true
			}
		}
	}
	var out []process
	for _, p := range all {
		if below[p.pid] && p.pid != pid && !p.zombie {
			out = append(out, p)
		}
	}
	return out
}

func readProcess(folder string) (process, bool) {
	pid, err := strconv.Atoi(filepath.Base(folder))
	if err != nil {
		return process{}, false
	}
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return process{}, false
	}
	// The name, in parentheses, may hold anything; fields count from after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	cmdline, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
	args := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	return process{pid: pid, parent: parent, zombie: fields[0] == "Z" || fields[0] == "X", args: args}, true
}
