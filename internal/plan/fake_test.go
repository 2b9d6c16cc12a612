package plan_test

import (
	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// The components of the tests' catalog. Nothing of them is ever run.

type dockerConfig struct {
	Image      string      `key:"image" alias:"base"`
	Build      *dockerfile `key:"build"`
	Privileged bool        `key:"privileged"`
	Platform   string      `key:"platform" opt:"known"`
	Network    string      `key:"network" opt:"enum=bridge|none"`
}

type dockerfile struct {
	Context string `key:"context" opt:"required"`
}

type diskConfig struct {
	Size string `key:"size"`
}

type shellConfig struct {
	Inline []string `key:"inline"`
	Script string   `key:"script"`
}

type fileConfig struct {
	Source      string `key:"source" opt:"required"`
	Destination string `key:"destination" opt:"required"`
	From        string `key:"from"`
}

type tagConfig struct {
	Repository string   `key:"repository"`
	Tags       []string `key:"tags" alias:"tag"`
}

func scriptInput(c shellConfig, w value.Where) []bake.Input {
	if c.Script == "" {
		return nil
	}
	return []bake.Input{{Path: c.Script, Pos: w.At("script")}}
}

func catalog() bake.Catalog {
	shell := bake.Spec[shellConfig, bake.Provisioner]{
		Name: "shell", Inputs: scriptInput,
		Check: func(c shellConfig, w value.Where) (problems diag.List) {
			if !w.Given("inline") && !w.Given("script") {
				problems.Add(w.At(), "", "give inline or script")
			}
			return problems
		},
		Title: func(c shellConfig) string {
			if len(c.Inline) > 0 {
				return "shell: " + c.Inline[0]
			}
			return "shell: " + c.Script
		},
	}
	local := shell
	local.Name, local.HostExec = "shell-local", true
	post := func(name string) bake.Kind[bake.Post] {
		return bake.Define(bake.Spec[tagConfig, bake.Post]{Name: name})
	}
	return bake.Catalog{
		Builders: []bake.Kind[bake.Builder]{
			bake.Define(bake.Spec[dockerConfig, bake.Builder]{Name: "docker", Sources: []string{"image", "build"}}),
			bake.Define(bake.Spec[diskConfig, bake.Builder]{Name: "disk"}),
			bake.Define(bake.Spec[struct{}, bake.Builder]{Name: "null"}),
		},
		Provisioners: []bake.Kind[bake.Provisioner]{
			bake.Define(shell), bake.Define(local),
			bake.Define(bake.Spec[fileConfig, bake.Provisioner]{
				Name: "file",
				Inputs: func(c fileConfig, w value.Where) []bake.Input {
					if c.From != "" || c.Source == "" {
						return nil
					}
					return []bake.Input{{Path: c.Source, Pos: w.At("source")}}
				},
				Title: func(c fileConfig) string { return "file: " + c.Source + " -> " + c.Destination },
			}),
		},
		Posts: []bake.Kind[bake.Post]{post("docker-tag"), post("docker-push"), post("manifest")},
	}
}
