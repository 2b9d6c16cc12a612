package sandbox

import (
	"fmt"
	"os/exec"
)

// wayOutProgram carries what leaves a private network: by sockets of its own in
// this machine's, so it takes no rights there (slirp4netns(1)).
const wayOutProgram = "slirp4netns"

// CanNetwork says what this machine lacks for a network, as an error that wraps
// ErrUnavailable.
func CanNetwork(network string) error {
	if network != PrivateNetwork {
		return nil
	}
	if _, err := exec.LookPath(wayOutProgram); err != nil {
		return fmt.Errorf("%w: network %s: %s is not installed (Debian package %s)", ErrUnavailable, network, wayOutProgram, wayOutProgram)
	}
	return nil
}
