package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Host returns the probes that look at this machine itself. Those of the
// engine and of registries are the caller's to add.
func Host(cacheDir string, getenv func(string) string) Probes {
	return Probes{
		Tool: toolVersion, Find: exec.LookPath, FreeSpace: freeSpace, KVM: openKVM,
		Root: os.DirFS("/"), UID: os.Geteuid(), CacheDir: cacheDir, Getenv: getenv,
	}
}

// toolVersion is the first line that the program prints when asked for its version.
func toolVersion(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errors.New("not installed")
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(bytes.TrimSpace(line)), nil
}

// freeSpace is the room in the folder, or in the nearest one above that exists.
func freeSpace(dir string) (int64, error) {
	for {
		var stat unix.Statfs_t
		err := unix.Statfs(dir, &stat)
		parent := filepath.Dir(dir)
		switch {
		case err == nil:
			return int64(stat.Bavail) * int64(stat.Bsize), nil
		case !errors.Is(err, fs.ErrNotExist) || parent == dir:
			return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
		dir = parent
	}
}

func openKVM() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
