// Package actions is what a workflow runner gives a container action, and what
// it takes back: inputs, the event, files for outputs and the summary, and the
// commands that are read out of the log.
//
// It is a leaf: the environment, the files and the writers are passed in, and
// it calls no service. What the runner promises is written down in the runner's
// own source; where Gitea, Forgejo and GitHub Enterprise Server give less, what
// is missing is empty and nothing fails for it.
package actions

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrUnavailable is wrapped by the errors of services that this runner does
// not have. It is a reason to say one word in the debug log, not to fail.
var ErrUnavailable = errors.New("not available on this runner")

// FS is the part of the file system that the runtime touches.
type FS interface {
	// ReadFile returns a file's content, or an error when it is larger than limit.
	ReadFile(name string, limit int64) ([]byte, error)
	// Append adds to the end of a file, which is made if it is not there.
	Append(name string, data []byte) error
	// Size is how long a file is; a file that is not there has length 0.
	Size(name string) (int64, error)
	// Owner is who a file belongs to.
	Owner(name string) (Owner, error)
}

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// Disk is the FS of this machine.
type Disk struct{}

// ReadFile reads a file of at most limit bytes.
func (Disk) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return data, err
}

// Append writes at the end of a file in one write, so that what several
// processes append is not mixed.
func (Disk) Append(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Size returns a file's length.
func (Disk) Size(name string) (int64, error) {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// WorkspaceOwner is who the checked-out files belong to. The action runs as
// root: what it writes into the workspace is given to this owner, or later
// steps could not change it.
func WorkspaceOwner(getenv func(string) string, fs FS) (Owner, error) {
	dir := getenv("GITHUB_WORKSPACE")
	if dir == "" {
		return Owner{}, fmt.Errorf("GITHUB_WORKSPACE: %w", ErrUnavailable)
	}
	owner, err := fs.Owner(dir)
	if err != nil {
		return Owner{}, fmt.Errorf("owner of workspace %q: %w", dir, err)
	}
	return owner, nil
}
