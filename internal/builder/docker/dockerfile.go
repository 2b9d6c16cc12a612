package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/build"
	registrytypes "github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/source"
)

// outsideName is what a Dockerfile from outside the context is called inside.
const outsideName = ".imgbake.Dockerfile"

// dockerfile has the engine build an image and returns its ID.
func (b *builder) dockerfile(ctx context.Context, job bake.Job, platform v1.Platform, wanted bool) (string, error) {
	folder, file := b.config.Build.paths()
	c := buildContext{folder: source.Absolute(job.Dir, folder), file: source.Absolute(job.Dir, file)}
	text, err := os.ReadFile(c.file)
	if err != nil {
		return "", fmt.Errorf("dockerfile: %w", err)
	}
	opts, err := b.buildOptions(ctx, text)
	if err != nil {
		return "", err
	}
	if wanted {
		opts.Platform = platform.String()
	}
	if err := c.prepare(); err != nil {
		return "", err
	}
	opts.Dockerfile = c.name
	out, in := io.Pipe()
	go func() { in.CloseWithError(c.write(in)) }()
	defer out.Close()
	resp, err := b.engine.api.ImageBuild(ctx, out, opts)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", file, err)
	}
	defer resp.Body.Close()
	id, err := followBuild(resp.Body, job.Notify)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", file, err)
	}
	return id, nil
}

func (b *builder) buildOptions(ctx context.Context, dockerfile []byte) (build.ImageBuildOptions, error) {
	c := b.config
	opts := build.ImageBuildOptions{
		Target: c.Build.Target, Remove: true, ForceRemove: true, NetworkMode: c.Network, ExtraHosts: c.AddHosts,
		PullParent: c.Pull == source.PullAlways, BuildArgs: map[string]*string{}, AuthConfigs: map[string]registrytypes.AuthConfig{},
	}
	if c.Build.Pull != nil {
		opts.PullParent = *c.Build.Pull
	}
	// The engine knows the proxy arguments and keeps them out of the image.
	for _, key := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if val := b.engine.deps.Getenv(key); val != "" {
			opts.BuildArgs[key] = &val
		}
	}
	for key, val := range c.Build.Args {
		opts.BuildArgs[key] = &val
	}
	for _, image := range fromImages(dockerfile, c.Build.Args) {
		ref, err := name.ParseReference(image)
		if err != nil {
			continue // the name of a stage, or the engine will say it
		}
		auth, err := b.auth(ctx, ref.Context())
		if err != nil {
			return opts, err
		}
		if server := ref.Context().RegistryStr(); !auth.IsZero() {
			if server == name.DefaultRegistry {
				server = "https://index.docker.io/v1/"
			}
			opts.AuthConfigs[server] = authConfig(auth, server)
		}
	}
	return opts, nil
}

// fromImages finds the images that a Dockerfile starts from or copies from.
func fromImages(dockerfile []byte, args map[string]string) []string {
	var env, images []string
	for _, key := range slices.Sorted(maps.Keys(args)) {
		env = append(env, key+"="+args[key])
	}
	lines := bufio.NewScanner(bytes.NewReader(dockerfile))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch strings.ToUpper(words[0]) {
		case "ARG":
			if key, _, ok := strings.Cut(words[1], "="); ok && imageconfig.Lookup(env, key) == "" {
				env = append(env, words[1])
			}
		case "FROM":
			if image := firstArgument(words[1:]); image != "" {
				images = append(images, imageconfig.Unquote(image, env))
			}
		}
	}
	return images
}

func firstArgument(words []string) string {
	for _, w := range words {
		if !strings.HasPrefix(w, "--") {
			return w
		}
	}
	return ""
}

// followBuild passes the build's output on and returns the image's ID.
func followBuild(r io.Reader, notify func(string)) (id string, err error) {
	err = readMessages(r, func(m message) {
		if line := strings.TrimRight(m.Stream, "\r\n"); line != "" {
			notify(line)
		}
		var aux struct{ ID string }
		if json.Unmarshal(m.Aux, &aux) == nil && aux.ID != "" {
			id = aux.ID
		}
	})
	if err == nil && id == "" {
		err = errors.New("the engine did not tell the image's ID")
	}
	return id, err
}

// buildContext is the folder that is sent to the engine.
type buildContext struct {
	folder, file string // absolute
	name         string // of the Dockerfile in the context
	outside      bool
	ignore       *patternmatcher.PatternMatcher
}

// prepare reads the ignore file: that of the Dockerfile, or the folder's.
func (c *buildContext) prepare() error {
	rel, err := filepath.Rel(c.folder, c.file)
	c.name = filepath.ToSlash(rel)
	if err != nil || c.name == ".." || strings.HasPrefix(c.name, "../") {
		c.name, c.outside = outsideName, true
	}
	var patterns []string
	for _, file := range []string{c.file + ".dockerignore", filepath.Join(c.folder, ".dockerignore")} {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if patterns, err = ignorefile.ReadAll(bytes.NewReader(text)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		break
	}
	// The engine needs the Dockerfile, ignored or not.
	patterns = append(patterns, "!"+c.name)
	if c.ignore, err = patternmatcher.New(patterns); err != nil {
		return fmt.Errorf("ignore patterns of %s: %w", c.folder, err)
	}
	return nil
}

// write packs the folder as the docker command does: owned by root, symbolic
// links as they are.
func (c *buildContext) write(w io.Writer) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(c.folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == c.folder {
			return err
		}
		rel, err := filepath.Rel(c.folder, file)
		if err != nil {
			return err
		}
		ignored, err := c.ignore.MatchesOrParentMatches(filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		if ignored {
			return c.skip(rel, d)
		}
		return addFile(tw, file, filepath.ToSlash(rel), d)
	})
	if err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	if c.outside {
		text, err := os.ReadFile(c.file)
		if err != nil {
			return err
		}
		if err := writeFile(tw, outsideName, text); err != nil {
			return err
		}
	}
	return tw.Close()
}

// skip leaves an ignored folder out, unless a pattern brings back something in it.
func (c *buildContext) skip(rel string, d fs.DirEntry) error {
	if !d.IsDir() {
		return nil
	}
	prefix := filepath.ToSlash(rel) + "/"
	for _, p := range c.ignore.Patterns() {
		if p.Exclusion() && (strings.HasPrefix(p.String()+"/", prefix) || strings.ContainsAny(p.String(), "*?[")) {
			return nil
		}
	}
	return filepath.SkipDir
}

func addFile(tw *tar.Writer, file, rel string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	case 0, fs.ModeDir:
	default:
		return nil // sockets and the like are no input
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = rel, 0, 0, "", ""
	if d.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}
