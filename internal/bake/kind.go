package bake

import (
	"context"
	"fmt"
	"reflect"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Catalog is every component type of this program. It is a value: tests make
// their own.
type Catalog struct {
	Builders     []Kind[Builder]
	Provisioners []Kind[Provisioner]
	Posts        []Kind[Post]
	Loader       Loader // nil: images cannot be loaded anywhere
	// Engine says what engine Loader loads into, or why it cannot be reached.
	Engine func(context.Context) (string, error)
}

// Choice is where and how container images are baked, as far as the user says
// so for a whole run.
type Choice struct {
	Engine       string // of docker builders: auto, docker or oci
	Isolation    string // of bakes without an engine that name none
	SquashOwners bool   // without an engine, as an ordinary user without subordinate ids: all files get one owner
}

// Kind is a component type. Facts about it are data. Make one with Define.
type Kind[T any] struct {
	Name     string
	Doc      string // Markdown; the first sentence is the summary
	Example  string // a YAML fragment as it stands in imgbake.yaml
	Needs    []Need
	Commit   CommitCost // of builders
	HostExec bool       // runs commands on the host: must be permitted under CI
	Files    bool       // of provisioners: reaches into the machine by Put and Get alone, if at all
	Sources  []string   // of builders: the keys one of which must be given, and none when the image has a from; plan checks that, Check does not
	Fields   []value.Field

	// Outside reports whether the body makes the component do something
	// outside of the machine, which no cached result can stand for.
	Outside func(value.Node) bool

	// Check reports every problem of a body: the keys, the types, and what
	// the component itself asks for. Expressions that are not evaluated yet
	// count as right.
	Check func(value.Node) diag.List
	// Inputs lists the host files the body makes the component read. Call it
	// on a body that passed Check.
	Inputs func(value.Node) []Input
	// Title is the body in a few words, for logs and history: no secrets.
	Title func(value.Node) string
	// New makes the component from a body without expressions.
	New func(value.Node) (T, error)
}

// Need is something the machine must have for a component to work.
type Need string

// The needs that `imgbake doctor` can look for.
const (
	NeedDocker Need = "docker" // a reachable Docker Engine
	NeedKVM    Need = "kvm"
	NeedRoot   Need = "root"
)

// CommitCost says how dear a commit is.
type CommitCost int

// When a builder's machine is committed: after every step, or at the end of the
// bake only.
const (
	CommitCheap CommitCost = iota
	CommitAtEnd
)

// Input is a file or directory of the host that a component reads.
type Input struct {
	Path    string   // relative to the template's folder, or absolute
	Exclude []string // patterns, .dockerignore style
	Pos     diag.Pos
}

// Spec is what Define makes a Kind of. C is the component's config struct,
// with the tags of value.Decode.
type Spec[C any, T any] struct {
	Name, Doc, Example string
	Needs              []Need
	Commit             CommitCost
	HostExec           bool
	Files              bool
	Sources            []string
	Zero               C // the defaults
	// Check, Inputs, Title and Outside may be nil.
	Check  func(C, value.Where) diag.List
	Inputs func(C, value.Where) []Input
	Title  func(C) string
	// Outside: see Kind. With HostExec it is always true.
	Outside func(C) bool
	New     func(C) (T, error)
}

// Define makes a Kind whose component owns its typed, strictly decoded config.
func Define[C any, T any](s Spec[C, T]) Kind[T] {
	decode := func(n value.Node) (C, value.Where, diag.List) {
		config := s.Zero
		if n.V == nil {
			n.V = value.Object{}
		}
		where, problems := value.Decode(n, &config)
		return config, where, problems
	}
	return Kind[T]{
		Name: s.Name, Doc: s.Doc, Example: s.Example, Needs: s.Needs,
		Commit: s.Commit, HostExec: s.HostExec, Files: s.Files, Sources: s.Sources,
		Fields: value.Fields(reflect.TypeFor[C]()),
		Check: func(n value.Node) diag.List {
			config, where, problems := decode(n)
			if s.Check != nil && !problems.HasErrors() {
				problems.Append(s.Check(config, where))
			}
			return problems
		},
		Inputs: func(n value.Node) []Input {
			if s.Inputs == nil {
				return nil
			}
			config, where, _ := decode(n)
			return s.Inputs(config, where)
		},
		Title: func(n value.Node) string {
			if s.Title == nil {
				return s.Name
			}
			config, _, _ := decode(n)
			return s.Title(config)
		},
		Outside: func(n value.Node) bool {
			if s.HostExec || s.Outside == nil {
				return s.HostExec
			}
			config, _, _ := decode(n)
			return s.Outside(config)
		},
		New: func(n value.Node) (T, error) {
			config, where, problems := decode(n)
			if s.Check != nil && !problems.HasErrors() {
				problems.Append(s.Check(config, where))
			}
			if err := problems.Err(); err != nil {
				var none T
				return none, err
			}
			return s.New(config)
		},
	}
}

// Find returns the kind with the name. The problem's hint names the near ones.
func Find[T any](kinds []Kind[T], what, name string, pos diag.Pos) (Kind[T], error) {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		if k.Name == name {
			return k, nil
		}
		names[i] = k.Name
	}
	return Kind[T]{}, diag.Problem{Pos: pos, Text: fmt.Sprintf("unknown %s type %q", what, name), Hint: diag.Suggest(name, names)}
}
