package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// command is the subcommand that makes the program a machine's first process.
const command = "sandbox-init"

// The descriptors a first process is started with.
const (
	controlFD = 3 + iota // requests come here
	setupFD              // the setup, and the answer to it
	inputFD              // a layer to unpack
)

// Is reports whether a program's arguments, its name first, ask for Main.
func Is(args []string) bool { return len(args) == 2 && args[1] == command }

// Main is a machine's first process. It returns the exit status.
func Main() int {
	// What this program was started with is not for commands.
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 2
	}
	control, err := unixConn(os.NewFile(controlFD, "control"))
	if err != nil {
		return 2
	}
	talk := os.NewFile(setupFD, "setup")
	var s setup
	in := json.NewDecoder(bufio.NewReader(talk))
	if err := in.Decode(&s); err != nil {
		return 2 // the other end is gone
	}
	if s.Remove != "" {
		err = os.RemoveAll(s.Remove)
	} else {
		err = s.enter()
	}
	if err == nil && s.Unpack {
		err = s.unpack(os.NewFile(inputFD, "layer"))
	}
	if answerErr := json.NewEncoder(talk).Encode(answer(0, err)); answerErr != nil || err != nil {
		return 1
	}
	talk.Close()
	if s.Unpack || s.Remove != "" {
		return 0
	}
	return newServer(s).serve(control)
}

func answer(status int, err error) reply {
	r := reply{Status: status}
	if err != nil {
		r.Error = err.Error()
		r.Denied = errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS)
	}
	return r
}

// enter makes the tree and moves into it.
func (s *setup) enter() error {
	unix.Umask(0o022)
	// Commands may not look into this process, whatever the rights of the thread
	// that is about to start one.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the first process: %w", err)
	}
	if s.Isolation == Chroot {
		return s.chroot()
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if s.ownNetwork() {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	if s.Network == PrivateNetwork {
		for _, prefix := range closedOff {
			if err := unreachable(prefix); err != nil {
				return fmt.Errorf("closing off %s: %w", prefix, err)
			}
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	return s.mountTree()
}

// unpack applies a layer to the tree. The overlay makes the whiteouts and keeps
// the metadata of directories that the layer does not name.
func (s *setup) unpack(in io.Reader) error {
	dir := s.Root
	if !s.Plain {
		dir = filepath.Join(s.Root, mergedDir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	limits := layer.BakeLimits()
	opts := layer.ApplyOptions{SameOwner: !s.Squashed, Layer: true, Devices: !s.UserNS, Xattrs: true, Limits: limits}
	plain, err := layer.Decompress(in, limits)
	if err != nil {
		return err
	}
	defer plain.Close()
	return layer.Apply(context.Background(), plain, root, opts)
}
