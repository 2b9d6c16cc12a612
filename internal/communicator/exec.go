// Package communicator makes whole communicators of parts: FromExec gives Put
// and Get to whatever can run a command, by running tar inside.
package communicator

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Options say how tar is run inside. The zero value runs it as root.
type Options struct {
	Prefix []string // put before every command of Put and Get, such as sudo -n
	User   string   // who runs them
}

// FromExec makes a communicator of something that runs commands. The inside
// needs sh, mkdir and tar, GNU's or busybox's.
func FromExec(e bake.Executor, o Options) bake.Communicator { return &overExec{e, o} }

type overExec struct {
	bake.Executor
	options Options
}

// The status by which getScript says that the source is not there; tar and sh
// have no use for it.
const statusMissing = 44

const (
	putScript = `umask 022; mkdir -p -- "$1" && exec tar --numeric-owner -xpf - -C "$1"`
	getScript = `[ -e "$1/$2" ] || [ -L "$1/$2" ] || exit 44; exec tar --numeric-owner -cf - -C "$1" -- "$2"`
)

// Put runs tar -x below dst.
func (c *overExec) Put(ctx context.Context, dst string, tar io.Reader) error {
	var stderr tail
	status, err := c.Exec(ctx, bake.Cmd{
		Args:  c.args(putScript, dst),
		User:  c.options.User,
		Stdin: tar, Stderr: &stderr,
	})
	switch {
	case err != nil:
		return fmt.Errorf("unpacking to %s: %w", dst, err)
	case status != 0:
		return fmt.Errorf("unpacking to %s: tar ended with status %d%s", dst, status, stderr.detail())
	}
	return nil
}

// Get runs tar -c on src. Closing the stream early ends tar.
func (c *overExec) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	src = path.Clean(src)
	dir, base := path.Dir(src), path.Base(src)
	if src == "/" {
		base = "."
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &stream{buffered: bufio.NewReader(r), pipe: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		var stderr tail
		status, err := c.Exec(ctx, bake.Cmd{
			Args: c.args(getScript, dir, base), User: c.options.User, Stdout: w, Stderr: &stderr,
		})
		switch {
		case err != nil:
		case status == statusMissing:
			err = fs.ErrNotExist
		case status != 0:
			err = fmt.Errorf("tar ended with status %d%s", status, stderr.detail())
		}
		if err != nil {
			err = fmt.Errorf("packing %s: %w", src, err)
		}
		w.CloseWithError(err)
	}()
	if _, err := s.buffered.Peek(1); err != nil && err != io.EOF {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (c *overExec) args(script string, args ...string) []string {
	return append(append(slices.Clone(c.options.Prefix), "/bin/sh", "-c", script, "sh"), args...)
}

// stream is what Get returns.
type stream struct {
	buffered *bufio.Reader
	pipe     *io.PipeReader
	cancel   context.CancelFunc
	done     chan struct{}
}

func (s *stream) Read(p []byte) (int, error) { return s.buffered.Read(p) }

// Close ends the command and waits for it.
func (s *stream) Close() error {
	s.cancel()
	s.pipe.Close()
	<-s.done
	return nil
}

// tail keeps the end of what tar says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - 1024; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) detail() string {
	text := strings.Join(strings.Fields(string(bytes.ToValidUTF8(t.b, nil))), " ")
	if text == "" {
		return ""
	}
	return ": " + text
}
