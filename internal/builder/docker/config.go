package docker

import (
	"errors"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what a template says to the docker builder.
type Config struct {
	Image  string      `key:"image" doc:"Image to start from, such as debian:bookworm-slim." opt:"known"`
	Build  *Build      `key:"build" doc:"Build the image to start from with a Dockerfile."`
	Rootfs string      `key:"rootfs" doc:"Start from a root file system: a tar file, plain or compressed with gzip or zstd, relative to the template." opt:"known"`
	Pull   source.Pull `key:"pull" doc:"Ask the registry for the image even if the engine has one of that name: true, false, or missing (only if it has none)." opt:"default=true"`

	Commit     *bool    `key:"commit" doc:"The result is an image. This is what happens if neither export_path nor discard is given."`
	ExportPath string   `key:"export_path" doc:"The result is a tar file of the whole root file system, written here, relative to the folder imgbake runs in." opt:"known"`
	Discard    bool     `key:"discard" doc:"There is no result: the steps are run and thrown away."`
	Changes    []string `key:"changes" doc:"Changes to the image configuration as Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR." opt:"known"`
	Author     string   `key:"author" doc:"Author of the image." opt:"known"`
	Message    string   `key:"message" doc:"Comment for the image's history." opt:"known"`

	Platform   string            `key:"platform" doc:"Platform to bake for, such as linux/arm64. The engine's own if not given." opt:"known"`
	Network    string            `key:"network" doc:"Network of the container while it is baked: bridge, none, host, or the name of one." opt:"known"`
	AddHosts   []string          `key:"add_hosts" alias:"extra_hosts" doc:"Entries for the container's /etc/hosts while it is baked, as name:address." opt:"known"`
	DNS        []string          `key:"dns" doc:"Addresses of name servers to use while it is baked." opt:"known"`
	ShmSize    string            `key:"shm_size" doc:"Size of /dev/shm, such as 256m." opt:"known"`
	Memory     string            `key:"memory" doc:"Memory that all commands may use together while it is baked, with swap, such as 2g." opt:"known"`
	CPUs       float64           `key:"cpus" doc:"Processors that all commands may use together while it is baked, such as 1.5." opt:"known"`
	PIDsLimit  int64             `key:"pids_limit" doc:"Processes and threads that there may be at a time while it is baked." opt:"known"`
	Ulimits    []string          `key:"ulimits" doc:"Limits such as nofile=1024:2048." opt:"known"`
	Volumes    map[string]string `key:"volumes" doc:"Folders of the engine's machine, or named volumes, to mount while it is baked: source to path in the container, optionally with :ro." opt:"known"`
	Tmpfs      []string          `key:"tmpfs" doc:"Paths that are in memory while it is baked and never part of the image." opt:"known"`
	Privileged bool              `key:"privileged" doc:"Give the container full access to the engine's machine."`
	CapAdd     []string          `key:"cap_add" doc:"Linux capabilities to add." opt:"known"`
	CapDrop    []string          `key:"cap_drop" doc:"Linux capabilities to take away." opt:"known"`
	Device     []string          `key:"device" doc:"Devices of the engine's machine to make available, as host[:container[:permissions]]." opt:"known"`
	Runtime    string            `key:"runtime" doc:"OCI runtime that the engine shall use." opt:"known"`
	ExecUser   string            `key:"exec_user" doc:"User that commands run as where a provisioner names none." opt:"known"`
	Pty        bool              `key:"pty" doc:"Give commands a terminal."`
	RunCommand []string          `key:"run_command" doc:"Packer's docker run arguments. Flags with a meaning here are honoured (-d -i -t --entrypoint, and those that say the same as a key above); others are a problem." opt:"known"`

	Login         bool            `key:"login" doc:"Use the login_* keys to pull the image."`
	LoginServer   string          `key:"login_server" doc:"Registry to sign in to. That of the image if not given." opt:"known"`
	LoginUsername string          `key:"login_username" doc:"User to sign in as."`
	LoginPassword source.Password `key:"login_password" doc:"Password or token to sign in with."`

	ECRLogin          bool   `key:"ecr_login" doc:"Not supported: sign in with a credential helper (docker-credential-ecr-login)."`
	AWSAccessKey      string `key:"aws_access_key" doc:"Not supported, see ecr_login."`
	AWSSecretKey      string `key:"aws_secret_key" doc:"Not supported, see ecr_login."`
	AWSToken          string `key:"aws_token" doc:"Not supported, see ecr_login."`
	AWSProfile        string `key:"aws_profile" doc:"Not supported, see ecr_login."`
	AWSForcePublicECR bool   `key:"aws_force_use_public_ecr" doc:"Not supported, see ecr_login."`

	Communicator     string `key:"communicator" doc:"How commands reach the container: docker is the only way." opt:"known"`
	ContainerDir     string `key:"container_dir" doc:"Ignored: no folder is mounted into the container." opt:"known"`
	FixUploadOwner   *bool  `key:"fix_upload_owner" doc:"Ignored: uploads belong to root unless the step says otherwise."`
	WindowsContainer bool   `key:"windows_container" doc:"Not supported."`
	DockerPath       string `key:"docker_path" doc:"Ignored: imgbake speaks to the engine itself." opt:"known"`
}

// Build is a Dockerfile to start from.
type Build struct {
	Context string            `key:"context" alias:"build_dir" doc:"Folder with the files the Dockerfile copies, relative to the template. That of the Dockerfile if not given." opt:"known"`
	File    string            `key:"file" alias:"path,dockerfile" doc:"The Dockerfile, relative to the context if that is given, else to the template." opt:"known,default=Dockerfile"`
	Target  string            `key:"target" doc:"Stage of the Dockerfile to stop at." opt:"known"`
	Args    map[string]string `key:"args" alias:"arguments" doc:"Build arguments. They stay visible in the image: never a secret." opt:"known"`
	Pull    *bool             `key:"pull" doc:"Ask the registry for newer base images."`

	Compress bool `key:"compress" doc:"Ignored."`
}

func (c Config) check(at value.Where) diag.List {
	var problems diag.List
	c.checkSource(at, &problems)
	c.checkResult(at, &problems)
	c.checkContainer(at, &problems)
	c.checkLogin(at, &problems)
	c.checkUnsupported(at, &problems)
	var bad *imageconfig.Error
	if errors.As(imageconfig.Check(c.Changes), &bad) {
		problems.Add(at.At("changes", bad.Index), bad.Hint, "%s", bad.Text)
	}
	return problems
}

// checkSource leaves it to plan that one of image, build and rootfs is there,
// since an image with from: has none.
func (c Config) checkSource(at value.Where, problems *diag.List) {
	if c.Image != "" {
		if _, err := name.ParseReference(c.Image); err != nil {
			problems.Add(at.At("image"), "", "image %q is no reference of an image", c.Image)
		}
	}
	if given := givenOf(at, sources); len(given) > 1 {
		problems.Add(at.At(given[1]), "give one of "+strings.Join(sources, ", "), "%s and %s are both given", given[0], given[1])
	}
}

func (c Config) checkResult(at value.Where, problems *diag.List) {
	var wanted []string
	if c.Commit != nil && *c.Commit {
		wanted = append(wanted, "commit")
	}
	if c.ExportPath != "" {
		wanted = append(wanted, "export_path")
	}
	if c.Discard {
		wanted = append(wanted, "discard")
	}
	switch {
	case len(wanted) > 1:
		problems.Add(at.At(wanted[1]), "give one of commit, export_path, discard", "%s and %s are both given", wanted[0], wanted[1])
	case len(wanted) == 0 && c.Commit != nil && !at.Late("export_path") && !at.Late("discard"):
		problems.Add(at.At("commit"), "give export_path or discard as well", "commit is false, and there is no other result")
	}
}

func (c Config) checkContainer(at value.Where, problems *diag.List) {
	if c.Platform != "" {
		if p, err := v1.ParsePlatform(c.Platform); err != nil || p.OS == "" || p.Architecture == "" {
			problems.Add(at.At("platform"), "such as linux/arm64", "platform %q is not os/architecture", c.Platform)
		}
	}
	if _, err := source.Bytes(c.ShmSize); err != nil {
		problems.Add(at.At("shm_size"), "such as 256m", "shm_size %q is no size", c.ShmSize)
	}
	*problems = append(*problems, source.CheckLimits(at, c.Memory, c.CPUs, c.PIDsLimit)...)
	for i, u := range c.Ulimits {
		if _, err := units.ParseUlimit(u); err != nil {
			problems.Add(at.At("ulimits", i), "such as nofile=1024:2048", "ulimit %q: %v", u, err)
		}
	}
	for i, h := range c.AddHosts {
		if host, address, ok := strings.Cut(h, ":"); !ok || host == "" || address == "" {
			problems.Add(at.At("add_hosts", i), "such as db:10.0.0.5", "host entry %q is not name:address", h)
		}
	}
	for source, target := range c.Volumes {
		if p, _, _ := strings.Cut(target, ":"); !path.IsAbs(p) {
			problems.Add(at.At("volumes", source), "", "volume path %q is not absolute", p)
		}
	}
	for i, t := range c.Tmpfs {
		if p, _, _ := strings.Cut(t, ":"); !path.IsAbs(p) {
			problems.Add(at.At("tmpfs", i), "", "tmpfs path %q is not absolute", p)
		}
	}
	for i, d := range c.Device {
		if _, err := parseDevice(d); err != nil {
			problems.Add(at.At("device", i), "", "%v", err)
		}
	}
	if len(c.RunCommand) > 0 {
		if _, err := c.withRunCommand(); err != nil {
			problems.Add(at.At("run_command"), "use the builder's own keys instead", "%v", err)
		}
	}
}

func (c Config) checkLogin(at value.Where, problems *diag.List) {
	if !c.Login {
		return
	}
	for _, key := range []string{"login_username", "login_password"} {
		if !at.Given(key) {
			problems.Add(at.At("login"), "", "login needs %s", key)
		}
	}
}

func (c Config) checkUnsupported(at value.Where, problems *diag.List) {
	for _, key := range []string{"ecr_login", "aws_access_key", "aws_secret_key", "aws_token", "aws_profile", "aws_force_use_public_ecr"} {
		if at.Given(key) && !(key == "ecr_login" && !c.ECRLogin) {
			problems.Add(at.At(key), "sign in with a credential helper in the docker config, or with login", "%s is not supported", key)
		}
	}
	if c.WindowsContainer {
		problems.Add(at.At("windows_container"), "", "windows containers are not supported")
	}
	if c.Communicator != "" && c.Communicator != "docker" {
		problems.Add(at.At("communicator"), "leave it out", "communicator %q is not supported by the docker builder", c.Communicator)
	}
	for _, key := range []string{"container_dir", "fix_upload_owner", "docker_path"} {
		if at.Given(key) {
			problems.Warn(at.At(key), "", "%s has no effect", key)
		}
	}
}

var sources = []string{"image", "build", "rootfs"}

func givenOf(at value.Where, keys []string) []string {
	var given []string
	for _, key := range keys {
		if at.Given(key) {
			given = append(given, key)
		}
	}
	return given
}

// inputs are the host files the config makes the builder read.
func (c Config) inputs(at value.Where) []bake.Input {
	var inputs []bake.Input
	if c.Rootfs != "" {
		inputs = append(inputs, bake.Input{Path: c.Rootfs, Pos: at.At("rootfs")})
	}
	if c.Build != nil {
		folder, file := c.Build.paths()
		inputs = append(inputs, bake.Input{Path: folder, Pos: at.At("build")})
		if rel, err := filepath.Rel(folder, file); err != nil || strings.HasPrefix(rel, "..") {
			inputs = append(inputs, bake.Input{Path: file, Pos: at.At("build")})
		}
	}
	return inputs
}

// paths are the context folder and the Dockerfile, both relative to the
// template's folder or absolute. A Dockerfile that is given by its path from
// the template, as in Packer, has that folder as its context.
func (b Build) paths() (folder, file string) {
	file = b.File
	switch {
	case b.Context == "" && file == "":
		return ".", "Dockerfile"
	case b.Context == "":
		return filepath.Dir(file), file
	case file == "":
		file = "Dockerfile"
	}
	if filepath.IsAbs(file) {
		return b.Context, file
	}
	return b.Context, filepath.Join(b.Context, file)
}

func (c Config) title() string {
	switch {
	case c.Image != "":
		return "docker: " + c.Image
	case c.Rootfs != "":
		return "docker: " + filepath.Base(c.Rootfs)
	case c.Build != nil:
		_, file := c.Build.paths()
		return "docker: " + file
	}
	return "docker"
}
