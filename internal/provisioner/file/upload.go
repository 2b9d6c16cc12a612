package file

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
)

// uploader copies into the machine.
type uploader struct {
	config Config
	env    bake.Env
	owner  owner
	filter filter
}

// tree is one source on the host and where it goes.
type tree struct {
	source string // path in Env.Files
	dir    bool
	place  place
}

// content writes a text.
func (u uploader) content(ctx context.Context, text string) error {
	p := placeOf("", false, path.Join("/", u.config.Destination))
	return u.put(ctx, p.into, false, func(w *packer) error {
		header := u.header(tar.TypeReg, p.name, u.config.Mode.or(0o644))
		header.Size = int64(len(text))
		return w.add(header, strings.NewReader(text))
	})
}

// host copies files of the host, one stream for all that go to one directory.
func (u uploader) host(ctx context.Context, sources []string) error {
	var order []string
	byInto := map[string][]tree{}
	for _, source := range sources {
		t, err := u.tree(source, len(sources) > 1)
		if err != nil {
			return err
		}
		if byInto[t.place.into] == nil {
			order = append(order, t.place.into)
		}
		byInto[t.place.into] = append(byInto[t.place.into], t)
	}
	for _, into := range order {
		own := strings.HasSuffix(u.config.Destination, "/") || byInto[into][0].dir
		err := u.put(ctx, into, own, func(w *packer) error {
			for _, t := range byInto[into] {
				if err := u.write(ctx, w, t); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tree looks at a source.
func (u uploader) tree(source string, several bool) (tree, error) {
	name, err := u.env.FilePath(source)
	if err != nil {
		return tree{}, err
	}
	guarded, err := u.filter.guards(name)
	if err != nil {
		return tree{}, err
	}
	if guarded {
		return tree{}, diag.Problem{Text: fmt.Sprintf("source %s may hold credentials", source), Hint: fmt.Sprintf("to copy it all the same add the exclude pattern %q", "!"+name)}
	}
	info, err := fs.Stat(u.env.Files, name)
	if err != nil {
		return tree{}, fmt.Errorf("source: %w", err)
	}
	if several && !info.IsDir() && !strings.HasSuffix(u.config.Destination, "/") {
		return tree{}, diag.Problem{Text: fmt.Sprintf("several sources go to the file %s", u.config.Destination), Hint: "end the destination with a slash to make it a directory"}
	}
	return tree{name, info.IsDir(), placeOf(source, info.IsDir(), path.Join("/", u.config.Destination)+slash(u.config.Destination))}, nil
}

func slash(s string) string {
	if strings.HasSuffix(s, "/") {
		return "/"
	}
	return ""
}

// put streams entries into a directory. With own, a directory that is not
// there yet gets the owner and mode of the others; else it is root's.
func (u uploader) put(ctx context.Context, into string, own bool, write func(*packer) error) error {
	prefix := ""
	if own && into != "/" && (u.owner != owner{} || u.config.DirMode.Given) {
		missing, err := u.missing(ctx, into)
		if err != nil {
			return err
		}
		if missing {
			prefix, into = path.Base(into), path.Dir(into)
		}
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		buffered := bufio.NewWriterSize(w, 128<<10) // a pipe takes one write at a time
		p := &packer{w: tar.NewWriter(buffered), prefix: prefix, buf: make([]byte, 256<<10)}
		err := u.stream(p, write)
		if err == nil {
			err = buffered.Flush()
		}
		w.CloseWithError(err)
		done <- err
	}()
	err := u.env.Communicator.Put(ctx, into, r)
	r.Close() // frees the writer when Put gave up early
	if writeErr := <-done; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		return writeErr
	}
	return err
}

func (u uploader) missing(ctx context.Context, dir string) (bool, error) {
	stream, err := u.env.Communicator.Get(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, stream.Close()
}

func (u uploader) stream(p *packer, write func(*packer) error) error {
	if p.prefix != "" {
		top := u.header(tar.TypeDir, "", u.config.DirMode.or(0o755))
		if err := p.add(top, nil); err != nil {
			return err
		}
	}
	if err := write(p); err != nil {
		return err
	}
	return p.w.Close()
}

func (u uploader) header(kind byte, name string, mode int64) *tar.Header {
	return &tar.Header{
		Typeflag: kind, Name: name, Mode: mode, Uid: u.owner.uid, Gid: u.owner.gid, ModTime: u.env.Job.FileTime(),
	}
}

// packer writes entries below a prefix.
type packer struct {
	w      *tar.Writer
	prefix string
	buf    []byte
}

// add writes an entry and, of a regular file, exactly as much content as its
// header says.
func (p *packer) add(h *tar.Header, content io.Reader) error {
	name := h.Name
	h.Name = path.Join(p.prefix, name)
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeLink:
		h.Linkname = path.Join(p.prefix, h.Linkname)
	}
	if err := p.w.WriteHeader(h); err != nil {
		return fmt.Errorf("packing %s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg || content == nil {
		return nil
	}
	n, err := io.CopyBuffer(p.w, struct{ io.Reader }{content}, p.buf)
	switch {
	case errors.Is(err, tar.ErrWriteTooLong) || err == nil && n < h.Size:
		return fmt.Errorf("packing %s: it changed while it was read", name)
	case err != nil:
		return fmt.Errorf("packing %s: %w", name, err)
	}
	return nil
}
