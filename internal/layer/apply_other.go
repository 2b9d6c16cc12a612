//go:build !linux

package layer

import "fmt"

func (a *applier) node(e Entry) error {
	return fmt.Errorf("a %s can be made on Linux only", e.Type)
}

func (a *applier) linkTime(Entry) error { return nil }

func (a *applier) xattrs(Entry) error { return nil }
