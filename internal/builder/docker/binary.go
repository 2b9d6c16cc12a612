package docker

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// helperNames are the files to look for beside the program.
func helperNames(arch string) []string {
	return []string{"imgbake-helper-linux-" + arch, "imgbake-helper"}
}

var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM, "386": elf.EM_386,
	"riscv64": elf.EM_RISCV, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390,
}

// helperBinary finds the program to copy into containers.
func (e *Engine) helperBinary() (string, error) {
	arch := e.arch()
	if e.deps.Helper != nil {
		return e.deps.Helper(arch)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return findHelper(self, arch)
}

func findHelper(self, arch string) (string, error) {
	for _, name := range helperNames(arch) {
		file := filepath.Join(filepath.Dir(self), name)
		if checkHelper(file, arch) == nil {
			return file, nil
		}
	}
	if err := checkHelper(self, arch); err != nil {
		return "", diag.Problem{
			Text: fmt.Sprintf("no helper for linux/%s containers: %v", arch, err),
			Hint: fmt.Sprintf("put %s beside imgbake: GOOS=linux GOARCH=%s CGO_ENABLED=0 go build ./cmd/imgbake-helper", helperNames(arch)[0], arch),
		}
	}
	return self, nil
}

// checkHelper tells whether a file runs in any Linux container of the
// architecture: a static ELF executable.
func checkHelper(file, arch string) error {
	f, err := elf.Open(file)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return err
		}
		return fmt.Errorf("%s is no Linux program", filepath.Base(file))
	}
	defer f.Close()
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return fmt.Errorf("%s is for another architecture (%s)", filepath.Base(file), f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static", filepath.Base(file))
		}
	}
	return nil
}
