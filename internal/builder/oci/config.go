package oci

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what a template says to the oci builder. Keys that the docker
// builder has too are called as there, and mean the same.
type Config struct {
	Image     string      `key:"image" doc:"Image to start from, such as debian:bookworm-slim." opt:"known"`
	Layout    string      `key:"layout" doc:"Start from an image in an OCI image layout: its folder, optionally with :name, relative to the template." opt:"known"`
	Archive   string      `key:"archive" doc:"Start from the image in a file that docker save made." opt:"known"`
	Rootfs    string      `key:"rootfs" doc:"Start from a root file system: a tar file, plain or compressed with gzip or zstd, relative to the template." opt:"known"`
	Scratch   bool        `key:"scratch" doc:"Start from nothing."`
	Bootstrap *Bootstrap  `key:"bootstrap" doc:"Start from a distribution's packages."`
	Pull      source.Pull `key:"pull" doc:"Ask the registry for the image even if it was used before: true, false, or missing (only if it was not)." opt:"default=true"`

	Commit     *bool    `key:"commit" doc:"The result is an image. This is what happens if neither export_path nor discard is given."`
	ExportPath string   `key:"export_path" doc:"The result is a tar file of the whole root file system, written here, relative to the folder imgbake runs in." opt:"known"`
	Discard    bool     `key:"discard" doc:"There is no result: the steps are run and thrown away."`
	Changes    []string `key:"changes" doc:"Changes to the image configuration as Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR." opt:"known"`
	Author     string   `key:"author" doc:"Author of the image." opt:"known"`
	Message    string   `key:"message" doc:"Comment for the image's history." opt:"known"`

	Platform   string   `key:"platform" doc:"Platform to bake for, such as linux/arm64. This machine's own if not given; others need binfmt." opt:"known"`
	Isolation  string   `key:"isolation" doc:"How steps are kept apart from this machine: namespaces, or chroot where the machine refuses them. The strongest there is if not given." opt:"known,enum=namespaces|chroot"`
	Network    string   `key:"network" doc:"Network while it is baked: host, none, or private, which is one of its own with a way out by slirp4netns." opt:"known,enum=host|none|private,default=host"`
	AddHosts   []string `key:"add_hosts" alias:"extra_hosts" doc:"Entries for /etc/hosts while it is baked, as name:address." opt:"known"`
	ShmSize    string   `key:"shm_size" doc:"Size of /dev/shm, such as 256m." opt:"known"`
	Memory     string   `key:"memory" doc:"Memory that all commands may use together while it is baked, with swap, such as 2g." opt:"known"`
	CPUs       float64  `key:"cpus" doc:"Processors that all commands may use together while it is baked, such as 1.5." opt:"known"`
	PIDsLimit  int64    `key:"pids_limit" doc:"Processes and threads that there may be at a time while it is baked." opt:"known"`
	Tmpfs      []string `key:"tmpfs" doc:"Paths that are in memory while it is baked and never part of the image." opt:"known"`
	CapAdd     []string `key:"cap_add" doc:"Linux capabilities to add." opt:"known"`
	CapDrop    []string `key:"cap_drop" doc:"Linux capabilities to take away." opt:"known"`
	NoNewPrivs bool     `key:"no_new_privileges" doc:"Steps cannot gain rights, so sudo does not work."`
	ExecUser   string   `key:"exec_user" doc:"User that commands run as where a provisioner names none." opt:"known"`

	Login         bool            `key:"login" doc:"Use the login_* keys to pull the image."`
	LoginServer   string          `key:"login_server" doc:"Registry to sign in to. That of the image if not given." opt:"known"`
	LoginUsername string          `key:"login_username" doc:"User to sign in as."`
	LoginPassword source.Password `key:"login_password" doc:"Password or token to sign in with."`
}

// Bootstrap is a root file system to be made of packages by mmdebstrap(1).
type Bootstrap struct {
	Suite   string   `key:"suite" doc:"Release of the distribution, such as bookworm." opt:"required,known"`
	Mirror  string   `key:"mirror" doc:"Where to get packages; mmdebstrap's choice if not given." opt:"known"`
	Include []string `key:"include" doc:"Packages to install besides those of the variant." opt:"known"`
	Variant string   `key:"variant" doc:"Set of packages to start with: minbase, essential, apt, standard." opt:"known,default=minbase"`
}

var sources = []string{"image", "layout", "archive", "rootfs", "scratch", "bootstrap"}

func (c Config) check(at value.Where) (problems diag.List) {
	if c.Image != "" {
		if _, err := name.ParseReference(c.Image); err != nil {
			problems.Add(at.At("image"), "write it as name:tag, such as debian:bookworm-slim", "%q is no image reference", c.Image)
		}
	}
	if c.Platform != "" {
		if p, err := v1.ParsePlatform(c.Platform); err != nil || p.OS != "linux" {
			problems.Add(at.At("platform"), "write it as linux/amd64", "%q is no platform that can be baked here", c.Platform)
		}
	}
	if c.Discard && c.ExportPath != "" {
		problems.Add(at.At("discard"), "remove one of the two", "discard and export_path are both given")
	}
	for i, h := range c.AddHosts {
		if host, address, ok := strings.Cut(h, ":"); !ok || host == "" || address == "" {
			problems.Add(at.At("add_hosts", i), "", "%q is not name:address", h)
		}
	}
	for i, t := range c.Tmpfs {
		if p, _, _ := strings.Cut(t, ":"); !path.IsAbs(p) {
			problems.Add(at.At("tmpfs", i), "", "tmpfs path %q is not absolute", p)
		}
	}
	if c.Isolation == sandbox.Chroot && c.Network != sandbox.HostNetwork && c.Network != "" {
		problems.Add(at.At("network"), "leave out isolation", "network %s: isolation chroot has this machine's network", c.Network)
	}
	if _, err := source.Bytes(c.ShmSize); err != nil {
		problems.Add(at.At("shm_size"), "write it as 256m", "shm_size: %v", err)
	}
	problems = append(problems, source.CheckLimits(at, c.Memory, c.CPUs, c.PIDsLimit)...)
	for _, key := range []string{"cap_add", "cap_drop"} {
		for i, name := range map[string][]string{"cap_add": c.CapAdd, "cap_drop": c.CapDrop}[key] {
			if !sandbox.KnownCapability(name) {
				problems.Add(at.At(key, i), "", "%q is no capability", name)
			}
		}
	}
	if err := imageconfig.Check(c.Changes); err != nil {
		problems.Add(at.At("changes"), "", "%v", err)
	}
	if c.Login {
		for _, key := range []string{"login_username", "login_password"} {
			if !at.Given(key) {
				problems.Add(at.At("login"), "", "login needs %s", key)
			}
		}
	}
	return problems
}

// inputs are the host files the config makes the builder read.
func (c Config) inputs(at value.Where) []bake.Input {
	var inputs []bake.Input
	folder, _ := c.layout()
	for key, p := range map[string]string{"rootfs": c.Rootfs, "archive": c.Archive, "layout": folder} {
		if p != "" {
			inputs = append(inputs, bake.Input{Path: p, Pos: at.At(key)})
		}
	}
	slices.SortFunc(inputs, func(a, b bake.Input) int { return strings.Compare(a.Path, b.Path) })
	return inputs
}

// layout is the folder and the name of the image in it.
func (c Config) layout() (folder, name string) {
	folder, name, _ = strings.Cut(c.Layout, ":")
	return folder, name
}

func (c Config) title() string {
	switch {
	case c.Image != "":
		return "oci: " + c.Image
	case c.Bootstrap != nil:
		return "oci: packages of " + c.Bootstrap.Suite
	case c.Scratch:
		return "oci: scratch"
	}
	for _, p := range []string{c.Layout, c.Archive, c.Rootfs} {
		if p != "" {
			return "oci: " + filepath.Base(p)
		}
	}
	return "oci"
}

// options are the sandbox's.
func (c Config) options(job bake.Job, base *v1.ConfigFile, isolation string) (sandbox.Options, error) {
	shm, err := source.Bytes(c.ShmSize)
	if err != nil {
		return sandbox.Options{}, err
	}
	memory, err := source.Bytes(c.Memory)
	return sandbox.Options{
		Isolation: cmp.Or(c.Isolation, isolation), Network: c.Network, Env: base.Config.Env, Dir: base.Config.WorkingDir, AddHosts: c.AddHosts,
		Limits:  sandbox.Limits{Memory: memory, CPUs: c.CPUs, PIDs: c.PIDsLimit},
		ShmSize: shm, Tmpfs: c.Tmpfs, CapAdd: c.CapAdd, CapDrop: c.CapDrop, NoNewPrivs: c.NoNewPrivs, Notify: job.Notify,
	}, err
}
