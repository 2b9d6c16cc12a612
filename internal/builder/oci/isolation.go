package oci

import (
	"os"

	"github.com/imgbake/imgbake-action/internal/doctor"
)

// OnlyChroot says why this machine allows nothing but a chroot, in which there
// is no /proc and every bake copies its tree. It is nil where more is allowed,
// and where the isolation was chosen by hand.
func (b *Baker) OnlyChroot() error {
	if b.deps.Isolation != "" || os.Geteuid() != 0 {
		return nil
	}
	return doctor.CanAdminister(os.DirFS("/"))
}
