// Package report turns the results of a run into what is kept of it: the record
// file, and the summary people read. It is pure: results in, bytes out.
package report

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
)

// Record is everything known about a run: what --record writes as JSON. It
// names secrets and never holds one.
type Record struct {
	Version   int             `json:"version"` // of this format, 1
	Tool      Tool            `json:"tool"`
	RunID     string          `json:"run_id"`
	Started   time.Time       `json:"started"`
	Seconds   float64         `json:"seconds"`
	Template  Template        `json:"template"`
	Variables []plan.Variable `json:"variables,omitempty"`
	Bakes     []Bake          `json:"bakes"`
}

// Tool is the program that made the record.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Template is the template that was baked.
type Template struct {
	File   string `json:"file"`
	Format string `json:"format"`
	Digest string `json:"digest"` // sha256:… of its bytes
}

// Bake is one bake: what it read, did and made.
type Bake struct {
	Name      string                 `json:"name"`
	Image     string                 `json:"image,omitempty"`
	Builder   string                 `json:"builder"`
	Type      string                 `json:"type"`
	From      string                 `json:"from,omitempty"`
	Status    string                 `json:"status"` // done, failed, skipped
	Error     string                 `json:"error,omitempty"`
	Reason    string                 `json:"reason,omitempty"` // why it was skipped
	Started   *time.Time             `json:"started,omitempty"`
	Seconds   float64                `json:"seconds"`
	Steps     []Step                 `json:"steps,omitempty"`
	Artifacts []bake.ArtifactSummary `json:"artifacts,omitempty"`
	Published []string               `json:"published,omitempty"` // references by digest
	Tags      []string               `json:"tags,omitempty"`      // that were moved
	Materials []Material             `json:"materials,omitempty"`
	Secrets   []string               `json:"secrets,omitempty"` // names of the secrets it was given
}

// Step is one step of a bake.
type Step struct {
	Title    string   `json:"title"`
	Seconds  float64  `json:"seconds"`
	Attempts int      `json:"attempts,omitempty"` // when more than one
	Error    string   `json:"error,omitempty"`
	Output   []string `json:"last_output,omitempty"` // of a step that failed: its last lines
}

// Material is something a bake read.
type Material struct {
	Kind   string `json:"kind"` // base-image, image, file
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
}

// Input is what a record is made of.
type Input struct {
	Tool     Tool
	RunID    string
	Started  time.Time
	Seconds  float64
	Digest   string // of the template
	Plan     plan.Plan
	Results  []run.Result
	Redact   func(string) string // applied to every error text
	Sensible func(names []string) []string
}

// New makes the record of a run.
func New(in Input) Record {
	r := Record{
		Version: 1, Tool: in.Tool, RunID: in.RunID, Started: in.Started.UTC(), Seconds: in.Seconds,
		Template:  Template{File: in.Plan.Template, Format: in.Plan.Format, Digest: in.Digest},
		Variables: in.Plan.Variables,
	}
	for _, res := range in.Results {
		r.Bakes = append(r.Bakes, in.bake(res))
	}
	return r
}

func (in Input) bake(res run.Result) Bake {
	p := res.Bake
	b := Bake{
		Name: p.Name, Image: p.Image, Builder: p.Builder, Type: p.Type, From: p.From,
		Status: Status(res), Reason: in.Redact(res.Skipped), Seconds: res.Seconds, Materials: in.materials(res),
		Secrets: in.Sensible(needs(p)),
	}
	if res.Err != nil {
		b.Error = in.Redact(res.Err.Error())
	}
	if !res.Started.IsZero() {
		started := res.Started.UTC()
		b.Started = &started
	}
	for _, s := range res.Steps {
		step := Step{Title: in.Redact(s.Title), Seconds: s.Seconds}
		if s.Attempts > 1 {
			step.Attempts = s.Attempts
		}
		if s.Err != nil {
			step.Error, step.Output = in.Redact(s.Err.Error()), run.Tail(s.Err)
		}
		b.Steps = append(b.Steps, step)
	}
	for _, a := range res.Artifacts {
		b.Artifacts = append(b.Artifacts, a.Summary())
	}
	for _, ref := range res.Published {
		b.Published = append(b.Published, ref.Name())
	}
	b.Tags = res.Tags
	return b
}

// Status is a result in one word.
func Status(res run.Result) string {
	switch {
	case res.Skipped != "":
		return "skipped"
	case res.Err != nil:
		return "failed"
	}
	return "done"
}

// materials are the base image, the other images of the template and the host
// files that a bake read.
func (in Input) materials(res run.Result) []Material {
	var list []Material
	if len(res.Artifacts) > 0 {
		if base := res.Artifacts[0].Base; base.Name != "" {
			m := Material{Kind: "base-image", Name: base.Name}
			if base.Digest.Hex != "" {
				m.Digest = base.Digest.String()
			} else if base.ID.Hex != "" {
				m.Digest = base.ID.String()
			}
			list = append(list, m)
		}
	}
	for _, name := range res.Bake.After {
		list = append(list, Material{Kind: "image", Name: name, Digest: in.imageOf(name)})
	}
	for _, i := range res.Bake.Files() {
		if Status(res) == "done" { // else nothing is read just to tell of it
			_, _ = i.Digest.Get() // one that cannot be had is not told
		}
		list = append(list, Material{Kind: "file", Name: i.Path, Digest: i.Digest.Known()})
	}
	return list
}

// imageOf is the digest of the image that a bake of this run made last.
func (in Input) imageOf(name string) (digest string) {
	for _, res := range in.Results {
		for _, a := range res.Artifacts {
			if res.Bake.Name == name && a.Image != nil {
				digest = a.Digest.String()
			}
		}
	}
	return digest
}

// needs are the names that a bake's late expressions read.
func needs(b plan.Bake) []string {
	names := b.Body.Needs()
	steps := b.Steps
	if b.Cleanup != nil {
		steps = append(steps[:len(steps):len(steps)], *b.Cleanup)
	}
	for _, s := range steps {
		for _, n := range s.Late() {
			names = append(names, n.Needs()...)
		}
	}
	for _, sequence := range b.Posts {
		for _, p := range sequence {
			names = append(names, p.Body.Needs()...)
		}
	}
	return names
}

// JSON is the record as it is written to a file.
func (r Record) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// Problems are the failed bakes as problems at the places of their steps.
func Problems(results []run.Result, redact func(string) string) diag.List {
	var list diag.List
	for _, res := range results {
		if res.Err == nil {
			continue
		}
		pos := res.Bake.Pos
		var step *run.StepError
		if errors.As(res.Err, &step) {
			pos = step.Pos
		}
		text := strings.TrimPrefix(res.Err.Error(), pos.String()+": ") // the problem shows its place itself
		list.Add(pos, "", "%s: %s", res.Bake.Name, redact(text))
	}
	return list
}
