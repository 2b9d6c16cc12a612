// Package doctor finds out what this machine can do: whether there is an
// engine to bake with, the tools that templates use, and room for the results.
// It looks, and changes nothing. What it looks with is passed in.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

// Finding is the answer to one question.
type Finding struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Optional bool   `json:"optional,omitempty"` // imgbake bakes without it
	Detail   string `json:"detail"`
	Hint     string `json:"hint,omitempty"` // what to do when it is not OK, or could be better
}

// Probes are the ways to look. A nil one is not asked.
type Probes struct {
	Engine     func(context.Context) (description string, err error)
	Helper     func() (description string, err error) // the program put into containers to see changes
	Tool       func(ctx context.Context, name string) (version string, err error)
	FreeSpace  func(dir string) (bytes int64, err error)
	KVM        func() error
	Root       fs.FS                             // the machine's /, to read what its kernel offers
	UID        int                               // of the user who bakes
	Find       func(name string) (string, error) // where a program is
	Registry   func(ctx context.Context, host string) error
	Registries []string // hosts to ask, none by default
	CacheDir   string
	Getenv     func(string) string
}

// patience is how long one question may take.
const patience = 10 * time.Second

// Run asks everything at once and returns the findings in a fixed order.
func Run(ctx context.Context, p Probes) []Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	checks := []func(context.Context) []Finding{
		p.engine, p.isolation, p.network, p.platforms, p.space, p.tool("git", "git", "install git: ${git.*} in templates needs it"),
		p.kvm, p.tool("QEMU", "qemu-system-x86_64", "install qemu-system-x86 to bake virtual machines"),
	}
	for _, host := range p.Registries {
		checks = append(checks, p.registry(host))
	}
	checks = append(checks, p.ci)

	found := make([][]Finding, len(checks))
	var all sync.WaitGroup
	for i, check := range checks {
		all.Go(func() { found[i] = check(ctx) })
	}
	all.Wait()
	var out []Finding
	for _, f := range found {
		out = append(out, f...)
	}
	return eitherDoes(out)
}

// eitherDoes makes an engine optional where bakes can do without one.
func eitherDoes(findings []Finding) []Finding {
	alone := slices.ContainsFunc(findings, func(f Finding) bool { return f.Name == "isolation" && f.OK })
	for i, f := range findings {
		if f.Name == "engine" && !f.OK && alone {
			findings[i].Optional = true
			findings[i].Hint = "bakes do without one, but for options that need it, and for --load; to have one, " + f.Hint
		}
	}
	return findings
}

// Healthy reports whether everything is there that baking needs.
func Healthy(findings []Finding) bool {
	for _, f := range findings {
		if !f.OK && !f.Optional {
			return false
		}
	}
	return true
}

func (p Probes) engine(ctx context.Context) []Finding {
	if p.Engine == nil {
		return nil
	}
	f := Finding{Name: "engine"}
	description, err := p.Engine(ctx)
	if err != nil {
		f.Detail, f.Hint = oneLine(err), engineHint(err)
		return []Finding{f}
	}
	f.OK, f.Detail = true, description
	if strings.Contains(description, "vfs") {
		f.Hint = "the storage driver vfs copies the whole image for every layer: overlay2 is much faster"
	}
	return append([]Finding{f}, p.helper()...)
}

func engineHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
		return "join the group docker (usermod -aG docker NAME, then log in again), or use a rootless engine"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s: check DOCKER_HOST and the network", patience)
	}
	return "start Docker, or set DOCKER_HOST to an engine that can be reached"
}

func (p Probes) helper() []Finding {
	if p.Helper == nil {
		return nil
	}
	f := Finding{Name: "helper", Optional: true}
	description, err := p.Helper()
	if err != nil {
		f.Detail = oneLine(err)
		f.Hint = "changes are found by exporting the container: slower, and extended attributes are not seen"
		return []Finding{f}
	}
	f.OK, f.Detail = true, description
	return []Finding{f}
}

// Room in the cache folder: with less than enough a bake may end early.
const enoughSpace = 5 << 30

func (p Probes) space(context.Context) []Finding {
	if p.FreeSpace == nil {
		return nil
	}
	f := Finding{Name: "cache folder"}
	free, err := p.FreeSpace(p.CacheDir)
	switch {
	case err != nil:
		f.Detail, f.Hint = oneLine(err), "choose another one with --cache-dir or IMGBAKE_CACHE_DIR"
		return []Finding{f}
	case free < enoughSpace:
		f.Hint = "free some space, or choose another folder with --cache-dir or IMGBAKE_CACHE_DIR"
	}
	f.OK = free >= enoughSpace
	f.Detail = fmt.Sprintf("%s, %.1f GB free", p.CacheDir, float64(free)/1e9)
	return []Finding{f}
}

func (p Probes) tool(name, program, hint string) func(context.Context) []Finding {
	return func(ctx context.Context) []Finding {
		if p.Tool == nil {
			return nil
		}
		version, err := p.Tool(ctx, program)
		if err != nil {
			return []Finding{{Name: name, Optional: true, Detail: oneLine(err), Hint: hint}}
		}
		return []Finding{{Name: name, OK: true, Optional: true, Detail: version}}
	}
}

func (p Probes) kvm(context.Context) []Finding {
	if p.KVM == nil {
		return nil
	}
	if err := p.KVM(); err != nil {
		hint := "virtual machines are emulated without it, which is slow"
		if errors.Is(err, fs.ErrPermission) {
			hint = "join the group kvm; " + hint
		}
		return []Finding{{Name: "KVM", Optional: true, Detail: oneLine(err), Hint: hint}}
	}
	return []Finding{{Name: "KVM", OK: true, Optional: true, Detail: "usable"}}
}

func (p Probes) registry(host string) func(context.Context) []Finding {
	return func(ctx context.Context) []Finding {
		if p.Registry == nil {
			return nil
		}
		f := Finding{Name: "registry", OK: true, Optional: true, Detail: host + " answers"}
		if err := p.Registry(ctx, host); err != nil {
			f.OK, f.Detail = false, host+": "+oneLine(err)
			f.Hint = "check the name, the proxy (HTTPS_PROXY, NO_PROXY) and the certificate authority (--registry-ca)"
		}
		return []Finding{f}
	}
}

// ci says where imgbake thinks it runs, since it behaves differently there.
func (p Probes) ci(context.Context) []Finding {
	if p.Getenv == nil {
		return nil
	}
	f := Finding{Name: "CI", OK: true, Optional: true, Detail: "none"}
	for _, c := range []struct{ variable, name string }{
		{"GITHUB_ACTIONS", "GitHub Actions"}, {"FORGEJO_ACTIONS", "Forgejo Actions"}, {"GITLAB_CI", "GitLab CI"}, {"CI", "yes"},
	} {
		if set := p.Getenv(c.variable); set != "" && set != "false" {
			f.Detail = c.name + ": commands on the host must be permitted with --allow-host-exec"
			break
		}
	}
	return []Finding{f}
}

// oneLine is an error as a table cell.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
