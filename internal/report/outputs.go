package report

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/run"
)

// Output is a result of a workflow step.
type Output struct{ Name, Value string }

// Made is an image or set of files as the output "artifacts" shows it.
type Made struct {
	Bake      string   `json:"bake"`
	MediaType string   `json:"media_type,omitempty"`
	Digest    string   `json:"digest,omitempty"`
	Platform  string   `json:"platform,omitempty"`
	Size      int64    `json:"size,omitempty"`
	Published []string `json:"published,omitempty"` // by digest
	Tags      []string `json:"tags,omitempty"`      // whole references
	Files     []string `json:"files,omitempty"`
}

// Outputs are what later steps of a workflow read of a run. Bakes that others
// start from, and nobody asked for, are not among them.
func Outputs(results []run.Result) []Output {
	artifacts, digests := map[string]Made{}, map[string]string{}
	metadata := map[string]map[string]string{}
	pushed := map[string]bool{}
	var images, tags []string
	for _, res := range results {
		if res.Bake.Ancestor {
			continue
		}
		images = append(images, published(res)...)
		pushed[res.Bake.Name] = len(res.Published) > 0
		tags = append(tags, res.Tags...)
		for _, a := range res.Artifacts {
			artifacts[key(res, a)] = made(res, a)
		}
		if image := Image(res); image != nil {
			digests[res.Bake.Name] = digest(res, *image)
			metadata[res.Bake.Name] = imageMetadata(res, *image)
		}
	}
	out := []Output{
		{"artifacts", text(artifacts)}, {"images", text(nonNil(images))}, {"digests", text(digests)},
		{"tags", strings.Join(unique(tags), "\n")},
	}
	if len(images) > 0 { // what was not pushed by itself is in an index, or nowhere
		maps.DeleteFunc(metadata, func(name string, _ map[string]string) bool { return !pushed[name] })
	}
	if len(metadata) != 1 { // as docker/bake-action has it
		return append(out, Output{"metadata", text(metadata)})
	}
	for name, one := range metadata { // as docker/build-push-action has it
		out = append(out, Output{"metadata", text(one)}, Output{"digest", digests[name]})
	}
	if len(images) > 0 {
		out = append(out, Output{"image", images[0]})
	}
	return out
}

// Image is the image, or index of images, that a bake made last; nil if none.
func Image(res run.Result) *bake.Artifact {
	for i := len(res.Artifacts) - 1; i >= 0; i-- {
		if a := res.Artifacts[i]; a.Image != nil || a.Index != nil {
			return &res.Artifacts[i]
		}
	}
	return nil
}

// digest is that under which an image was published, which differs from its
// own where annotations were added.
func digest(res run.Result, a bake.Artifact) string {
	if pushed := published(res); len(pushed) > 0 {
		_, digest, _ := strings.Cut(pushed[0], "@")
		return digest
	}
	return a.Digest.String()
}

func published(res run.Result) []string {
	names := make([]string, len(res.Published))
	for i, ref := range res.Published {
		names[i] = ref.Name()
	}
	return unique(names)
}

// key is image/builder/platform.
func key(res run.Result, a bake.Artifact) string {
	parts := []string{res.Bake.Builder, platform(a)}
	if res.Bake.Image != "" {
		parts = append([]string{res.Bake.Image}, parts...)
	}
	if len(a.Files) > 0 {
		parts[len(parts)-1] = a.Builder
	}
	return strings.TrimSuffix(strings.Join(parts, "/"), "/")
}

func platform(a bake.Artifact) string {
	if a.Platform == nil {
		return ""
	}
	return a.Platform.String()
}

func made(res run.Result, a bake.Artifact) Made {
	s := a.Summary()
	m := Made{Bake: res.Bake.Name, MediaType: s.MediaType, Digest: s.Digest, Platform: platform(a), Size: a.Size, Files: a.Files}
	if a.Image != nil || a.Index != nil {
		m.Published, m.Tags = published(res), unique(res.Tags)
	}
	return m
}

func imageMetadata(res run.Result, a bake.Artifact) map[string]string {
	m := map[string]string{"containerimage.digest": digest(res, a)}
	if a.Image != nil {
		if config, err := a.Image.ConfigName(); err == nil {
			m["containerimage.config.digest"] = config.String()
		}
	}
	if len(res.Tags) > 0 {
		m["image.name"] = strings.Join(unique(res.Tags), ",")
	}
	return m
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func text(v any) string {
	out, _ := json.Marshal(v) // strings and numbers only: never fails
	return string(out)
}
