// Package compress is the compress post-processor: it packs the artifact's
// files into an archive, or compresses a single one.
package compress

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Output string `key:"output" doc:"File to write, with the fields {{.BuildName}}, {{.BuilderType}} and {{.Provider}}. Its ending says the format: .tar, .tar.gz, .tgz, .tar.zst, .zip, .gz, .zst." opt:"known,default=packer_{{.BuildName}}_{{.BuilderType}}.tar.gz"`
	Format string `key:"format" alias:"archive,algorithm" doc:"Format, when the ending of output does not say it." opt:"known"`
	Level  int    `key:"compression_level" doc:"From 1, fast, to 9, small." opt:"known,default=6"`
}

var formats = []string{"tar", "tar.gz", "tar.zst", "zip", "gz", "zst"}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "compress",
		Doc:     "Packs the artifact's files into an archive, which replaces them, or compresses a single file.",
		Example: "- compress: {output: out/web.tar.zst}",
		Zero:    Config{Output: "packer_{{.BuildName}}_{{.BuilderType}}.tar.gz", Level: 6},
		Check:   check,
		Title:   func(c Config) string { return "compress: " + c.Output },
		New:     func(c Config) (bake.Post, error) { return compressor{c}, nil },
	})
}

func check(c Config, w value.Where) (problems diag.List) {
	if c.Level < 1 || c.Level > 9 {
		problems.Add(w.At("compression_level"), "", "compression_level %d is not between 1 and 9", c.Level)
	}
	if format := c.format(); !slices.Contains(formats, format) {
		key := "output"
		if w.Given("format") {
			key = "format"
		}
		problems.Add(w.At(key), "known: "+strings.Join(formats, ", "), "unknown format %q", format)
	}
	if _, err := bake.RenderFields(c.Output, fields(bake.Job{})); err != nil {
		problems.AppendErr(w.At("output"), err)
	}
	return problems
}

// format is what the output's ending says, or else the format key, or else tar.gz.
func (c Config) format() string {
	name := filepath.Base(c.Output)
	for _, ending := range []string{"tar.gz", "tar.zst", "tar", "zip", "gz", "zst"} {
		if strings.HasSuffix(name, "."+ending) {
			return ending
		}
	}
	if strings.HasSuffix(name, ".tgz") {
		return "tar.gz"
	}
	switch ext := strings.TrimPrefix(filepath.Ext(name), "."); {
	case c.Format != "":
		return strings.TrimPrefix(c.Format, ".")
	case ext == "":
		return "tar.gz"
	default:
		return ext
	}
}

func fields(job bake.Job) map[string]string {
	return map[string]string{"BuildName": job.Builder, "BuilderType": job.Type, "Provider": job.Type}
}

type compressor struct{ Config }

// Process writes the archive. What it was made of is given up unless
// keep_input_artifact says otherwise.
func (c compressor) Process(ctx context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	var files []string
	for _, a := range in {
		files = append(files, a.Files...)
	}
	if len(files) == 0 {
		return nil, false, errors.New("compress works on files, and was given none: use export_path, or docker-save and artifice, before it")
	}
	if err := distinct(files); err != nil {
		return nil, false, err
	}
	name, err := bake.RenderFields(c.Output, fields(env.Job))
	if err != nil {
		return nil, false, err
	}
	path := env.OutPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, false, err
	}
	if err := c.write(ctx, path, files); err != nil {
		os.Remove(path + ".tmp")
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, err
	}
	return []bake.Artifact{{Builder: "compress", MediaType: "application/octet-stream", Size: info.Size(), Files: []string{path}}}, false, nil
}

// distinct reports files that would have the same name in the archive.
func distinct(files []string) error {
	seen := map[string]string{}
	for _, file := range files {
		base := filepath.Base(file)
		if other, ok := seen[base]; ok && other != file {
			return fmt.Errorf("%s and %s would have the same name in the archive", other, file)
		}
		seen[base] = file
	}
	return nil
}

func (c compressor) write(ctx context.Context, path string, files []string) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	defer f.Close()
	format := c.format()
	switch {
	case format == "zip":
		err = zipAll(ctx, f, files)
	case strings.HasPrefix(format, "tar"):
		err = c.compressed(f, strings.TrimPrefix(strings.TrimPrefix(format, "tar"), "."), func(w io.Writer) error { return tarAll(ctx, w, files) })
	case len(files) != 1:
		err = fmt.Errorf("%s holds one file, and there are %d: use tar.%s", format, len(files), format)
	default:
		err = c.compressed(f, format, func(w io.Writer) error { return copyFile(ctx, w, files[0]) })
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// compressed gives fill a writer that compresses; "" is a plain one.
func (c compressor) compressed(out io.Writer, algorithm string, fill func(io.Writer) error) error {
	var w io.WriteCloser
	var err error
	switch algorithm {
	case "gz":
		w, err = pgzip.NewWriterLevel(out, c.Level)
	case "zst":
		w, err = zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.Level)))
	default:
		return fill(out)
	}
	if err != nil {
		return err
	}
	if err := fill(w); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}

func tarAll(ctx context.Context, out io.Writer, files []string) error {
	w := tar.NewWriter(out)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = filepath.Base(file)
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if err := copyFile(ctx, w, file); err != nil {
			return err
		}
	}
	return w.Close()
}

func zipAll(ctx context.Context, out io.Writer, files []string) error {
	w := zip.NewWriter(out)
	for _, file := range files {
		entry, err := w.Create(filepath.Base(file))
		if err != nil {
			return err
		}
		if err := copyFile(ctx, entry, file); err != nil {
			return err
		}
	}
	return w.Close()
}

func copyFile(ctx context.Context, w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, cancellable{ctx, f})
	return err
}

// cancellable stops reading when the context ends.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
