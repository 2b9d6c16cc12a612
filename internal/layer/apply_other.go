//go:build !linux

package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func modeOf(st *unix.Stat_t) uint32 { return uint32(st.Mode) }

func hasDefaultACL(openFile) bool { return false }

func (f openFile) node(e Entry, _ string) error {
	return fmt.Errorf("a %s can be made on Linux only", e.Type)
}

func (d *directory) nodeXattrs(Entry, string) error { return nil }

func setXattrs(openFile, Entry, bool) error { return nil }
