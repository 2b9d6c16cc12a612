//go:build engine && linux

package layer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two bakes with the package manager at different times publish the same
// bytes: P1 and P3.
func TestPackageBakeTwice(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	rootfs := os.Getenv("IMGBAKE_TEST_ROOTFS") // a Debian root file system as tar, to save the time of making one
	if rootfs == "" {
		tool, err := exec.LookPath("mmdebstrap")
		need(t, "mmdebstrap", err)
		rootfs = filepath.Join(t.TempDir(), "base.tar")
		run(t, exec.Command(tool, "--quiet", "--variant=minbase", "bookworm", rootfs))
	}
	base, err := IndexOf(t.Context(), func() (io.ReadCloser, error) { return os.Open(rootfs) })
	must(t, err)
	var layers [2][]byte
	var results [2]Result
	for i := range layers {
		root := t.TempDir()
		run(t, exec.Command("tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f", rootfs, "-C", root))
		started := time.Now()
		install := exec.Command("chroot", root, "sh", "-c", fmt.Sprintf("hostname bake%d && apt-get update && apt-get install -y --no-install-recommends %s", i, aptPackages()))
		install.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS}
		install.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "SOURCE_DATE_EPOCH=1600000000"}
		run(t, install)
		var delta bytes.Buffer
		must(t, Delta(t.Context(), root, base, DeltaOptions{Since: started}, &delta))
		tree := NewTree(base)
		layers[i], results[i] = publish(t, tree, delta.Bytes(), Policy{})
		if Delta(t.Context(), root, tree.Raw(), DeltaOptions{}, &delta) != nil {
			t.Fatal("second delta")
		}
	}
	t.Logf("%d entries, %d bytes; left out:\n%s", results[0].Entries, len(layers[0]), strings.Join(results[0].Removed, "\n"))
	if !bytes.Equal(layers[0], layers[1]) {
		t.Error("the layers differ")
		keep := os.Getenv("IMGBAKE_TEST_KEEP")
		for i := range layers {
			if keep != "" {
				must(t, os.WriteFile(filepath.Join(keep, []string{"a.tar", "b.tar"}[i]), layers[i], 0o644))
			}
		}
	}
}

func aptPackages() string {
	if p := os.Getenv("IMGBAKE_TEST_PACKAGES"); p != "" {
		return p
	}
	return "openssh-server"
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
