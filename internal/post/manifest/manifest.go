// Package manifest is the manifest post-processor: it keeps a JSON file of
// every build, in Packer's format, with digests and tags beside it.
package manifest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Config is what the template says.
type Config struct {
	Output     string            `key:"output" doc:"File to write; builds of later runs are added." opt:"known,default=packer-manifest.json"`
	StripPath  bool              `key:"strip_path" doc:"Write file names without their folders."`
	StripTime  bool              `key:"strip_time" doc:"Write no build time, so that equal builds give equal files."`
	CustomData map[string]string `key:"custom_data" doc:"Further values to write." opt:"known"`
}

// Build is one entry of the file. The first seven keys are Packer's.
type Build struct {
	Name       string            `json:"name"`
	Builder    string            `json:"builder_type"`
	BuildTime  int64             `json:"build_time,omitempty"` // seconds since 1970
	Files      []File            `json:"files"`
	ArtifactID string            `json:"artifact_id"`
	RunUUID    string            `json:"packer_run_uuid"`
	CustomData map[string]string `json:"custom_data"`
	Digest     string            `json:"digest,omitempty"`   // of the image's manifest
	ImageID    string            `json:"image_id,omitempty"` // of the image's config
	Platform   string            `json:"platform,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
}

// File is one file of an artifact.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Document is the whole file.
type Document struct {
	Builds      []Build `json:"builds"`
	LastRunUUID string  `json:"last_run_uuid"`
}

// Kind describes the post-processor. Its writes to one file take turns.
func Kind(now func() time.Time) bake.Kind[bake.Post] {
	turn := &sync.Mutex{}
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "manifest",
		Doc:     "Adds the build to a JSON file: names, files, digest, tags. The format is Packer's, with more keys.",
		Example: "- manifest: {output: out/manifest.json, strip_path: true}",
		Zero:    Config{Output: "packer-manifest.json"},
		Title:   func(c Config) string { return "manifest: " + c.Output },
		New:     func(c Config) (bake.Post, error) { return writer{c, now, turn}, nil },
	})
}

type writer struct {
	Config
	now  func() time.Time
	turn *sync.Mutex
}

// Process adds the build with all its artifacts. They are kept.
func (w writer) Process(_ context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	path := env.OutPath(w.Output)
	w.turn.Lock()
	defer w.turn.Unlock()
	doc, err := read(path)
	if err != nil {
		return nil, false, err
	}
	if doc.LastRunUUID != env.Job.RunID && env.Job.Force {
		doc.Builds = nil
	}
	doc.LastRunUUID = env.Job.RunID
	b, err := w.build(env.Job, in)
	if err != nil {
		return nil, false, err
	}
	doc.Builds = append(doc.Builds, b)
	return in, true, write(path, doc)
}

func (w writer) build(job bake.Job, in []bake.Artifact) (Build, error) {
	b := Build{Name: job.Builder, Builder: job.Type, RunUUID: job.RunID, CustomData: w.CustomData, Files: []File{}}
	if !w.StripTime {
		b.BuildTime = w.now().Unix()
	}
	for _, a := range in {
		for _, file := range a.Files {
			info, err := os.Stat(file)
			if err != nil {
				return b, err
			}
			if w.StripPath {
				file = filepath.Base(file)
			}
			b.Files = append(b.Files, File{Name: file, Size: info.Size()})
		}
		if err := b.image(a); err != nil {
			return b, err
		}
	}
	if b.ImageID == "" {
		names := make([]string, len(b.Files))
		for i, f := range b.Files {
			names[i] = f.Name
		}
		b.ArtifactID = strings.Join(names, ",")
	}
	return b, nil
}

// image fills in what identifies the artifact, if it is a container image.
func (b *Build) image(a bake.Artifact) error {
	if a.Image == nil {
		return nil
	}
	id, err := a.Image.ConfigName()
	if err != nil {
		return fmt.Errorf("image id: %w", err)
	}
	s := a.Summary()
	b.Digest, b.Platform, b.Tags, b.ImageID, b.ArtifactID = s.Digest, s.Platform, s.Tags, id.String(), id.String()
	return nil
}

func read(path string) (Document, error) {
	var doc Document
	text, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err):
		return doc, nil
	case err != nil:
		return doc, err
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return doc, fmt.Errorf("%s is no build manifest: %w", path, err)
	}
	return doc, nil
}

func write(path string, doc Document) error {
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
