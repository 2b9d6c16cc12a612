package run_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// mounting is a builder of fake machines that note what they show.
type mounting struct {
	bake.Builder
	log     []string
	refused error // by unmount
}

func (b *mounting) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	for _, m := range job.Mounts {
		b.log = append(b.log, "job "+m.Type+" "+m.Target+" "+m.Content.Reveal())
	}
	m, err := b.Builder.Start(ctx, job)
	return mountingMachine{m, b}, err
}

type mountingMachine struct {
	bake.Machine
	b *mounting
}

func (m mountingMachine) Mount(_ context.Context, mounts []bake.Mount) (func() error, error) {
	for _, s := range mounts {
		m.b.log = append(m.b.log, fmt.Sprintf("mount %s %s %q %o %q", s.Type, s.Target, s.Content.Reveal(), s.Mode, s.Socket))
	}
	return func() error { m.b.log = append(m.b.log, "unmount"); return m.b.refused }, nil
}

// A step's mounts are shown while it runs, and are gone even when it fails.
func TestMounts(t *testing.T) {
	for _, c := range []struct {
		name    string
		refused error
		agent   string
		fails   bool
		want    []string
		err     string
	}{
		{"works", nil, "/agent.sock", false, []string{"job", "mount secret", "mount ssh", "x", "unmount", "y"}, ""},
		{"step fails", nil, "/agent.sock", true, []string{"job", "mount secret", "mount ssh", "x", "unmount"}, "no luck"},
		{"unmount fails", errors.New("busy"), "/agent.sock", false, []string{"job", "mount secret", "mount ssh", "x", "unmount"}, "mounts: busy"},
		{"no agent", nil, "", false, []string{"job"}, "SSH_AUTH_SOCK is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.Agent = c.agent
			w.Scope = value.Scope{}.With(map[string]value.Entry{"var.token": {Value: "canary-t0ken", Known: true, Sensitive: true}})
			b := &mounting{Builder: w.builder, refused: c.refused}
			w.Catalog.Builders = append(w.Catalog.Builders, bake.Define(bake.Spec[body, bake.Builder]{
				Name: "mounting", New: func(body) (bake.Builder, error) { return b, nil },
			}))
			var env []string
			w.steps["x"] = func(_ context.Context, e bake.Env) error {
				env, b.log = e.Vars, append(b.log, "x")
				if c.fails {
					return errors.New("no luck")
				}
				return nil
			}
			w.steps["y"] = func(_ context.Context, e bake.Env) error { b.log = append(b.log, "y"); return nil }
			bk := baked("web.main", "x", "y")
			bk.Type = "mounting"
			bk.Steps[0].Common.Mounts = []plan.StepMount{
				{Type: bake.MountSecret, Target: "/run/secrets/a", Value: value.Node{V: late("var.token")}},
				{Type: bake.MountSSH, Target: "/run/agent"},
			}
			res := w.one(t, bk)
			if got := fmt.Sprint(res.Err); c.err == "" && res.Err != nil || !strings.Contains(got, c.err) {
				t.Errorf("error %v, want %q", res.Err, c.err)
			}
			if c.want[len(c.want)-1] != "job" && !slices.Contains(env, "SSH_AUTH_SOCK=/run/agent") {
				t.Errorf("environment %q", env)
			}
			want := map[string][]string{
				"job": {"job secret /run/secrets/a ", "job ssh /run/agent "}, "mount secret": {`mount secret /run/secrets/a "canary-t0ken" 400 ""`},
				"mount ssh": {`mount ssh /run/agent "" 755 "/agent.sock"`},
			}
			var all []string
			for _, line := range c.want {
				if long := want[line]; long != nil {
					all = append(all, long...)
				} else {
					all = append(all, line)
				}
			}
			if diff := cmp.Diff(all, b.log); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A machine that cannot show mounts does not run the step without them.
func TestMountsRefused(t *testing.T) {
	w := newWorld(t)
	b := baked("web.main", "x")
	b.Steps[0].Common.Mounts = []plan.StepMount{{Type: bake.MountTmpfs, Target: "/x"}}
	w.steps["x"] = func(context.Context, bake.Env) error { t.Error("the step ran"); return nil }
	if res := w.one(t, b); res.Err == nil || !strings.Contains(res.Err.Error(), "cannot show mounts") {
		t.Errorf("error %v", res.Err)
	}
}
