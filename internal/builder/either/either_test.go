package either_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/builder/either"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// fake is a builder that says who it is, and fails where it shall.
type fake struct {
	bake.Builder
	name           string
	source, resume error
}

func (f fake) Source(context.Context, bake.Job) (string, error) { return f.name, f.source }

func (f fake) Resume(context.Context, bake.Job, []bake.Checkpoint) (bake.Machine, error) {
	if f.resume != nil {
		return nil, f.resume
	}
	return &baketest.Machine{Job: bake.Job{Name: f.name}}, nil
}

func (f fake) Image(context.Context, bake.Job, []bake.Checkpoint) (bake.Artifact, error) {
	return bake.Artifact{Builder: f.name}, nil
}

type aloneConfig struct {
	Image   string `key:"image"`
	Network string `key:"network"`
}

type engineConfig struct {
	Image      string `key:"image"`
	Network    string `key:"network"`
	Privileged bool   `key:"privileged"`
	DockerPath string `key:"docker_path"`
}

func TestChoice(t *testing.T) {
	unavailable := fmt.Errorf("namespaces: %w", bake.ErrUnavailable)
	tests := map[string]struct {
		mode          string
		body          map[string]any
		poor          error
		alone, engine fake
		want, note    string // the builder that was used, or the error
	}{
		"alone":                     {mode: either.Auto, want: "alone"},
		"idle keys":                 {mode: either.Alone, body: map[string]any{"docker_path": "x"}, want: "alone"},
		"forced engine":             {mode: either.Engine, want: "engine"},
		"an option":                 {mode: either.Auto, body: map[string]any{"privileged": true}, want: "engine", note: "privileged needs one"},
		"a value":                   {mode: either.Auto, body: map[string]any{"network": "mine"}, want: "engine", note: "network mine needs one"},
		"the engine's default":      {mode: either.Alone, body: map[string]any{"network": "bridge"}, want: "alone private"},
		"no network":                {mode: either.Alone, body: map[string]any{"network": "none"}, want: "alone none"},
		"one of the engine's":       {mode: either.Auto, body: map[string]any{"network": "private"}, want: "engine", note: "network private needs one"},
		"an option, forced":         {mode: either.Alone, body: map[string]any{"privileged": true}, want: "privileged needs a Docker Engine"},
		"an image of the engine's":  {mode: either.Auto, alone: fake{source: errors.New("no such image")}, want: "engine", note: "no such image"},
		"no such image":             {mode: either.Auto, alone: fake{source: errors.New("no such image")}, engine: fake{source: errors.New("no engine")}, want: "no such image"},
		"no such image, forced":     {mode: either.Alone, alone: fake{source: errors.New("no such image")}, want: "no such image"},
		"no sandbox":                {mode: either.Auto, alone: fake{resume: unavailable}, want: "engine", note: "namespaces"},
		"no sandbox and no engine":  {mode: either.Auto, alone: fake{resume: unavailable}, engine: fake{source: errors.New("no engine")}, want: "namespaces"},
		"a chroot":                  {mode: either.Auto, poor: errors.New("no namespaces"), want: "engine", note: "no namespaces"},
		"a chroot and no engine":    {mode: either.Auto, poor: errors.New("no namespaces"), engine: fake{source: errors.New("no engine")}, want: "alone"},
		"a chroot, forced":          {mode: either.Alone, poor: errors.New("no namespaces"), want: "alone"},
		"a step's mistake is final": {mode: either.Auto, alone: fake{resume: errors.New("disk full")}, want: "disk full"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.alone.name, test.engine.name = "alone", "engine"
			alone := bake.Define(bake.Spec[aloneConfig, bake.Builder]{
				Name: "oci", New: func(c aloneConfig) (bake.Builder, error) {
					test.alone.name += strings.TrimRight(" "+c.Network, " ")
					return test.alone, nil
				},
				Check: func(c aloneConfig, at value.Where) (problems diag.List) {
					if c.Network == "mine" {
						problems.Add(at.At("network"), "", "network mine")
					}
					return problems
				},
			})
			engine := bake.Define(bake.Spec[engineConfig, bake.Builder]{
				Name: "docker", New: func(engineConfig) (bake.Builder, error) { return test.engine, nil },
			})
			var notes []string
			got, err := start(either.Kind(engine, alone, test.mode, test.poor), test.body, func(text string) { notes = append(notes, text) })
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if said := strings.Join(notes, " "); !strings.Contains(said, test.note) || test.note == "" && said != "" {
				t.Errorf("notes %q, want %q", said, test.note)
			}
		})
	}
}

// start tells the name of the builder that started the machine.
func start(kind bake.Kind[bake.Builder], body map[string]any, note func(string)) (string, error) {
	b, err := kind.New(baketest.Body(body))
	if err != nil {
		return "", err
	}
	job := bake.Job{Notify: note}
	r := b.(bake.Resumer)
	if _, err := r.Source(context.Background(), job); err != nil {
		return "", err
	}
	m, err := r.Resume(context.Background(), job, nil)
	if err != nil {
		return "", err
	}
	return m.(*baketest.Machine).Job.Name, nil
}
