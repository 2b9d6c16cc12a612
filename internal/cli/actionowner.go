package cli

import (
	"os"
	"path/filepath"
	"time"

	"github.com/imgbake/imgbake-action/internal/actions"
)

// adopt gives what this run has written into the workspace to the workspace's
// owner: a container action is root, and later steps are not. Trees in a cache
// keep their owners, which are those of the images.
func (s *workflowStep) adopt(since time.Time) {
	owner, err := actions.WorkspaceOwner(s.Getenv, actions.Disk{})
	if err != nil || owner.UID == 0 || os.Geteuid() != 0 {
		return
	}
	workspace := s.Getenv("GITHUB_WORKSPACE")
	var except []string
	if cache, err := s.cacheDir(s.options.flags.cacheDir); err == nil {
		for _, trees := range []string{"roots", "mounts"} {
			if dir, err := filepath.Rel(workspace, filepath.Join(cache, trees)); err == nil {
				except = append(except, dir)
			}
		}
	}
	if err := (actions.Disk{}).Adopt(workspace, owner, since, except...); err != nil {
		_ = s.log.Debug(err.Error())
	}
}
