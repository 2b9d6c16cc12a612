// Package breakpoint is the provisioner that stops for a look at the machine.
package breakpoint

import (
	"context"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Config is what a template says of a breakpoint.
type Config struct {
	Note    string `key:"note" doc:"What to say when it is reached." opt:"short"`
	Disable bool   `key:"disable" doc:"Go on without stopping." opt:"default=false"`
}

const doc = `Stops until somebody at the terminal goes on, so that the machine can be looked at in between.

Where nobody can answer, as under CI, it says so and goes on.`

// Kind describes the provisioner.
func Kind() bake.Kind[bake.Provisioner] {
	return bake.Define(bake.Spec[Config, bake.Provisioner]{
		Name: "breakpoint", Doc: doc,
		Example: "- breakpoint: { note: look at /etc/nginx before it is cleaned up }",
		Outside: func(Config) bool { return true },
		Title: func(c Config) string {
			if c.Note == "" {
				return "breakpoint"
			}
			return bake.OneLine(c.Note, 72)
		},
		New: func(c Config) (bake.Provisioner, error) { return provisioner{c}, nil },
	})
}

type provisioner struct{ Config }

// Provision asks the person at the terminal to go on.
func (p provisioner) Provision(ctx context.Context, env bake.Env) error {
	at := "breakpoint"
	if p.Note != "" {
		at += ": " + p.Note
	}
	switch {
	case p.Disable:
		env.Note("%s (disabled)", at)
		return nil
	case env.Ask == nil:
		env.Note("%s (going on: nobody is there to answer)", at)
		return nil
	}
	_, err := env.Ask.Ask(ctx, at+". Press enter to go on")
	return err
}
