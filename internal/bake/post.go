package bake

import (
	"context"
	"io"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Post is a post-processor: it derives artifacts from artifacts.
type Post interface {
	// Process returns what it made of the artifacts of the step before it.
	// keep says whether these shall be kept when the user does not say
	// (keep_input_artifact).
	Process(ctx context.Context, env PostEnv, in []Artifact) (out []Artifact, keep bool, err error)
}

// PostEnv is everything a post-processor may touch.
type PostEnv struct {
	Job       Job
	Publisher Publisher
	Host      Executor          // nil where host commands are not allowed
	Dir       string            // the template's folder; relative output paths start at OutDir
	OutDir    string            // the folder imgbake was started in
	Vars      []string          // K=V for every host command
	Facts     map[string]string // run facts: run id, and what the artifact's builder added
	Stdout    io.Writer         // already redacted and cut into lines
	Stderr    io.Writer
	Sink      Sink
}

// OutPath is where an output path of the template lies: below OutDir unless it
// is absolute.
func (e PostEnv) OutPath(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(e.OutDir, path)
}

// Publisher sends images out of this machine. It is the only thing in a bake
// that changes the outside world; a dry run swaps it.
type Publisher interface {
	// Publish pushes the image by digest, then moves the tags, all or none of
	// them, and returns the references by digest, one for each of refs in
	// order. A publisher that sends nothing returns none.
	Publish(ctx context.Context, a Artifact, refs []Ref) ([]Ref, error)
}

// Sender is a Publisher that takes layers of an image before all of it is made.
type Sender interface {
	// Send sends layers to the repositories of refs. They are not published by
	// that: nothing names them there. What fails here fails again, and is told,
	// when the image is published.
	Send(ctx context.Context, layers []v1.Layer, refs []Ref) error
}

// Loader puts an image where local tools find it, such as a Docker Engine.
type Loader interface {
	// Load makes the engine hold the image under its Refs, sending only what
	// it lacks, and returns the artifact with EngineID set.
	Load(ctx context.Context, a Artifact) (Artifact, error)
}
