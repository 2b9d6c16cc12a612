package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

// allMounts are those of every step of a bake, without contents: a machine may
// have to know them before it starts.
func allMounts(b plan.Bake) []bake.Mount {
	steps := b.Steps
	if b.Cleanup != nil {
		steps = append(steps[:len(steps):len(steps)], *b.Cleanup)
	}
	var all []bake.Mount
	for _, s := range steps {
		for _, m := range s.Common.Mounts {
			all = append(all, m.Mount())
		}
	}
	return all
}

// mount shows a step's mounts until unmount is called. It returns the step's
// environment, in which an agent's socket may have been added.
func (r *runner) mount(ctx context.Context, m bake.Machine, s plan.Step, scope value.Scope, env []string) (_ []string, unmount func() error, _ error) {
	if len(s.Common.Mounts) == 0 {
		return env, func() error { return nil }, nil
	}
	mounter, ok := m.(bake.Mounter)
	if !ok {
		return nil, nil, errors.New("this builder cannot show mounts to a step")
	}
	mounts := make([]bake.Mount, len(s.Common.Mounts))
	for i, planned := range s.Common.Mounts {
		mounts[i] = planned.Mount()
		switch planned.Type {
		case bake.MountSecret:
			content, err := secretContent(planned.Value, scope)
			if err != nil {
				return nil, nil, fmt.Errorf("mount at %s: %w", planned.Target, err)
			}
			mounts[i].Content = content
		case bake.MountSSH:
			if r.Agent == "" {
				return nil, nil, diag.Problem{Pos: s.Pos, Text: "the step wants an SSH agent, and SSH_AUTH_SOCK is not set", Hint: `eval "$(ssh-agent)" && ssh-add`}
			}
			mounts[i].Socket = r.Agent
			env = append([]string{"SSH_AUTH_SOCK=" + planned.Target}, env...) // what the step itself says wins
		}
	}
	unmount, err := mounter.Mount(ctx, mounts)
	return env, unmount, err
}

func secretContent(n value.Node, scope value.Scope) (secret.Value, error) {
	ready, problems := value.Eval(n, scope)
	if err := problems.Err(); err != nil {
		return secret.Value{}, err
	}
	text, ok := value.Text(ready)
	if !ok {
		return secret.Value{}, diag.Problem{Pos: n.Pos, Text: "the value of a secret must be a string"} // not what it is instead
	}
	return secret.New(text), nil
}
