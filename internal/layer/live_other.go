//go:build !linux

package layer

import (
	"context"
	"errors"
)

func openLive(context.Context, string, []string) (*tree, error) {
	return nil, errors.New("live trees can be read on Linux only")
}

func openUpper(context.Context, string, string, *Index, []string) (*tree, error) {
	return nil, errors.New("live trees can be read on Linux only")
}

func settle(context.Context, string, *Index, SettleOptions) error {
	return errors.New("live trees can be settled on Linux only")
}

// TrustworthyCtime is false: live trees can be read on Linux only.
func TrustworthyCtime(string) bool { return false }
