package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// Facts is what a plan needs to know of the world.
type Facts struct {
	Root    string         // the template's folder, absolute: path.root
	Cwd     string         // where imgbake was started: path.cwd
	Time    time.Time      // of the run; every isotime of a run is the same
	UUID    string         // of the run
	Version string         // of imgbake
	Git     map[string]any // sha, short_sha, branch, tag, dirty, as far as they are known
	Epoch   *time.Time     // SOURCE_DATE_EPOCH
	Tags    []string       // what the tag "auto" stands for; none: not known

	// Digest checks a host file or folder that a component reads, and gives what
	// makes its digest, which takes reading it. Nil: the plan has no digests.
	Digest func(bake.Input) (Content, error)

	CI            bool // nobody watches: commands on the host must be permitted
	AllowHostExec bool
}

// gitFacts are the names there are, known or not.
var gitFacts = []string{"sha", "short_sha", "branch", "tag", "dirty"}

// Entries is the facts as expressions read them: path.*, run.*, git.* and
// imgbake.version. Defaults of variables may read them too: vars.Sources.Facts.
func (f Facts) Entries() map[string]value.Entry {
	entries := map[string]value.Entry{
		"path.root":       value.Known(f.Root),
		"path.cwd":        value.Known(f.Cwd),
		"run.time":        value.Known(f.Time.UTC().Format(time.RFC3339Nano)),
		"run.uuid":        value.Known(f.UUID),
		"imgbake.version": value.Known(f.Version),
	}
	for _, name := range gitFacts {
		v, known := f.Git[name]
		entries["git."+name] = value.Entry{Value: v, Known: known}
	}
	return entries
}

// bakeFacts are the names under build and source that are known before the
// run. The others, such as build.ID, come from builders as they work.
func bakeFacts(b *builder) map[string]any {
	facts := map[string]any{
		"build.name": b.name, "build.type": b.typ, "build.image": b.image.tmpl.Name,
		"source.name": b.name, "source.type": b.typ,
	}
	if b.platform != "" {
		facts[platformFact] = b.platform
	}
	return facts
}

// platformFact is what expressions read the platform by, of an image that says
// which it is for.
const platformFact = "build.platform"

// late is the scope's entry for every fact of a builder that is not known yet.
const late = "build"

// perBake reports whether what the nodes hold can differ between bakes of one image.
func perBake(nodes ...value.Node) bool {
	for _, n := range nodes {
		for _, name := range n.Needs() {
			if group, _, _ := strings.Cut(name, "."); group == late || group == "source" {
				return true
			}
		}
	}
	return false
}

// eval evaluates what is known. An expression that needs a fact nobody will
// ever know is a problem; secrets and build.* stay expressions.
func (p *planner) eval(n value.Node, s value.Scope) value.Node {
	out, problems := value.Eval(n, s)
	p.problems.Append(problems)
	p.unknowable(out, s)
	return out
}

func (p *planner) unknowable(n value.Node, s value.Scope) {
	switch v := n.V.(type) {
	case value.Expr:
		for _, name := range v.Needs() {
			entry, e, _ := s.Lookup(name)
			if strings.HasPrefix(entry, "git.") && !e.Known {
				p.problems.Add(n.Pos, "the template is in no git checkout, or in one that does not tell", "%s is not known", entry)
			}
		}
	case value.List:
		for _, item := range v {
			p.unknowable(item, s)
		}
	case value.Object:
		for _, m := range v {
			p.unknowable(m.Node, s)
		}
	}
}

// Secrets lists every text in the scope that must not be shown: sensitive
// variables and what locals make of them.
func Secrets(full value.Scope) []string {
	seen := map[string]bool{}
	for _, name := range full.Names() {
		if _, e, _ := full.Lookup(name); e.Sensitive && e.Known {
			for _, text := range vars.Texts(e.Value) {
				seen[text] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// digests checks a component's inputs, and has a digest for each that is made
// when it is asked for: once, however many components read the file.
func (p *planner) digests(inputs []bake.Input, pos diag.Pos) []Input {
	var out []Input
	for _, in := range inputs {
		if in.Pos.IsZero() {
			in.Pos = pos
		}
		key := fmt.Sprintf("%q", append([]string{in.Path}, in.Exclude...))
		found, done := p.digested[key]
		if !done && p.facts.Digest != nil {
			found = p.newDigested(in)
			p.digested[key] = found
		}
		switch {
		case errors.Is(found.err, fs.ErrNotExist):
			p.problems.Add(in.Pos, "paths are relative to the template's folder", "file %q is not there", in.Path)
		case found.err != nil:
			p.problems.AppendErr(in.Pos, fmt.Errorf("file %q: %w", in.Path, found.err))
		}
		out = append(out, Input{Path: in.Path, Digest: found.digest})
	}
	return out
}

type digested struct {
	digest *Digest
	err    error
}

func (p *planner) newDigested(in bake.Input) digested {
	content, err := p.facts.Digest(in)
	if err != nil {
		return digested{err: err}
	}
	named := func(err error) error {
		if err != nil {
			err = diag.Problem{Pos: in.Pos, Text: fmt.Sprintf("file %q: %v", in.Path, err)}
		}
		return err
	}
	return digested{digest: NewDigest(func() (string, error) {
		text, err := content.Digest()
		return text, named(err)
	}, func() error { return named(content.Still()) })}
}
