// Package sleep is the provisioner that waits.
package sleep

import (
	"context"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Config is what a template says of a sleep step.
type Config struct {
	Duration time.Duration `key:"duration" doc:"How long to wait, such as 90s or 1m30s." opt:"required,short"`
}

// Kind describes the provisioner.
func Kind() bake.Kind[bake.Provisioner] {
	return bake.Define(bake.Spec[Config, bake.Provisioner]{
		Name: "sleep", Files: true, Doc: "Waits. A cancelled run does not wait to the end.",
		Example: "- sleep: { duration: 10s }",
		Title:   func(c Config) string { return c.Duration.String() },
		New:     func(c Config) (bake.Provisioner, error) { return provisioner(c), nil },
	})
}

type provisioner Config

// Provision waits for the duration or the end of the context.
func (p provisioner) Provision(ctx context.Context, _ bake.Env) error {
	return bake.Wait(ctx, p.Duration)
}
