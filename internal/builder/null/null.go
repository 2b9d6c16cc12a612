// Package null is the null builder: it makes nothing, so that provisioners and
// post-processors that work on the host can be tried alone.
package null

import (
	"context"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Config is what the template says.
type Config struct {
	Communicator string `key:"communicator" doc:"Only none: there is nothing to connect to." opt:"known,enum=none,default=none"`
}

// Kind describes the builder.
func Kind() bake.Kind[bake.Builder] {
	return bake.Define(bake.Spec[Config, bake.Builder]{
		Name: "null", Commit: bake.CommitAtEnd,
		Doc:     "Makes no machine and no artifact. Provisioners that work on the host, such as shell-local, run.",
		Example: `builders: ["null"] # quoted, since null alone is nothing in YAML`,
		New:     func(Config) (bake.Builder, error) { return builder{}, nil },
	})
}

type builder struct{}

// Start makes nothing.
func (builder) Start(context.Context, bake.Job) (bake.Machine, error) { return machine{}, nil }

type machine struct{}

func (machine) Communicator() bake.Communicator { return nil }
func (machine) Facts() map[string]string        { return nil }
func (machine) Close() error                    { return nil }
func (machine) Detach() []string                { return nil }
func (machine) Commit(context.Context, bake.LayerInfo) (bake.Artifact, error) {
	return bake.Artifact{Builder: "null"}, nil
}
