package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// newDraft is a draft on the machine's tree, or nil where only a sandbox knows
// what becomes of files: with one owner for all, with mounts, or with links at
// the places where it shows what is its own.
func (m *machine) newDraft() (*layer.Draft, error) {
	if m.deps.SquashOwners || len(m.config.Tmpfs) > 0 {
		return nil, nil
	}
	for _, p := range sandbox.Shown() {
		for ; p != "."; p = path.Dir(p) {
			if e, _ := m.tree.Raw().Lookup(p); e.Type == layer.Symlink {
				return nil, nil
			}
		}
	}
	skip := sandbox.Shown()
	if _, there := m.tree.Raw().Lookup("etc/mtab"); !there {
		skip = append(skip, "etc/mtab") // a sandbox makes one
	}
	ids := 1<<32 - 2
	if os.Geteuid() != 0 {
		ids = 1<<16 - 1 // of an ordinary user's sandbox, most often
	}
	scratch, err := m.deps.Store.Scratch()
	if err != nil {
		return nil, err
	}
	return layer.NewDraft(m.tree.Raw(), m.epoch(m.job).Unix(), skip, ids, scratch), nil
}

// leaveDraft brings the sandbox to where the draft is.
func (m *machine) leaveDraft(ctx context.Context) error {
	draft := m.draft
	if draft == nil {
		return nil
	}
	draft.Leave() // what is being put goes on here
	m.dropEarly()
	if !draft.Empty() {
		out, in := io.Pipe()
		go func() { in.CloseWithError(draft.Replay(in)) }()
		err := m.box.Put(ctx, "/", out)
		out.Close()
		if err != nil {
			return err
		}
	}
	m.draft = nil
	return draft.Close()
}

// put puts a tar into the draft. What it has no place for is not done: a rest of
// the tar, for the root of the sandbox, or all of it where rest is nil.
func (m *machine) put(ctx context.Context, dst string, tar io.Reader) (rest io.ReadCloser, done bool, err error) {
	draft, err := m.drafted(ctx)
	if draft == nil || err != nil {
		return nil, false, err
	}
	rest, err = draft.Put(ctx, dst, tar)
	switch {
	case layer.Beyond(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("copying to %s: %w", dst, err)
	}
	return rest, rest == nil, nil
}

// drafted is the draft, if there is one. If the step that puts into it will be
// committed by itself, its layer is written meanwhile.
func (m *machine) drafted(ctx context.Context) (*layer.Draft, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draft == nil || m.early != nil || !m.job.Each {
		return m.draft, nil
	}
	early, err := m.deps.Store.Begin(context.WithoutCancel(ctx), m.tree, m.policy())
	if err != nil {
		return nil, err
	}
	if m.draft.Follow(early.Publication, early.Plain) {
		m.early = early
	} else {
		early.Abort()
	}
	return m.draft, nil
}

// dropEarly gives up the checkpoint that was begun.
func (m *machine) dropEarly() {
	if m.early != nil {
		m.early.Abort()
		m.early = nil
	}
}

// get is Get of the draft; nil: that takes a sandbox.
func (m *machine) get(ctx context.Context, src string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draft == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e, there, err := m.draft.Lookup(src)
	switch {
	case err != nil:
		return nil, nil
	case !there:
		return nil, fmt.Errorf("copying from %s: %w", src, &fs.PathError{Op: "get", Path: src, Err: fs.ErrNotExist})
	case e.Type == layer.File && e.Size <= maxRead && e.LinkGroup == "" && len(e.Xattrs) == 0:
		content, err := m.content(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("copying from %s: %w", src, err)
		}
		return fileTar(path.Base(path.Join("/", src)), e, content)
	}
	return &lateStream{open: func() (io.ReadCloser, error) {
		box, err := m.live(ctx)
		if err != nil {
			return nil, err
		}
		return box.Get(ctx, src)
	}}, nil
}

// maxRead is the size in bytes up to which a file of a draft is read without a
// sandbox: the tables of users and groups are smaller.
const maxRead = 1 << 20

// content reads a small file of the draft.
func (m *machine) content(ctx context.Context, e layer.Entry) ([]byte, error) {
	if put := m.draft.Open(e); put != nil {
		return io.ReadAll(put)
	}
	chain, err := m.chain()
	if err != nil {
		return nil, err
	}
	if roots, err := m.open(); err == nil {
		if data, err := roots.Read(chain, e.Path, maxRead); err == nil && sha256.Sum256(data) == e.Digest {
			return data, nil
		}
	}
	if err := m.fetch(ctx); err != nil {
		return nil, err
	}
	if chain, err = m.chain(); err != nil {
		return nil, err
	}
	layers := make([]layer.Opener, len(chain))
	for i, l := range chain {
		layers[i] = l.Open
	}
	merged, err := layer.Merged(ctx, layers, "/"+e.Path)
	if err != nil {
		return nil, err
	}
	defer merged.Close()
	in := tar.NewReader(merged)
	if _, err := in.Next(); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in, maxRead))
}

// fileTar is what Get gives of a file.
func fileTar(name string, e layer.Entry, content []byte) (io.ReadCloser, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID,
		ModTime: time.Unix(e.ModTime, 0), Format: tar.FormatPAX,
	})
	if err == nil {
		_, err = w.Write(content)
	}
	return io.NopCloser(&out), errors.Join(err, w.Close())
}

// lateStream is opened when it is first read: who only asks whether something is
// there needs no sandbox.
type lateStream struct {
	open   func() (io.ReadCloser, error)
	stream io.ReadCloser
}

// Read opens the stream and reads.
func (l *lateStream) Read(p []byte) (int, error) {
	if l.stream == nil {
		stream, err := l.open()
		if err != nil {
			return 0, err
		}
		l.stream = stream
	}
	return l.stream.Read(p)
}

// Close closes what was opened.
func (l *lateStream) Close() error {
	if l.stream == nil {
		return nil
	}
	return l.stream.Close()
}
