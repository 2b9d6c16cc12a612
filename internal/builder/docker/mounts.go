package docker

import (
	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
)

// withoutMounts refuses a bake whose steps have mounts: a container gets its
// mounts when it is made, for all steps alike.
func withoutMounts(job bake.Job) error {
	if len(job.Mounts) == 0 {
		return nil
	}
	return diag.Problem{
		Text: "a container of the Docker Engine cannot show a mount to one step only: " + job.Mounts[0].Type + " at " + job.Mounts[0].Target,
		Hint: "bake it with --engine oci, which needs no Docker Engine",
	}
}
