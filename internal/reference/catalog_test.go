package reference

import (
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// mode reads itself.
type mode struct{}

func (mode) ValueType() string                           { return "mode" }
func (*mode) UnmarshalValue(value.Node) (none diag.List) { return none }

type builderConfig struct {
	Image   string `key:"image" doc:"Image to start from." opt:"known"`
	Pull    bool   `key:"pull" doc:"Ask the registry." opt:"default=true"`
	Build   *build `key:"build" doc:"A Dockerfile."`
	Ulimits []int  `key:"ulimits" doc:"Limits."`
}

type build struct {
	Context string            `key:"context" doc:"The folder | the context." opt:"required"`
	Args    map[string]string `key:"args" alias:"arguments" doc:"Build arguments."`
}

type shellConfig struct {
	Inline []string      `key:"inline" doc:"Commands to run, one after the other, in one script, so that what an earlier one sets is there for the later ones."`
	Pause  time.Duration `key:"pause" doc:"Wait." opt:"default=5s"`
	Codes  []int         `key:"valid_exit_codes" doc:"Codes that are no failure." opt:"default=0"`
	Env    value.Node    `key:"env" doc:"Hidden by the common key."`
	Mode   mode          `key:"mode" doc:"Permissions."`
	How    string        `key:"how" doc:"How to run." opt:"enum=fast|slow"`
	Raw    value.Node    `key:"raw" doc:"Anything."`
}

type tagConfig struct {
	Repository string   `key:"repository" doc:"Repository." opt:"required,known"`
	Tags       []string `key:"tags" alias:"tag" doc:"Tags." opt:"default=latest"`
}

type nothing struct{}

func testCatalog() bake.Catalog {
	return bake.Catalog{
		Builders: []bake.Kind[bake.Builder]{
			bake.Define(bake.Spec[builderConfig, bake.Builder]{
				Name: "docker", Doc: "Bakes in a container. It is quick.\n\nMore on `docker` here.",
				Example: "docker: { image: debian }\n", Needs: []bake.Need{bake.NeedDocker},
			}),
			bake.Define(bake.Spec[nothing, bake.Builder]{Name: "null", Doc: "Bakes nothing.", Commit: bake.CommitAtEnd}),
		},
		Provisioners: []bake.Kind[bake.Provisioner]{
			bake.Define(bake.Spec[shellConfig, bake.Provisioner]{Name: "shell", Doc: "Runs commands in the machine.", Example: "- shell: { inline: [make] }"}),
			bake.Define(bake.Spec[nothing, bake.Provisioner]{Name: "breakpoint", Doc: "Waits for you.", HostExec: true}),
		},
		Posts: []bake.Kind[bake.Post]{
			bake.Define(bake.Spec[tagConfig, bake.Post]{Name: "docker-tag", Doc: "Names the image."}),
			bake.Define(bake.Spec[nothing, bake.Post]{Name: "breakpoint", Doc: "Waits after the bake."}),
		},
	}
}
