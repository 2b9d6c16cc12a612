package source

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Pull is a pull policy, as templates have it.
type Pull string

// Whether the registry is asked what a name stands for: always, only when it is
// not known from before, or not at all.
const (
	PullAlways  Pull = "true"
	PullMissing Pull = "missing"
	PullNever   Pull = "false"
)

// ValueType names the type for documentation.
func (Pull) ValueType() string { return "true, false or missing" }

// UnmarshalValue reads a bool or the word.
func (p *Pull) UnmarshalValue(n value.Node) (problems diag.List) {
	text, _ := value.Text(n)
	switch Pull(text) {
	case PullAlways, PullNever, PullMissing:
		*p = Pull(text)
	case "always":
		*p = PullAlways
	case "never":
		*p = PullNever
	default:
		problems.Add(n.Pos, "", "expected true, false or missing, found %s", value.Describe(n))
	}
	return problems
}

// Password is a secret.Value that a template can give.
type Password struct{ secret.Value }

// ValueType names the type for documentation.
func (Password) ValueType() string { return "string" }

// UnmarshalValue reads a string.
func (p *Password) UnmarshalValue(n value.Node) (problems diag.List) {
	text, ok := value.Text(n)
	if !ok {
		problems.Add(n.Pos, "", "expected a string, found something else")
	}
	p.Value = secret.New(text)
	return problems
}

// SameServer keeps a login for a server, empty for any, from being sent to
// another registry.
func SameServer(server string, repo name.Repository) bool {
	if server == "" {
		return true
	}
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	server, _, _ = strings.Cut(server, "/")
	hub := func(s string) bool { return s == "docker.io" || s == "index.docker.io" || s == "registry-1.docker.io" }
	return server == repo.RegistryStr() || hub(server) && hub(repo.RegistryStr())
}

// Bytes reads a size such as 256m; empty is 0.
func Bytes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	size, err := units.RAMInBytes(text)
	if err == nil && size <= 0 {
		err = fmt.Errorf("size %q is not positive", text)
	}
	return size, err
}

// CheckLimits finds what is wrong with the limits of a bake's commands. One that
// is not given is zero.
func CheckLimits(at value.Where, memory string, cpus float64, pids int64) (problems diag.List) {
	if _, err := Bytes(memory); err != nil {
		problems.Add(at.At("memory"), "such as 2g", "memory %q is no size", memory)
	}
	if cpus != 0 && cpus < 0.01 {
		problems.Add(at.At("cpus"), "such as 1.5; at least 0.01", "cpus: %v is too little", cpus)
	}
	if pids < 0 {
		problems.Add(at.At("pids_limit"), "such as 1000", "pids_limit: %d is no number of processes", pids)
	}
	return problems
}

// Absolute is a path of the template, below its folder unless it is absolute.
func Absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
