package baketest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Op names what was asked of a Recorder.
type Op string

// The operations of a Communicator.
const (
	OpExec Op = "exec"
	OpPut  Op = "put"
	OpGet  Op = "get"
)

// Call is one thing asked of a Recorder.
type Call struct {
	Op    Op
	Cmd   bake.Cmd // of OpExec, without its streams
	Stdin string   // of OpExec, all of it
	Path  string   // of OpPut and OpGet
	Files []File   // of OpPut
}

// File is an entry of a tar stream and its content.
type File struct {
	tar.Header
	Content string
}

// Recorder is a Communicator, and an Executor for the host, that runs nothing.
// It keeps every call; commands succeed unless OnExec says otherwise. The zero
// value is ready.
type Recorder struct {
	// OnExec, if set, answers for every command. It may write to cmd.Stdout.
	OnExec func(ctx context.Context, cmd bake.Cmd, stdin string) (status int, err error)
	// OnPut, if set, is asked after a stream was read.
	OnPut func(ctx context.Context, dst string, files []File) error
	// Trees are what Get finds: the entries of a stream by their path.
	Trees map[string][]File

	mu    sync.Mutex
	calls []Call
}

// Calls returns what was asked so far.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Of returns the calls of one operation.
func (r *Recorder) Of(op Op) []Call {
	return slices.DeleteFunc(r.Calls(), func(c Call) bool { return c.Op != op })
}

func (r *Recorder) record(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

// Exec keeps the command and what stands on its standard input.
func (r *Recorder) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var stdin []byte
	if cmd.Stdin != nil {
		var err error
		if stdin, err = io.ReadAll(cmd.Stdin); err != nil {
			return 0, fmt.Errorf("standard input: %w", err)
		}
	}
	kept := cmd
	kept.Stdin, kept.Stdout, kept.Stderr = nil, nil, nil
	r.record(Call{Op: OpExec, Cmd: kept, Stdin: string(stdin)})
	if r.OnExec == nil {
		return 0, nil
	}
	if cmd.Stdout == nil {
		cmd.Stdout = io.Discard
	}
	return r.OnExec(ctx, cmd, string(stdin))
}

// Put keeps the entries of the stream.
func (r *Recorder) Put(ctx context.Context, dst string, stream io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	files, err := Untar(stream)
	if err != nil {
		return err
	}
	r.record(Call{Op: OpPut, Path: dst, Files: files})
	if r.OnPut == nil {
		return nil
	}
	return r.OnPut(ctx, dst, files)
}

// Get gives the tree that Trees has under the path.
func (r *Recorder) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.record(Call{Op: OpGet, Path: src})
	files, ok := r.Trees[path.Clean(src)]
	if !ok {
		return nil, fmt.Errorf("packing %s: %w", src, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(Tar(files...))), nil
}

// Shown is everything of the calls that other processes, logs and plans could
// see: arguments, directories, users and paths; neither environment nor
// standard input nor content.
func (r *Recorder) Shown() string {
	var b strings.Builder
	for _, c := range r.Calls() {
		fmt.Fprintln(&b, c.Op, c.Cmd.Args, c.Cmd.Dir, c.Cmd.User, c.Path)
		for _, f := range c.Files {
			fmt.Fprintln(&b, f.Name, f.Linkname)
		}
	}
	return b.String()
}

// Tar makes a stream of entries. Sizes are set; a name that ends in a slash is
// a directory; a type and a mode of 0 are the usual ones.
func Tar(files ...File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.Content))
		if h.Mode == 0 {
			h.Mode = 0o644
			if strings.HasSuffix(h.Name, "/") {
				h.Mode = 0o755
			}
		}
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = io.WriteString(w, f.Content)
		}
		if err != nil {
			panic(fmt.Sprintf("baketest.Tar: entry %q: %v", f.Name, err)) // a bug of the test
		}
	}
	w.Close()
	return b.Bytes()
}

// Untar reads a whole stream.
func Untar(stream io.Reader) ([]File, error) {
	var files []File
	r := tar.NewReader(stream)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return files, err
		}
		files = append(files, File{*h, string(content)})
	}
}
