package docker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"

	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/source"
)

// containerConfig is the container as it is made. It has no environment of
// ours and runs the helper as root; the image's own settings are put together
// elsewhere and do not come from here.
func (m *machine) containerConfig(imageID string) (*container.Config, *container.HostConfig, error) {
	c := m.config
	shm, err := source.Bytes(c.ShmSize)
	if err != nil {
		return nil, nil, fmt.Errorf("shm_size %q: %w", c.ShmSize, err)
	}
	memory, err := source.Bytes(c.Memory)
	if err != nil {
		return nil, nil, fmt.Errorf("memory %q: %w", c.Memory, err)
	}
	host := &container.HostConfig{
		Resources:   container.Resources{Memory: memory, MemorySwap: memory, NanoCPUs: int64(c.CPUs * 1e9)}, // memory with swap
		NetworkMode: container.NetworkMode(c.Network),
		ExtraHosts:  c.AddHosts,
		DNS:         c.DNS,
		ShmSize:     shm,
		Privileged:  c.Privileged,
		CapAdd:      c.CapAdd,
		CapDrop:     c.CapDrop,
		Runtime:     c.Runtime,
		Tmpfs:       tmpfs(c.Tmpfs),
		LogConfig:   container.LogConfig{Type: "none"},
	}
	if c.PIDsLimit > 0 {
		host.PidsLimit = &c.PIDsLimit
	}
	for source, target := range c.Volumes {
		host.Binds = append(host.Binds, source+":"+target)
	}
	slices.Sort(host.Binds)
	for _, d := range c.Device {
		device, err := parseDevice(d)
		if err != nil {
			return nil, nil, err
		}
		host.Devices = append(host.Devices, device)
	}
	for _, u := range c.Ulimits {
		limit, err := units.ParseUlimit(u)
		if err != nil {
			return nil, nil, fmt.Errorf("ulimit %q: %w", u, err)
		}
		host.Ulimits = append(host.Ulimits, limit)
	}
	return m.idleConfig(imageID), host, nil
}

// idleConfig is a container that runs the helper.
func (m *machine) idleConfig(imageID string) *container.Config {
	return &container.Config{
		Image:       imageID,
		Entrypoint:  []string{guest.Path, guest.Pause},
		Cmd:         []string{},
		User:        "0",
		WorkingDir:  "/",
		OpenStdin:   true,
		StdinOnce:   true,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		Labels:      m.engine.labels(m.job.RunID, m.job.Name),
	}
}

func tmpfs(list []string) map[string]string {
	mounts := map[string]string{}
	for _, t := range list {
		p, options, _ := strings.Cut(t, ":")
		mounts[p] = options
	}
	return mounts
}

// parseDevice reads host[:container[:permissions]].
func parseDevice(s string) (container.DeviceMapping, error) {
	d := container.DeviceMapping{CgroupPermissions: "rwm"}
	parts := strings.Split(s, ":")
	if len(parts) > 3 || parts[0] == "" {
		return d, fmt.Errorf("device %q is not host[:container[:permissions]]", s)
	}
	d.PathOnHost, d.PathInContainer = parts[0], parts[0]
	if len(parts) == 2 && !strings.HasPrefix(parts[1], "/") {
		parts = []string{parts[0], parts[0], parts[1]}
	}
	if len(parts) > 1 {
		d.PathInContainer = parts[1]
	}
	if len(parts) > 2 {
		d.CgroupPermissions = parts[2]
	}
	if strings.Trim(d.CgroupPermissions, "rwm") != "" || !strings.HasPrefix(d.PathInContainer, "/") {
		return d, fmt.Errorf("device %q is not host[:container[:permissions]]", s)
	}
	return d, nil
}
