package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// WriteRootfs writes an image's whole root file system as a tar, whole or not
// at all, and returns the file as an artifact.
func WriteRootfs(ctx context.Context, path string, a bake.Artifact) (bake.Artifact, error) {
	file, err := filepath.Abs(path)
	if err != nil {
		return bake.Artifact{}, err
	}
	openers, err := Openers(a.Image)
	if err != nil {
		return bake.Artifact{}, err
	}
	tree, err := layer.Merged(ctx, openers, "")
	if err != nil {
		return bake.Artifact{}, fmt.Errorf("export: %w", err)
	}
	defer tree.Close()
	size, err := writeWhole(file, tree)
	if err != nil {
		return bake.Artifact{}, fmt.Errorf("export: %w", err)
	}
	return bake.Artifact{
		Builder: a.Builder, MediaType: types.MediaType("application/x-tar"), Size: size,
		Platform: a.Platform, Files: []string{file}, Base: a.Base, Removed: a.Removed, Facts: a.Facts,
	}, nil
}

// writeWhole writes a file beside its place and moves it there.
func writeWhole(file string, r io.Reader) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, r)
	if err != nil {
		return 0, err
	}
	if err := f.Chmod(0o644); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return size, os.Rename(f.Name(), file)
}
