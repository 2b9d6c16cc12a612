package actions

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// Adopt gives what root has made or changed below a folder since some time to
// its owner. Folders in except, paths relative to it, are left as they are.
func (Disk) Adopt(dir string, owner Owner, since time.Time, except ...string) error {
	root, err := os.OpenRoot(dir) // no symbolic link leads out of it
	if err != nil {
		return fmt.Errorf("giving files to the workspace's owner: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is gone, or cannot be looked into: not ours to give
		}
		if entry.IsDir() && slices.Contains(except, name) {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || time.Unix(st.Ctim.Unix()).Before(since) {
			return nil
		}
		if err := root.Lchown(name, owner.UID, owner.GID); err != nil {
			return fmt.Errorf("giving files to the workspace's owner: %w", err)
		}
		return nil
	})
}
