//go:build !linux

package layer

import (
	"fmt"
	"os"
	"time"
)

func openDir(root *os.Root, name string) (*os.File, error) { return root.Open(name) }

func isNotDir(error) bool { return false }

func hasDefaultACL(*os.File) bool { return false }

func (d *directory) node(e Entry, _ string) error {
	return fmt.Errorf("a %s can be made on Linux only", e.Type)
}

func (d *directory) setTime(e Entry, name string) error {
	if e.Type == Symlink {
		return nil
	}
	t := time.Unix(e.ModTime, 0)
	return d.Chtimes(name, t, t)
}

func (d *directory) nodeXattrs(Entry, string) error { return nil }

func setXattrs(*os.File, Entry, bool) error { return nil }
