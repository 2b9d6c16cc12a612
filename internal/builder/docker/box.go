package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// box is a container whose first process is the helper.
type box struct {
	api   *client.Client
	name  string // known before the container is, to remove one whose making was cut short
	id    string
	stdin *types.HijackedResponse
}

func containerName(bakeName string) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	return namePrefix + cleanName(bakeName, 60) + "-" + hex.EncodeToString(random[:])
}

// cleanName is the beginning of a text with what an engine takes in names only.
func cleanName(text string, length int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, text)
	return clean[:min(len(clean), length)]
}

// create makes the container. It returns what the engine warns of.
func (b *box) create(ctx context.Context, config *container.Config, host *container.HostConfig, platform *ocispec.Platform) ([]string, error) {
	created, err := b.api.ContainerCreate(ctx, config, host, nil, platform, b.name)
	if err != nil {
		return nil, fmt.Errorf("creating the container: %w", err)
	}
	b.id = created.ID
	return created.Warnings, nil
}

// run starts the container with its input attached: when this process dies, the
// engine closes the input, and the container ends.
func (b *box) run(ctx context.Context, program string) error {
	if err := b.putHelper(ctx, program); err != nil {
		return err
	}
	stdin, err := b.api.ContainerAttach(context.WithoutCancel(ctx), b.id, container.AttachOptions{Stream: true, Stdin: true})
	if err != nil {
		return fmt.Errorf("attaching to the container: %w", err)
	}
	b.stdin = &stdin
	if err := b.api.ContainerStart(ctx, b.id, container.StartOptions{}); err != nil {
		return fmt.Errorf("starting the container: %w", err)
	}
	return nil
}

// created is when the container was made, by the engine's clock.
func (b *box) created(ctx context.Context) (time.Time, error) {
	info, err := b.api.ContainerInspect(ctx, b.id)
	if err != nil {
		return time.Time{}, err
	}
	created, err := time.Parse(time.RFC3339Nano, info.Created)
	if err != nil {
		return time.Time{}, fmt.Errorf("creation time of the container: %w", err)
	}
	return created, nil
}

func (b *box) putHelper(ctx context.Context, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: layer.HelperDir + "/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(guest.RunDir, "/") + "/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(guest.Path, "/"), Mode: 0o755, Size: int64(len(data))},
	} {
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	if _, err := tw.Write(data); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := b.api.CopyToContainer(ctx, b.id, "/", &buf, container.CopyToContainerOptions{}); err != nil {
		return fmt.Errorf("copying the helper into the container: %w", err)
	}
	return nil
}

// hangUp ends the connection to the container's input.
func (b *box) hangUp() {
	if b.stdin != nil {
		b.stdin.Close()
		b.stdin = nil
	}
}

// remove ends the container and removes it and its nameless volumes.
func (b *box) remove(ctx context.Context) error {
	err := removeContainer(ctx, b.api, b.name)
	b.hangUp()
	return err
}

func removeContainer(ctx context.Context, api *client.Client, name string) error {
	err := api.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return nil
	}
	return err
}
