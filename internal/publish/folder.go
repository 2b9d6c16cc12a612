package publish

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Format is how a Folder keeps images.
type Format string

// The formats of a Folder.
const (
	Layout        Format = "oci"            // an OCI image layout; the default
	OCIArchive    Format = "oci-archive"    // the same as one tar file
	DockerArchive Format = "docker-archive" // what docker load reads; single images only
)

// Folder publishes to a path on disk: a directory for Layout, a file for the
// archives. A layout keeps what it held; an archive is replaced in one go.
type Folder struct {
	Path   string
	Format Format
}

// Publish implements bake.Publisher.
func (p Folder) Publish(ctx context.Context, a bake.Artifact, refs []bake.Ref) ([]bake.Ref, error) {
	_, digest, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	if err := checkDigests(refs, digest); err != nil {
		return nil, err
	}
	switch p.Format {
	case Layout, "":
		err = store.WriteLayout(ctx, p.Path, named(a, refs)...)
	case OCIArchive:
		err = p.ociArchive(ctx, named(a, refs))
	case DockerArchive:
		err = p.dockerArchive(a, refs)
	default:
		err = fmt.Errorf("unknown output format %q", p.Format)
	}
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", p.Path, err)
	}
	return byDigest(refs, digest), nil
}

// named gives every tag its entry in a layout, as other tools do; without a
// tag the image has one without a name.
func named(a bake.Artifact, refs []bake.Ref) []store.Named {
	var out []store.Named
	for _, ref := range refs {
		if tag, ok := ref.Reference.(name.Tag); ok {
			out = append(out, store.Named{Name: tag.Name(), Image: a.Image, Index: a.Index})
		}
	}
	if out == nil {
		out = []store.Named{{Image: a.Image, Index: a.Index}}
	}
	return out
}

func (p Folder) ociArchive(ctx context.Context, images []store.Named) error {
	dir, err := os.MkdirTemp(filepath.Dir(p.Path), ".imgbake-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := store.WriteLayout(ctx, dir, images...); err != nil {
		return err
	}
	return p.replace(func(w io.Writer) error { return tarDir(w, dir) })
}

func (p Folder) dockerArchive(a bake.Artifact, refs []bake.Ref) error {
	if a.Image == nil {
		return fmt.Errorf("format %s holds no multi-platform images", DockerArchive)
	}
	images := map[name.Tag]v1.Image{}
	for _, ref := range refs {
		if tag, ok := ref.Reference.(name.Tag); ok {
			images[tag] = store.Loadable(a.Image)
		}
	}
	return p.replace(func(w io.Writer) error {
		if len(images) == 0 {
			return tarball.Write(name.Digest{}, store.Loadable(a.Image), w)
		}
		return tarball.MultiWrite(images, w)
	})
}

// replace writes a file beside the path and renames it when it is complete.
func (p Folder) replace(write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(p.Path), ".imgbake-archive-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // not there any more after the rename
	defer file.Close()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), p.Path)
}

// tarDir packs a layout so that the same layout gives the same bytes.
func tarDir(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return tw.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel) + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)})
		}
		return tarFile(tw, path, filepath.ToSlash(rel))
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func tarFile(tw *tar.Writer, path, name string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0)}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(tw, file)
	return err
}
