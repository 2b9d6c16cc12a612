//go:build engine

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/doctor"
)

// A shell that tells what it was compiled for, and nothing else.
const shell = `package main

import ("fmt"; "os"; "runtime")

func main() {
	fmt.Println("this is", runtime.GOARCH)
	if err := os.WriteFile("/arch", []byte(runtime.GOARCH), 0o644); err != nil {
		panic(err)
	}
}
`

// platformsTemplate is an image for this machine and another, and one of files.
const platformsTemplate = `images:
  web:
    platforms: [linux/amd64, linux/arm64]
    builders: { oci: { rootfs: '${split("/", build.platform)[1]}.tar' } }
    provisioners:
      - shell: { inline: ["arch"] }
  files:
    platforms: [linux/amd64, linux/arm64]
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: arch.go, destination: /arch.go }
`

// Commands of another platform run where an emulator is registered, and are
// refused with a hint, before any is started, where none is. Files need none.
func TestForeignPlatform(t *testing.T) {
	if runtime.GOARCH != "amd64" || os.Getuid() != 0 {
		missing(t, "foreign platforms are tried as root on amd64")
	}
	dir := write(t, map[string]string{"imgbake.yaml": platformsTemplate, "arch.go": shell})
	for _, arch := range []string{"amd64", "arm64"} {
		root := filepath.Join(dir, arch)
		build := exec.Command("go", "build", "-o", filepath.Join(root, "bin/sh"), filepath.Join(dir, "arch.go"))
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.Command("tar", "-C", root, "-cf", root+".tar", ".").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	s := site{cache: t.TempDir()}
	bake := func(more ...string) result {
		return s.run(t, dir, append([]string{"build", "--plain", "--engine=oci", "-load=false"}, more...)...)
	}
	if r := bake("-only=files"); r.code != 0 || !strings.Contains(r.stdout, "files.oci: index sha256:") {
		t.Errorf("files only: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r := bake("-only=web")
	all, _ := doctor.Platforms(os.DirFS("/"))
	if !slices.ContainsFunc(all, func(p doctor.Platform) bool { return p.Name == "linux/arm64" && p.Fixed }) {
		if r.code != 1 || !strings.Contains(r.stdout, "commands of linux/arm64 cannot run on this machine") || strings.Contains(r.stdout, "exec format error") {
			t.Errorf("without an emulator: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		return
	}
	for _, want := range []string{"web.oci@linux/arm64: this is arm64", "web.oci@linux/amd64: this is amd64", "web.oci: index sha256:"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Fatalf("exit code %d, want %q\n%s%s", r.code, want, r.stdout, r.stderr)
		}
	}
}
