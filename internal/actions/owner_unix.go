//go:build unix

package actions

import (
	"fmt"
	"os"
	"syscall"
)

// Owner returns who a file belongs to.
func (Disk) Owner(name string) (Owner, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Owner{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}, fmt.Errorf("%s: its owner is not known: %w", name, ErrUnavailable)
	}
	return Owner{UID: int(st.Uid), GID: int(st.Gid)}, nil
}
