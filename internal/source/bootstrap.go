package source

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Packages are a root file system to be made of a distribution's packages.
type Packages struct {
	Suite   string
	Mirror  string
	Include []string
	Variant string
}

const bootstrapKind = "source-bootstrap"

// Bootstrap makes a root file system with mmdebstrap(1). What the packages are
// changes from day to day, so it is made once for each set of options and kept
// until the cache is cleared.
func (s *Sources) Bootstrap(ctx context.Context, p Packages, platform v1.Platform, note func(string)) (v1.Image, error) {
	options, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	key := string(options) + " " + platform.String()
	unlock, err := s.locks.Lock(ctx, "bootstrap "+key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.cachedImage(bootstrapKind, key, func() (savedImage, error) {
		note(fmt.Sprintf("making a root file system of %s with mmdebstrap", p.Suite))
		dir, err := os.MkdirTemp("", "imgbake-bootstrap-")
		if err != nil {
			return savedImage{}, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "rootfs.tar")
		if err := p.make(ctx, file, platform); err != nil {
			return savedImage{}, err
		}
		f, err := os.Open(file)
		if err != nil {
			return savedImage{}, err
		}
		defer f.Close()
		return s.importRootfs(ctx, f, platform)
	})
}

func (p Packages) make(ctx context.Context, file string, platform v1.Platform) error {
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return diag.Problem{Text: "bootstrap: mmdebstrap is not installed", Hint: "apt-get install mmdebstrap"}
	}
	args := []string{"--variant=" + p.Variant, "--architectures=" + debianArch(platform), "--format=tar", "--quiet"}
	if len(p.Include) > 0 {
		args = append(args, "--include="+strings.Join(p.Include, ","))
	}
	args = append(args, "--", p.Suite, file)
	if p.Mirror != "" {
		args = append(args, p.Mirror)
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("mmdebstrap of %s: %w: %s", p.Suite, err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return nil
}

// debianArch is Debian's name of a platform's architecture.
func debianArch(p v1.Platform) string {
	switch {
	case p.Architecture == "386":
		return "i386"
	case p.Architecture == "arm" && p.Variant == "v7":
		return "armhf"
	case p.Architecture == "arm":
		return "armel"
	case p.Architecture == "ppc64le":
		return "ppc64el"
	}
	return p.Architecture
}
