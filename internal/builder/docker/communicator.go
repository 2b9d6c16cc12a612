package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/guest"
)

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
