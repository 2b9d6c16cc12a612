package docker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
)

// identity is the base's and that of the settings a step may notice.
func (b *builder) identity() (string, error) {
	c := b.config
	all := map[string]any{
		"network": c.Network, "add_hosts": c.AddHosts, "dns": c.DNS, "shm_size": c.ShmSize, "ulimits": c.Ulimits,
		"volumes": c.Volumes, "tmpfs": c.Tmpfs, "privileged": c.Privileged, "cap_add": c.CapAdd, "cap_drop": c.CapDrop,
		"device": c.Device, "runtime": c.Runtime, "exec_user": c.ExecUser, "pty": c.Pty,
	}
	if c.Memory != "" || c.CPUs != 0 || c.PIDsLimit != 0 {
		all["memory"], all["cpus"], all["pids_limit"] = c.Memory, c.CPUs, c.PIDsLimit
	}
	settings, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	tree := imageconfig.Identity(b.base.diffIDs, v1.Config{Env: b.base.env, WorkingDir: b.base.workdir}, b.base.created, b.base.platform)
	return fmt.Sprintf("%s %x", tree, sha256.Sum256(settings)), nil
}

// image puts the image together: the base, the layers so far, and the changes
// of its configuration.
func (b *builder) image(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	base, err := b.base.image(ctx)
	if err != nil {
		return bake.Artifact{}, err
	}
	img, err := imageconfig.Extend(base, done, imageconfig.Edit{
		Epoch: b.epoch(job), Author: b.config.Author, Message: b.config.Message,
		Changes: b.config.Changes, Config: job.Config,
	})
	if err != nil {
		return bake.Artifact{}, fmt.Errorf("putting the image together: %w", err)
	}
	a, err := imageconfig.Describe(img, base, job, b.base.platform, done)
	if err != nil {
		return bake.Artifact{}, err
	}
	a.Base.Name = b.base.name
	maps.Copy(a.Facts, b.base.facts)
	return a, nil
}

// epoch is the time of everything made here.
func (b *builder) epoch(job bake.Job) time.Time { return imageconfig.Epoch(job, b.base.created) }
