// Package template is what a template says, whatever its file format: the
// variables, the images, their components, each with its place in the file
// and with expressions unevaluated. Its children decode files into it; plan
// resolves it.
package template

import (
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Template is one parsed template.
type Template struct {
	File        string // as the user named it; "-" is standard input
	Format      string // "imgbake" or "packer-json"
	Description string
	MinVersion  value.Node // Packer's min_packer_version; zero if absent
	Variables   []Variable
	Locals      []Local
	Cache       value.Node // plan.Cache, or the one place for both; zero if absent
	Images      []Image
}

// Variable is a declared input.
type Variable struct {
	Name        string
	Pos         diag.Pos
	Description string
	Type        string      // "", string, number, bool, list, map; "" takes anything
	Default     *value.Node // nil: required. May hold expressions over env() only
	Sensitive   bool
	Env         []string // environment variables that feed it, first one set wins
	Choices     []string // the values allowed, if any
	Validations []Validation
}

// Validation is a rule a variable's value must keep. Condition sees the
// variable as var.NAME.
type Validation struct {
	Pos       diag.Pos
	Condition value.Node
	Message   string
}

// Local is a named expression over variables, facts and other locals.
type Local struct {
	Name  string
	Pos   diag.Pos
	Value value.Node
}

// Image is one image to bake, on one or several builders.
type Image struct {
	Name         string // empty in Packer templates
	Pos          diag.Pos
	Description  string
	From         string // another image of the template; empty: the builders' own sources
	FromPos      diag.Pos
	Platforms    value.Node // list of os/arch[/variant], one bake each; zero: the builders' own
	Builders     []Builder  // empty with From: those of the parent
	Provisioners []Provisioner
	Cleanup      *Provisioner // run only when provisioning failed
	Posts        [][]Post     // sequences, each starting from the builder's artifact
	Config       value.Node   // of bake.ImageConfig; zero if absent
	Layers       value.Node   // "step" or "squash"; zero if absent
	Compression  value.Node   // "gzip" or "zstd"; zero if absent
	Keep         value.Node   // noise patterns to keep; zero if absent
	Publish      value.Node   // list of plan.Target; zero if absent
}

// Component is the part all three kinds of component share.
type Component struct {
	Type   string
	Pos    diag.Pos   // of the type's name
	Body   value.Node // the component's own config: an object less the common keys
	Common value.Node // the common keys: see Common structs in package plan
}

// Builder is one builder of an image. Name is the type unless given.
type Builder struct {
	Component
	Name    string
	NamePos diag.Pos
	NameOf  value.Node // zero, or the expression that makes the name (Packer): Name is then its source
	Inherit bool       // named in a list: the config is the parent image's builder's
}

// Provisioner is one step of an image.
type Provisioner struct{ Component }

// Post is one post-processor.
type Post struct{ Component }
