package baketest

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Secret is in the environment of every step that a ProvisionerSuite runs.
const Secret = "canary-5uite-s3cret"

// ProvisionerOptions say what a ProvisionerSuite works on.
type ProvisionerOptions struct {
	Kind bake.Kind[bake.Provisioner]
	// Good bodies, as plain data, must run on a machine where every command
	// succeeds. Bad ones map a body's name to it; each must have a problem.
	Good, Bad map[string]map[string]any
	// Files is the template's folder; nil: an empty one.
	Files fs.FS
	// Env, if set, changes what a step of the suite is given.
	Env func(t *testing.T, env *bake.Env)
	// Trees are what the machine has to Get.
	Trees map[string][]File
}

// ProvisionerSuite checks what every provisioner promises.
func ProvisionerSuite(t *testing.T, o ProvisionerOptions) {
	t.Run("documented", func(t *testing.T) { Documented(t, o.Kind) })
	for name, body := range o.Good {
		t.Run("good "+name, func(t *testing.T) { testGood(t, o, Body(body)) })
	}
	for name, body := range o.Bad {
		t.Run("bad "+name, func(t *testing.T) { Refuses(t, o.Kind, body) })
	}
	t.Run("unknown key", func(t *testing.T) { Refuses(t, o.Kind, map[string]any{"no_such_key": 1}) })
}

func (o ProvisionerOptions) env(t *testing.T) (bake.Env, *Recorder) {
	machine, host := &Recorder{Trees: o.Trees}, &Recorder{}
	files := o.Files
	if files == nil {
		files = fstest.MapFS{}
	}
	env := bake.Env{
		Communicator: machine, Host: host, Files: files, HostDir: t.TempDir(), Job: bake.Job{Name: "suite"},
		Vars: []string{"SUITE_SECRET=" + Secret}, Stdout: io.Discard, Stderr: io.Discard, Sink: &Sink{},
	}
	if o.Env != nil {
		o.Env(t, &env)
	}
	return env, machine
}

func testGood(t *testing.T, o ProvisionerOptions, body value.Node) {
	if problems := o.Kind.Check(body); problems.HasErrors() {
		t.Fatalf("check: %v", problems)
	}
	if title := o.Kind.Title(body); title == "" || strings.ContainsAny(title, "\n\r\x1b") {
		t.Errorf("title %q is no line", title)
	}
	for _, in := range o.Kind.Inputs(body) {
		if in.Path == "" || in.Pos.IsZero() {
			t.Errorf("input without a path or place: %+v", in)
		}
	}
	p, err := o.Kind.New(body)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	env, machine := o.env(t)
	if err := p.Provision(t.Context(), env); err != nil {
		t.Errorf("provision: %v", err)
	}
	shown := machine.Shown()
	if host, ok := env.Host.(*Recorder); ok {
		shown += host.Shown()
	}
	if strings.Contains(shown, Secret) {
		t.Errorf("the environment shows in the commands:\n%s", shown)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	again, _ := o.env(t)
	if err := p.Provision(ctx, again); err == nil {
		t.Error("with a cancelled context: got no error")
	}
	bare, _ := o.env(t)
	bare.Communicator, bare.Host, bare.Image, bare.Ask = nil, nil, nil, nil
	_ = p.Provision(t.Context(), bare) // an error or not, but no panic
}
