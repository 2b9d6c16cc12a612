//go:build !linux

package layer

import (
	"context"
	"errors"
)

func openLive(context.Context, string, []string) (*tree, error) {
	return nil, errors.New("live trees can be read on Linux only")
}

// TrustworthyCtime is false: live trees can be read on Linux only.
func TrustworthyCtime(string) bool { return false }
