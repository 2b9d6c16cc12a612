package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/guest"
)

// killTimeout is how long ending a cancelled command may take.
const killTimeout = 3 * time.Second

// helperError says that the helper itself failed.
type helperError struct {
	command string
	status  int
	text    string
}

func (e *helperError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s: exit status %d", e.command, e.status)
	}
	return e.text
}

// helper runs a subcommand of the helper as root.
func (b *box) helper(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	var stderr bytes.Buffer
	status, err := b.exec(ctx, execution{args: append([]string{guest.Path}, args...), stdin: stdin, stdout: stdout, stderr: &stderr})
	if err != nil {
		return err
	}
	if status > guest.StatusRefused { // none of its own: ended by a signal, or never started
		if err := b.diedSoon(ctx); err != nil {
			return err
		}
	}
	if status != 0 {
		return &helperError{args[0], status, strings.TrimSpace(stderr.String())}
	}
	return nil
}

// kill ends what an exec started, without help from its context.
func (b *box) kill(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	_ = b.helper(ctx, nil, nil, guest.Kill, id) // what is left ends with the container
}

// execution is one process in the container.
type execution struct {
	args, env      []string
	user           string
	tty            bool
	stdin          io.Reader
	stdout, stderr io.Writer
	kill           func() // ends it inside, on cancellation
}

// exec runs a process and returns its exit status.
func (b *box) exec(ctx context.Context, e execution) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, context.Cause(ctx)
	}
	if e.user == "" {
		e.user = "0"
	}
	created, err := b.api.ContainerExecCreate(ctx, b.id, container.ExecOptions{
		Cmd: e.args, Env: e.env, User: e.user, Tty: e.tty, WorkingDir: "/",
		AttachStdin: e.stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return -1, b.died(ctx, err)
	}
	conn, err := b.api.ContainerExecAttach(context.WithoutCancel(ctx), created.ID, container.ExecAttachOptions{Tty: e.tty})
	if err != nil {
		return -1, b.died(ctx, err)
	}
	defer conn.Close()
	input := sendInput(conn, e.stdin)
	copied := make(chan error, 1)
	go func() { copied <- receive(conn, e) }()
	select {
	case err = <-copied:
	case <-ctx.Done():
		if e.kill != nil {
			b.killUntilEnded(created.ID, e.kill)
		}
		conn.Close()
		<-copied
		return -1, context.Cause(ctx)
	}
	if readErr := input.Load(); readErr != nil {
		return -1, *readErr
	}
	if err != nil {
		if e.kill != nil {
			e.kill()
		}
		conn.Close()
		return -1, b.died(ctx, err)
	}
	return b.status(ctx, created.ID)
}

// killUntilEnded kills, and again if the process was only about to start.
func (b *box) killUntilEnded(execID string, kill func()) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for {
		kill()
		info, err := b.api.ContainerExecInspect(ctx, execID)
		if err != nil || !info.Running && info.Pid != 0 {
			return
		}
		if bake.Wait(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// sendInput copies the input to the process. An error of reading it is kept.
func sendInput(conn types.HijackedResponse, stdin io.Reader) *atomic.Pointer[error] {
	var failed atomic.Pointer[error]
	if stdin == nil {
		return &failed
	}
	go func() {
		_, err := io.Copy(conn.Conn, readerFunc(func(p []byte) (int, error) {
			n, err := stdin.Read(p)
			if err != nil && err != io.EOF {
				failed.Store(&err)
			}
			return n, err
		}))
		_ = err // the process ended before its input did; its status tells
		_ = conn.CloseWrite()
	}()
	return &failed
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// receive copies the output until the process ends.
func receive(conn types.HijackedResponse, e execution) error {
	stdout, stderr := e.stdout, e.stderr
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	var err error
	if e.tty {
		_, err = io.Copy(stdout, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, conn.Reader)
	}
	return err
}

// status asks for the exit status once the output has ended.
func (b *box) status(ctx context.Context, execID string) (int, error) {
	for {
		info, err := b.api.ContainerExecInspect(ctx, execID)
		if err != nil {
			return -1, b.died(ctx, err)
		}
		if !info.Running {
			return info.ExitCode, nil
		}
		if err := b.died(ctx, nil); err != nil {
			return -1, err
		}
		if err := bake.Wait(ctx, 5*time.Millisecond); err != nil {
			return -1, err
		}
	}
}

// died explains an error, or the end of a process, by the end of the container.
func (b *box) died(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	info, inspectErr := b.api.ContainerInspect(ctx, b.id)
	switch {
	case errdefs.IsNotFound(inspectErr):
		return errors.New("the container was removed by somebody else")
	case inspectErr != nil && err == nil:
		return inspectErr
	case inspectErr != nil || info.State.Running:
		return err
	case info.State.OOMKilled:
		return errors.New("the container was ended by the kernel: out of memory")
	}
	return fmt.Errorf("the container ended (exit status %d)", info.State.ExitCode)
}

// diedSoon is died for a process that was ended by a signal: if the container
// ends with it, the engine says so a moment later.
func (b *box) diedSoon(ctx context.Context) error {
	for range 20 {
		if err := b.died(ctx, nil); err != nil {
			return err
		}
		if err := bake.Wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
