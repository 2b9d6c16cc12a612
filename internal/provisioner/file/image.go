package file

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// maxLinks is how many links a source in an image is followed through.
const maxLinks = 10

// image copies from another image. What it copies keeps its modes and times,
// the content of an image being the same everywhere.
func (u uploader) image(ctx context.Context, source string) error {
	if u.env.Image == nil {
		return errors.New("from: images cannot be read here")
	}
	source = path.Join("/", source) + slash(source)
	for range maxLinks {
		stream, err := u.env.Image.Files(ctx, u.config.From, path.Clean(source))
		if err != nil {
			return fmt.Errorf("from %s: %w", u.config.From, err)
		}
		next, err := u.imageStream(ctx, source, stream)
		stream.Close()
		if err != nil || next == "" {
			return err
		}
		source = next
	}
	return fmt.Errorf("from %s: source %s: too many links", u.config.From, source)
}

// imageStream copies a stream, or returns where its only entry, a link, leads.
func (u uploader) imageStream(ctx context.Context, source string, stream io.Reader) (link string, err error) {
	r := &entries{source: source, r: tar.NewReader(bufio.NewReader(stream))}
	first, rel, err := r.next()
	if err != nil {
		return "", fmt.Errorf("from %s: source %s: %w", u.config.From, source, err)
	}
	if rel == "." && first.Typeflag == tar.TypeSymlink {
		target := first.Linkname
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(path.Clean(source)), target)
		}
		return path.Clean(target) + slash(source), nil
	}
	isDir := first.Typeflag == tar.TypeDir
	if !isDir && strings.HasSuffix(source, "/") {
		return "", diag.Problem{Text: fmt.Sprintf("source %s of %s is a file", source, u.config.From), Hint: "leave the slash at the end out"}
	}
	p := placeOf(source, isDir, path.Join("/", u.config.Destination)+slash(u.config.Destination))
	own := isDir || strings.HasSuffix(u.config.Destination, "/")
	return "", u.put(ctx, p.into, own, func(w *packer) error {
		walk := u.filter.walk()
		for h := first; err == nil; h, rel, err = r.next() {
			if err := u.imageEntry(w, walk, p, h, rel, r.r); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("from %s: %w", u.config.From, err)
	})
}

func (u uploader) imageEntry(w *packer, walk *walk, p place, h *tar.Header, rel string, content io.Reader) error {
	v, err := walk.judge(rel, h.Typeflag == tar.TypeDir)
	if err != nil || v.out && !v.guarded {
		return err // an image holds what was meant to be in it: only the user's own patterns count
	}
	if rel == "." && p.name == "" {
		return nil
	}
	out := &tar.Header{
		Typeflag: h.Typeflag, Name: p.entry(rel), Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o7777,
		Uid: u.owner.uid, Gid: u.owner.gid, ModTime: h.ModTime, PAXRecords: xattrs(h),
	}
	switch h.Typeflag {
	case tar.TypeReg:
		out.Mode = u.config.Mode.or(out.Mode)
	case tar.TypeDir:
		out.Mode = u.config.DirMode.or(out.Mode)
	case tar.TypeLink:
		out.Linkname = p.entry(h.Linkname)
	case tar.TypeSymlink:
	default:
		u.env.Warn("left out %s: neither file, directory nor link", h.Name)
		return nil
	}
	return w.add(out, content)
}

// xattrs are the records to keep: extended attributes, capabilities of files
// among them.
func xattrs(h *tar.Header) map[string]string {
	var out map[string]string
	for name, v := range h.PAXRecords {
		if strings.HasPrefix(name, "SCHILY.xattr.") {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out
}

// entries reads a stream as Communicator.Get gives it: names start with the
// base name of the source.
type entries struct {
	source string
	r      *tar.Reader
}

// next returns an entry and its path relative to the source, "." for the
// source itself. The target of a hard link is made relative too.
func (e *entries) next() (*tar.Header, string, error) {
	h, err := e.r.Next()
	if err != nil {
		return nil, "", err
	}
	if sparse(h) {
		return nil, "", fmt.Errorf("entry %q is a sparse file: a few bytes could fill the disk", h.Name)
	}
	rel, err := e.rel(h.Name)
	if err == nil && h.Typeflag == tar.TypeLink {
		h.Linkname, err = e.rel(h.Linkname)
	}
	return h, rel, err
}

// sparse reports whether an entry has holes, that is more content than bytes
// in the stream.
func sparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func (e *entries) rel(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if base := path.Base(path.Clean(e.source)); base != "/" {
		first, rest, _ := strings.Cut(clean, "/")
		if first != base {
			return "", fmt.Errorf("entry %q is not below %s", name, e.source)
		}
		clean = path.Clean(rest)
	}
	if clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(clean) {
		return "", fmt.Errorf("entry %q leads out of %s", name, e.source)
	}
	return clean, nil
}
