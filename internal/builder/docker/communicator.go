package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// communicator reaches into a container by way of the helper.
type communicator struct{ m *machine }

// Exec runs a command as a child of the helper.
func (c communicator) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if len(cmd.Args) == 0 {
		return -1, errors.New("no command")
	}
	dir := cmd.Dir
	if dir == "" {
		dir = "?" + remotePath(c.m.base.workdir)
	}
	user := cmd.User
	if user == "" {
		user = c.m.config.ExecUser
	}
	if err := c.m.settle(ctx); err != nil {
		return -1, c.m.engine.explain(err)
	}
	id := rand.Text()
	e := execution{
		args: append([]string{guest.Path, guest.Exec, id, dir}, cmd.Args...),
		env:  cmd.Env, user: user, tty: cmd.TTY || c.m.config.Pty,
		stdin: cmd.Stdin, stdout: cmd.Stdout, stderr: cmd.Stderr,
		kill: func() { c.m.kill(id) },
	}
	status, err := c.m.exec(ctx, e)
	if err == nil && status >= guest.StatusCannotRun {
		err = c.m.whyNot(ctx, id, e)
	}
	if err != nil {
		return -1, c.m.engine.explain(err)
	}
	return status, nil
}

// whyNot tells an exit status that is the command's own, nil, from one that
// says that the command could not run or ended with its container.
func (m *machine) whyNot(ctx context.Context, id string, e execution) error {
	var why bytes.Buffer
	err := m.helper(ctx, nil, &why, guest.Why, id)
	var failed *helperError
	switch {
	case err == nil && why.Len() > 0:
		return errors.New(why.String())
	case err == nil:
		return nil
	case errors.As(err, &failed) && failed.status == guest.StatusMissing && e.user != "":
		return fmt.Errorf("the engine could not start the command as user %q: is there one in the container?", e.user)
	case errors.As(err, &failed) && failed.status == guest.StatusMissing:
		return errors.New("the engine could not start the command, or it was ended from outside")
	}
	return err
}

// Put unpacks a tar, as seen from inside.
func (c communicator) Put(ctx context.Context, dst string, tar io.Reader) error {
	if err := c.m.settle(ctx); err != nil {
		return c.m.engine.explain(err)
	}
	if err := c.m.helper(ctx, tar, nil, guest.Put, remotePath(dst)); err != nil {
		return fmt.Errorf("copying to %s: %w", dst, c.m.engine.explain(err))
	}
	return nil
}

// Get packs a file or directory, as seen from inside.
func (c communicator) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	if err := c.m.settle(ctx); err != nil {
		return nil, c.m.engine.explain(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	go func() {
		err := c.m.helper(ctx, nil, in, guest.Get, remotePath(src))
		var failed *helperError
		if errors.As(err, &failed) && failed.status == guest.StatusMissing {
			err = &fs.PathError{Op: "get", Path: src, Err: fs.ErrNotExist}
		}
		in.CloseWithError(c.m.engine.explain(err))
	}()
	r := &getReader{pipe: out, cancel: cancel}
	// The first bytes tell whether there is anything.
	n, err := io.ReadFull(out, r.head[:])
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("copying from %s: %w", src, err)
	}
	r.rest = r.head[:n]
	return r, nil
}

// getReader is the stream of Get; closing it early ends the helper.
type getReader struct {
	head   [512]byte
	rest   []byte
	pipe   *io.PipeReader
	cancel context.CancelFunc
}

func (r *getReader) Read(p []byte) (int, error) {
	if len(r.rest) > 0 {
		n := copy(p, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	return r.pipe.Read(p)
}

func (r *getReader) Close() error {
	r.cancel()
	return r.pipe.Close()
}

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
func (m *machine) helper(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	var stderr bytes.Buffer
	status, err := m.exec(ctx, execution{args: append([]string{guest.Path}, args...), stdin: stdin, stdout: stdout, stderr: &stderr})
	if err != nil {
		return err
	}
	if status > guest.StatusMissing { // none of its own: ended by a signal, or never started
		if err := m.diedSoon(ctx); err != nil {
			return err
		}
	}
	if status != 0 {
		return &helperError{args[0], status, strings.TrimSpace(stderr.String())}
	}
	return nil
}

// kill ends what an exec started, without help from its context.
func (m *machine) kill(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	_ = m.helper(ctx, nil, nil, guest.Kill, id) // what is left ends with the container
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
func (m *machine) exec(ctx context.Context, e execution) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, context.Cause(ctx)
	}
	if e.user == "" {
		e.user = "0"
	}
	api := m.engine.api
	created, err := api.ContainerExecCreate(ctx, m.id, container.ExecOptions{
		Cmd: e.args, Env: e.env, User: e.user, Tty: e.tty, WorkingDir: "/",
		AttachStdin: e.stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return -1, m.died(ctx, err)
	}
	conn, err := api.ContainerExecAttach(context.WithoutCancel(ctx), created.ID, container.ExecAttachOptions{Tty: e.tty})
	if err != nil {
		return -1, m.died(ctx, err)
	}
	defer conn.Close()
	input := sendInput(conn, e.stdin)
	copied := make(chan error, 1)
	go func() { copied <- receive(conn, e) }()
	select {
	case err = <-copied:
	case <-ctx.Done():
		if e.kill != nil {
			m.killUntilEnded(created.ID, e.kill)
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
		return -1, m.died(ctx, err)
	}
	return m.status(ctx, created.ID)
}

// killUntilEnded kills, and again if the process was only about to start.
func (m *machine) killUntilEnded(execID string, kill func()) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for {
		kill()
		info, err := m.engine.api.ContainerExecInspect(ctx, execID)
		if err != nil || !info.Running && info.Pid != 0 {
			return
		}
		if wait(ctx, 20*time.Millisecond) != nil {
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
func (m *machine) status(ctx context.Context, execID string) (int, error) {
	for {
		info, err := m.engine.api.ContainerExecInspect(ctx, execID)
		if err != nil {
			return -1, m.died(ctx, err)
		}
		if !info.Running {
			return info.ExitCode, nil
		}
		if err := m.died(ctx, nil); err != nil {
			return -1, err
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return -1, err
		}
	}
}

// died explains an error, or the end of a process, by the end of the container.
func (m *machine) died(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	info, inspectErr := m.engine.api.ContainerInspect(ctx, m.id)
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
func (m *machine) diedSoon(ctx context.Context) error {
	for range 20 {
		if err := m.died(ctx, nil); err != nil {
			return err
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
