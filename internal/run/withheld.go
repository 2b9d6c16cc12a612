package run

import (
	"fmt"

	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// withheldError says that something needs a secret that this run is not given,
// as in the pull request of a fork. What was to come is skipped, not failed.
type withheldError struct{ who, secret string }

// Error names who needs what.
func (e *withheldError) Error() string {
	return fmt.Sprintf("%s needs %s, a secret that this run is not given", e.who, e.secret)
}

// withheld is the error of the first secret among what the nodes read that has
// no value. There is none unless the variables were resolved for such a run.
func (r *runner) withheld(who string, nodes ...value.Node) error {
	for _, n := range nodes {
		for _, name := range n.Needs() {
			if entry, e, ok := r.Scope.Lookup(name); ok && e.Sensitive && !e.Known {
				return &withheldError{who, entry}
			}
		}
	}
	return nil
}

// withheldStep is that of a step of a bake.
func (r *runner) withheldStep(b plan.Bake, i int) error {
	return r.withheld(fmt.Sprintf("provisioner %d (%s)", i+1, b.Steps[i].Type), b.Steps[i].Late()...)
}
