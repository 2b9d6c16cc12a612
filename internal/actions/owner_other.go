//go:build !unix

package actions

import "fmt"

// Owner returns an error: files have no numbered owner here.
func (Disk) Owner(name string) (Owner, error) {
	return Owner{}, fmt.Errorf("%s: owner by number: %w", name, ErrUnavailable)
}
