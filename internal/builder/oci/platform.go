package oci

import (
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/doctor"
)

// natives are the architectures whose programs a machine runs besides its own.
var natives = map[string][]string{"amd64": {"386"}, "arm64": {"arm"}}

// emulation says how this machine runs the platform's programs: in words, or
// why it cannot. Both are empty where it just does. Files can be put into an
// image for any platform.
func emulation(p v1.Platform, here string, host fs.FS) (how string, problem error) {
	if p.Architecture == "" || p.Architecture == here {
		return "", nil
	}
	name := "linux/" + p.Architecture
	registered, err := doctor.Platforms(host)
	at := slices.IndexFunc(registered, func(r doctor.Platform) bool { return r.Name == name })
	switch {
	case at >= 0 && registered[at].Fixed:
		return fmt.Sprintf("commands of %s run by emulation (%s), which is slow", name, registered[at].Interpreter), nil
	case slices.Contains(natives[here], p.Architecture):
		return "", nil
	case at >= 0:
		return "", foreign(name, "its emulator is registered without the flag F, so it is not found from inside of images", p.Architecture)
	case err == nil && len(registered) > 0:
		return "", foreign(name, "no emulator is registered for it", p.Architecture)
	}
	return "", foreign(name, "no emulator is registered", p.Architecture)
}

func foreign(name, why, arch string) error {
	return diag.Problem{
		Text: fmt.Sprintf("commands of %s cannot run on this machine (linux/%s): %s", name, runtime.GOARCH, why),
		Hint: "apt-get install qemu-user-static binfmt-support, or docker run --privileged --rm tonistiigi/binfmt --install " + arch +
			", or bake on a machine of that platform and join the images with imgbake merge",
	}
}

// tellEmulation looks once at how the commands will run, and tells.
func (m *machine) tellEmulation(host fs.FS) {
	how, problem := emulation(m.platform, runtime.GOARCH, host)
	m.cannotRun = problem
	switch {
	case m.job.Notify == nil:
	case problem != nil:
		m.job.Notify("only files can be put into an image for " + m.platform.String() + " here: there is no emulator for its commands")
	case how != "":
		m.job.Notify(how)
	}
}
