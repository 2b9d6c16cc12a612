// Package plan turns a template and resolved variables into a Plan: exactly
// what will be done, as data that can be printed, saved and compared. It has
// no side effect; what it needs to know of the world comes in as Facts.
package plan

import (
	"slices"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Plan is exactly what will be done. Its JSON form holds no secret: a
// sensitive value stays an expression.
type Plan struct {
	Version   int        `json:"version"` // of this format, 1
	Template  string     `json:"template"`
	Format    string     `json:"format"`
	Variables []Variable `json:"variables,omitempty"`
	Cache     Cache      `json:"cache,omitzero"`
	Images    []Image    `json:"images"`
}

// Variable is a variable as it was resolved.
type Variable struct {
	Name      string `json:"name"`
	Source    string `json:"source"`          // flag, workflow input, environment APP_VERSION, file prod.json, default
	Value     any    `json:"value,omitempty"` // absent when sensitive
	Sensitive bool   `json:"sensitive,omitempty"`
	Default   bool   `json:"is_default,omitempty"` // the value is the default
}

// Image is one image of the template with its bakes.
type Image struct {
	Name        string  `json:"name,omitempty"`
	Description string  `json:"description,omitempty"`
	From        string  `json:"from,omitempty"`
	Bakes       []Bake  `json:"bakes"`
	Indexes     []Index `json:"indexes,omitempty"` // of bakes for several platforms
}

// Target is where an image is published.
type Target struct {
	Repository  string            `key:"repository" doc:"Registry and repository, such as ghcr.io/acme/web." opt:"required,known" json:"repository"`
	Tags        []string          `key:"tags" doc:"Tags to move to the image. None: it is pushed by digest only." opt:"known" json:"tags,omitempty"`
	Annotations map[string]string `key:"annotations" doc:"OCI annotations of the manifest." opt:"known" json:"annotations,omitempty"`
}

// Bake is one builder's work on one image.
type Bake struct {
	Name        string           `json:"name"` // image.builder, @platform if it is for several; without image in Packer templates
	Image       string           `json:"image,omitempty"`
	Builder     string           `json:"builder"`
	Type        string           `json:"type"`
	Platform    string           `json:"platform,omitempty"` // os/arch[/variant]; empty: the engine's own
	From        string           `json:"from,omitempty"`     // the bake whose image it starts from
	After       []string         `json:"after,omitempty"`    // other bakes that must be done first: its steps copy files from their images
	Ancestor    bool             `json:"ancestor,omitempty"` // not asked for: others start from it, so it has no post-processors and is not published
	Pos         diag.Pos         `json:"pos,omitzero"`
	Body        value.Node       `json:"config"`
	Steps       []Step           `json:"steps,omitempty"`
	Cleanup     *Step            `json:"error_cleanup,omitempty"`
	Posts       [][]Post         `json:"post_processors,omitempty"`
	Config      bake.ImageConfig `json:"image_config,omitzero"`
	Layers      string           `json:"layers"`                // step or squash
	Compression bake.Compression `json:"compression,omitempty"` // of the layers it makes; empty: gzip
	Keep        []string         `json:"keep,omitempty"`
	Publish     []Target         `json:"publish,omitempty"`
	Epoch       *time.Time       `json:"epoch,omitempty"` // SOURCE_DATE_EPOCH
	Inputs      []Input          `json:"inputs,omitempty"`
	Facts       map[string]any   `json:"-"` // build.name, build.type, source.*: known values for run's scope
}

// Prerequisites are the bakes that must be done first: the one it starts from, if there is
// one, and those that its steps read.
func (b Bake) Prerequisites() []string {
	if b.From == "" {
		return b.After
	}
	return append([]string{b.From}, b.After...)
}

// Files are the host files that its builder and its steps read.
func (b Bake) Files() []Input {
	files := slices.Clone(b.Inputs)
	for _, s := range b.Steps {
		files = append(files, s.Inputs...)
	}
	return files
}

// Step is one provisioner to run.
type Step struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Pos    diag.Pos   `json:"pos,omitzero"`
	Body   value.Node `json:"config"`
	Common StepCommon `json:"common,omitzero"`
	Inputs []Input    `json:"inputs,omitempty"`
	Reads  string     `json:"reads,omitempty"` // the image it copies files from
	Cache  bool       `json:"cache,omitempty"` // what it did before may stand for doing it again
}

// StepCommon are the keys every provisioner understands.
type StepCommon struct {
	Name        string                `key:"name" doc:"A name for logs and history." opt:"known" json:"name,omitempty"`
	Only        []string              `key:"only" doc:"Run for these builders only." opt:"known" json:"-"`
	Except      []string              `key:"except" doc:"Do not run for these builders." opt:"known" json:"-"`
	Override    map[string]value.Node `key:"override" doc:"Settings that differ per builder: a mapping from builder name to keys of this provisioner." json:"-"`
	PauseBefore time.Duration         `key:"pause_before" doc:"Wait this long before the step." opt:"known" json:"pause_before,omitempty"`
	Timeout     time.Duration         `key:"timeout" doc:"The step fails when it takes longer." opt:"known" json:"timeout,omitempty"`
	MaxRetries  int                   `key:"max_retries" doc:"How often to try again when the step fails." opt:"known" json:"max_retries,omitempty"`
	Cache       string                `key:"cache" doc:"Whether an earlier bake's result of this step may be used: auto (as far as it depends on nothing that is not in its key; never in Packer templates), always, or never, which also runs all that follow." opt:"known,enum=auto|always|never,default=auto" json:"-"`
	CacheKey    string                `key:"cache_key" doc:"Text that the cached result of the step depends on besides its own keys and files, such as a date for a step that reads a package index." opt:"known" json:"cache_key,omitempty"`
	Env         value.Node            `key:"env" doc:"Environment of the step's commands; may use secrets." json:"env,omitzero"`
	Mounts      []StepMount           `key:"mounts" doc:"What the step sees and the image never has: caches, secrets as files, an SSH agent, memory." json:"mounts,omitempty"`
}

// Post is one post-processor to run.
type Post struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Pos    diag.Pos   `json:"pos,omitzero"`
	Body   value.Node `json:"config"`
	Common PostCommon `json:"common,omitzero"`
}

// PostCommon are the keys every post-processor understands.
type PostCommon struct {
	Name   string   `key:"name" doc:"A name for logs, and for -except." opt:"known" json:"name,omitempty"`
	Only   []string `key:"only" doc:"Run for these builders only." opt:"known" json:"-"`
	Except []string `key:"except" doc:"Do not run for these builders." opt:"known" json:"-"`
	Keep   *bool    `key:"keep_input_artifact" doc:"Keep, or remove, what this post-processor was given." opt:"known" json:"keep_input_artifact,omitempty"`
}

// Read has the digests of all files of the plan made, and lists those that cannot
// be had.
func (p Plan) Read() diag.List {
	var problems diag.List
	seen := map[*Digest]bool{}
	for _, image := range p.Images {
		for _, b := range image.Bakes {
			for _, in := range b.Files() {
				if _, err := in.Digest.Get(); !seen[in.Digest] {
					problems.AppendErr(diag.Pos{}, err)
				}
				seen[in.Digest] = true
			}
		}
	}
	return problems
}

// Input is a host file that a component reads, with its content's digest.
type Input struct {
	Path   string  `json:"path"`
	Digest *Digest `json:"digest,omitempty"` // nil: the plan has none
}
