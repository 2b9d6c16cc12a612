package bake

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Job is one bake's fixed facts. It is made from the plan before the builder
// starts and never changes.
type Job struct {
	RunID       string            // unique for this run of imgbake; labels what a builder makes
	Name        string            // the bake's name: image.builder, or the builder alone for Packer templates
	Image       string            // the image's name in the template, may be empty for Packer templates
	Builder     string            // the builder's name
	Type        string            // the builder's Kind
	Platform    v1.Platform       // what to bake for; the zero value is the engine's own
	From        *Artifact         // the earlier stage to start from; nil for the builder's own source
	Epoch       *time.Time        // SOURCE_DATE_EPOCH; nil: the base image's created time, else 1970
	Config      ImageConfig       // changes to the image configuration
	Keep        []string          // noise paths to keep, as patterns
	Compression Compression       // of the layers that are made
	Files       bool              // no command will be run, as far as is known: the machine is for Put and Get
	Each        bool              // every step is committed by itself
	Mounts      []Mount           // what Mount will be asked for, without contents and sockets
	Dir         string            // the template's folder, absolute
	Force       bool              // -force: overwrite what is in the way
	Debug       bool              // -debug
	Notify      func(text string) // one line for the log; never nil in a run
}

// Compression is how layers are compressed. The zero value is Gzip.
type Compression string

// The compressions.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// ImageConfig is what a template changes in the image configuration of the
// base (OCI image-spec config.md). A nil field keeps the base's value; an empty
// list clears it. Setting Entrypoint alone clears the base's Cmd, as docker
// build does.
type ImageConfig struct {
	Entrypoint  []string          `key:"entrypoint" doc:"The command that always runs, as a list of arguments." opt:"known" json:"entrypoint,omitempty"`
	Cmd         []string          `key:"cmd" doc:"Default arguments to the entrypoint, or the command when there is none." opt:"known" json:"cmd,omitempty"`
	Env         map[string]string `key:"env" doc:"Environment variables baked into the image. Never a secret." opt:"known" json:"env,omitempty"`
	User        string            `key:"user" doc:"User, and optionally group, the container runs as: name, uid, name:group or uid:gid." opt:"known" json:"user,omitempty"`
	Workdir     string            `key:"workdir" alias:"working_dir" doc:"Working directory, an absolute path." opt:"known" json:"workdir,omitempty"`
	Expose      []string          `key:"expose" doc:"Ports the image listens on, such as 8080/tcp." opt:"known" json:"expose,omitempty"`
	Volumes     []string          `key:"volumes" doc:"Paths that hold data outside the image." opt:"known" json:"volumes,omitempty"`
	Labels      map[string]string `key:"labels" doc:"Labels, such as org.opencontainers.image.title." opt:"known" json:"labels,omitempty"`
	StopSignal  string            `key:"stop_signal" doc:"Signal that stops the container, such as SIGTERM." opt:"known" json:"stop_signal,omitempty"`
	Healthcheck *Healthcheck      `key:"healthcheck" doc:"How an engine finds out whether the container works." json:"healthcheck,omitempty"`
}

// Healthcheck is Docker's health check of an image.
type Healthcheck struct {
	Test        []string      `key:"test" doc:"Command as a list, run without a shell; a single string is run by the shell; [NONE] turns the base's check off." opt:"required,known" json:"test"`
	Interval    time.Duration `key:"interval" doc:"Time between two checks." opt:"known" json:"interval,omitempty"`
	Timeout     time.Duration `key:"timeout" doc:"A check that takes longer has failed." opt:"known" json:"timeout,omitempty"`
	StartPeriod time.Duration `key:"start_period" doc:"Failures in this time after the start do not count." opt:"known" json:"start_period,omitempty"`
	Retries     int           `key:"retries" doc:"Failures in a row until the container is unhealthy." opt:"known" json:"retries,omitempty"`
}
