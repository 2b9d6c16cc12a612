// Package imageconfig changes the configuration of container images: as a
// template's config says, and as Dockerfile instructions say.
package imageconfig

import (
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Apply makes the template's changes: nil keeps, an empty list clears.
func Apply(c *v1.Config, change bake.ImageConfig) {
	if change.Entrypoint != nil {
		c.Entrypoint, c.Cmd = orNil(change.Entrypoint), nil
	}
	if change.Cmd != nil {
		c.Cmd = orNil(change.Cmd)
	}
	for _, key := range sorted(change.Env) {
		c.Env = setEnv(c.Env, key, change.Env[key])
	}
	for key, val := range change.Labels {
		c.Labels = with(c.Labels, key, val)
	}
	if change.User != "" {
		c.User = change.User
	}
	if change.Workdir != "" {
		c.WorkingDir = joinDir(c.WorkingDir, change.Workdir)
	}
	if change.StopSignal != "" {
		c.StopSignal = change.StopSignal
	}
	c.ExposedPorts = addSet(c.ExposedPorts, change.Expose, func(port string) string {
		if !strings.Contains(port, "/") {
			port += "/tcp"
		}
		return port
	})
	c.Volumes = addSet(c.Volumes, change.Volumes, func(p string) string { return p })
	if h := change.Healthcheck; h != nil {
		c.Healthcheck = &v1.HealthConfig{Test: healthTest(h.Test), Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
	}
}

// addSet adds items to a set; an empty list clears it.
func addSet(set map[string]struct{}, items []string, normal func(string) string) map[string]struct{} {
	if items != nil && len(items) == 0 {
		return nil
	}
	for _, item := range items {
		set = with(set, normal(item), struct{}{})
	}
	return set
}

// healthTest is a test in Docker's form: a list runs as it is, one string in a shell.
func healthTest(test []string) []string {
	switch {
	case len(test) == 0:
		return nil
	case slices.Contains([]string{"NONE", "CMD", "CMD-SHELL"}, test[0]):
		return test
	case len(test) == 1:
		return []string{"CMD-SHELL", test[0]}
	}
	return append([]string{"CMD"}, test...)
}

func orNil(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
