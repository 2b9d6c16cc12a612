package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Load makes the engine hold an image under its tags, sending only the layers
// it lacks. Tags move once the image is there and is the right one.
func (e *Engine) Load(ctx context.Context, a bake.Artifact) (bake.Artifact, error) {
	if a.Image == nil {
		return a, fmt.Errorf("%s artifact: no container image to load", a.Builder)
	}
	if err := e.connect(ctx); err != nil {
		return a, err
	}
	id, err := e.hold(ctx, a)
	if err != nil {
		return a, e.explain(err)
	}
	for _, ref := range a.Refs {
		tag, ok := ref.Reference.(name.Tag)
		if !ok {
			continue
		}
		if err := e.api.ImageTag(ctx, id, tag.Name()); err != nil {
			return a, e.explain(fmt.Errorf("tagging %s: %w", tag, err))
		}
	}
	a.EngineID = id
	return a, nil
}

// hold returns the engine's ID of the image, loading it if need be.
func (e *Engine) hold(ctx context.Context, a bake.Artifact) (string, error) {
	config, err := a.Image.ConfigName()
	if err != nil {
		return "", err
	}
	unlock, err := e.bases.Lock(ctx, "load "+config.String())
	if err != nil {
		return "", err
	}
	defer unlock()
	digest, err := a.Image.Digest()
	if err != nil {
		return "", err
	}
	for _, id := range []string{config.String(), digest.String()} {
		if info, err := e.api.ImageInspect(ctx, id); err == nil {
			return info.ID, nil
		} else if !errdefs.IsNotFound(err) {
			return "", err
		}
	}
	have, err := e.held(ctx, a)
	if err != nil {
		return "", err
	}
	id, err := e.send(ctx, a.Image, have)
	if err != nil && have > 0 && ctx.Err() == nil {
		id, err = e.send(ctx, a.Image, 0)
	}
	return id, err
}

// held counts the layers, from the base up, that the engine has for sure: those
// of the image's base. The containerd store wants all of them in any case.
func (e *Engine) held(ctx context.Context, a bake.Artifact) (int, error) {
	if e.containerdStore() || a.Base.ID == (v1.Hash{}) {
		return 0, nil
	}
	info, err := e.api.ImageInspect(ctx, a.Base.ID.String())
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	config, err := a.Image.ConfigFile()
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(info.RootFS.Layers) && n < len(config.RootFS.DiffIDs) && info.RootFS.Layers[n] == config.RootFS.DiffIDs[n].String() {
		n++
	}
	return n, nil
}

// send loads an image without its lowest layers and checks what came of it.
func (e *Engine) send(ctx context.Context, img v1.Image, without int) (string, error) {
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return "", err
	}
	want, err := img.ConfigName()
	if err != nil {
		return "", err
	}
	id, err := e.loadArchive(ctx, func(w io.Writer) error { return writeArchive(ctx, w, config, want.Hex, layers, without) })
	if err != nil {
		return "", err
	}
	if !e.containerdStore() {
		id = want.String()
	}
	info, err := e.api.ImageInspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return "", fmt.Errorf("the engine took the image %s, but as another one", want)
	}
	return info.ID, err
}

// loadTwin loads an image of layers that the engine has, and some on top of
// them that it may lack.
func (e *Engine) loadTwin(ctx context.Context, config *v1.ConfigFile, top []v1.Layer) (string, error) {
	if e.containerdStore() {
		return "", errors.New("the engine takes no image without its layers")
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	held := len(config.RootFS.DiffIDs) - len(top)
	layers := append(make([]v1.Layer, held), top...)
	_, err = e.loadArchive(ctx, func(w io.Writer) error { return writeArchive(ctx, w, raw, digest.Hex, layers, held) })
	if err != nil {
		return "", err
	}
	info, err := e.api.ImageInspect(ctx, digest.String())
	return info.ID, err
}

const loadedID = "Loaded image ID: "

// loadArchive streams a docker archive to the engine and returns the image ID
// that it tells, if it tells one.
func (e *Engine) loadArchive(ctx context.Context, write func(io.Writer) error) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, in := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(in)
		in.CloseWithError(err)
		written <- err
	}()
	id, err := e.postArchive(ctx, out)
	out.CloseWithError(io.ErrClosedPipe)
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		return "", writeErr // the cause, rather than the engine's view of it
	}
	return id, err
}

func (e *Engine) postArchive(ctx context.Context, archive io.Reader) (id string, err error) {
	resp, err := e.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	err = readMessages(resp.Body, func(m message) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(m.Stream), loadedID); ok {
			id = rest
		}
	})
	return id, err
}

// writeArchive writes what docker load takes: the config, the layers but for
// the lowest, and a manifest that names them all.
func writeArchive(ctx context.Context, w io.Writer, config []byte, id string, layers []v1.Layer, without int) error {
	tw := tar.NewWriter(w)
	manifest := archiveManifest{Config: id + ".json", Layers: []string{}}
	if err := writeFile(tw, manifest.Config, config); err != nil {
		return err
	}
	sent := map[string]bool{}
	for i, l := range layers {
		file := fmt.Sprintf("layer-%d.tar", i)
		if i >= without {
			digest, err := l.Digest()
			if err != nil {
				return err
			}
			if file = digest.Hex + ".tar"; !sent[file] {
				sent[file] = true
				if err := writeLayer(ctx, tw, file, l); err != nil {
					return fmt.Errorf("layer %s: %w", digest, err)
				}
			}
		}
		manifest.Layers = append(manifest.Layers, file)
	}
	text, err := json.Marshal([]archiveManifest{manifest})
	if err != nil {
		return err
	}
	if err := writeFile(tw, "manifest.json", text); err != nil {
		return err
	}
	return tw.Close()
}

type archiveManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func writeFile(tw *tar.Writer, file string, data []byte) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

func writeLayer(ctx context.Context, tw *tar.Writer, file string, l v1.Layer) error {
	l, err := store.LoadableLayer(l)
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	content, err := l.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err = io.Copy(tw, store.Reader(ctx, content))
	return err
}
