package packerjson

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// PackerVersion is the version of Packer whose templates are understood: the
// value of {{packer_version}}, and what min_packer_version is compared with.
const PackerVersion = "1.16.0"

// Format is the Format of the templates that Parse makes.
const Format = "packer-json"

// Options bounds what Parse accepts. The zero value has sensible bounds.
type Options struct {
	MaxBytes int // of the file; 0: 16 MiB
	MaxDepth int // of nested lists and objects; 0: 64
}

func (o Options) maxBytes() int {
	if o.MaxBytes > 0 {
		return o.MaxBytes
	}
	return 16 << 20
}

func (o Options) maxDepth() int {
	if o.MaxDepth > 0 {
		return o.MaxDepth
	}
	return 64
}

// IsPacker reports whether the file is a JSON object with a "builders" key.
// One with mistakes in its syntax counts too, so that Parse can tell of them.
func IsPacker(src []byte) bool {
	root, _, ok := read("", src, Options{})
	object, isObject := root.V.(value.Object)
	_, has := object.Get("builders")
	return has || isObject && !ok && bytes.Contains(src, []byte(`"builders"`))
}

// Parse reads a template. The file is named in places only. With a problem of
// severity error the template is incomplete.
func Parse(file string, src []byte, opts Options) (template.Template, diag.List) {
	p := parser{template: template.Template{File: file, Format: Format}}
	root, problems, ok := read(file, src, opts)
	p.problems = problems
	if object, isObject := root.V.(value.Object); ok && isObject {
		p.root(root.Pos, object)
	}
	p.problems.Sort()
	return p.template, p.problems
}

type parser struct {
	template  template.Template
	image     template.Image
	variables []string // the names declared
	problems  diag.List
}

// rootKeys lists the keys of a template and who reads each, in an order in
// which every reader finds what it needs.
var rootKeys = []struct {
	name string
	read func(*parser, value.Node)
}{
	{"variables", (*parser).readVariables},
	{"sensitive-variables", (*parser).readSensitive},
	{"description", (*parser).readDescription},
	{"min_packer_version", (*parser).readMinVersion},
	{"push", (*parser).readPush},
	{"builders", (*parser).readBuilders},
	{"provisioners", (*parser).readProvisioners},
	{"error-cleanup-provisioner", (*parser).readCleanup},
	{"post-processors", (*parser).readPosts},
}

func (p *parser) root(pos diag.Pos, object value.Object) {
	p.image = template.Image{Pos: pos, Layers: value.Node{Pos: pos, V: "squash"}}
	p.unknownRootKeys(object)
	for _, key := range rootKeys {
		if m, ok := object.Get(key.name); ok {
			key.read(p, m.Node)
		}
	}
	if _, ok := object.Get("builders"); !ok {
		p.problems.Add(pos, `add "builders": [{"type": "docker", ...}]`, "the template has no builders")
	}
	p.template.Images = []template.Image{p.image}
}

func (p *parser) unknownRootKeys(object value.Object) {
	names := make([]string, len(rootKeys))
	for i, key := range rootKeys {
		names[i] = key.name
	}
	for _, m := range object {
		switch {
		case strings.HasPrefix(m.Key, "_"):
			if _, ok := m.V.(text); !ok {
				p.add(m.Node, "", "a comment must be a string, found %s", describe(m.Node))
			}
		case slices.Contains([]string{"packer", "source", "build", "locals"}, m.Key):
			p.problems.Add(m.KeyPos, "this looks like HCL2 in JSON, which has a name ending in .pkr.json", "unknown key %q", m.Key)
		case !slices.Contains(names, m.Key):
			p.problems.Add(m.KeyPos, diag.Suggest(m.Key, names), "unknown key %q", m.Key)
		}
	}
}

func (p *parser) add(n value.Node, hint, format string, args ...any) {
	p.problems.Add(n.Pos, hint, format, args...)
}

func describe(n value.Node) string {
	if n.V == nil {
		return "null"
	}
	return strings.Replace(value.Describe(plain(n)), "a mapping", "an object", 1)
}

// object, list and str give a node's value, or report that it is another type.
func (p *parser) object(n value.Node, what string) (value.Object, bool) {
	object, ok := n.V.(value.Object)
	if !ok {
		p.add(n, "", "%s must be an object, found %s", what, describe(n))
	}
	return object, ok
}

func (p *parser) list(n value.Node, what string) (value.List, bool) {
	list, ok := n.V.(value.List)
	if !ok {
		p.add(n, "write [...]", "%s must be a list, found %s", what, describe(n))
	}
	return list, ok
}

func (p *parser) str(n value.Node, what string) (string, bool) {
	t, ok := n.V.(text)
	if !ok {
		p.add(n, "", "%s must be a string, found %s", what, describe(n))
	}
	return t.s, ok
}

func (p *parser) readDescription(n value.Node) {
	p.template.Description, _ = p.str(n, "description")
}

func (p *parser) readPush(n value.Node) {
	p.problems.Warn(n.Pos, "remove it", "push is ignored: the service it was for is gone")
}

func (p *parser) readVariables(n value.Node) {
	object, _ := p.object(n, "variables")
	p.variables = object.Keys()
	for _, m := range object {
		p.template.Variables = append(p.template.Variables, p.variable(m))
	}
}

func (p *parser) variable(m value.Member) template.Variable {
	v := template.Variable{Name: m.Key, Pos: m.KeyPos, Type: "string"}
	if m.V == nil {
		return v // required
	}
	n := p.interpolate(m.Node, inVariable)
	if s, ok := value.Text(n); ok {
		n.V = s
	} else if _, ok := n.V.(value.Expr); !ok {
		p.add(n, "Packer's variables are strings", "variable %q must be a string, found %s", m.Key, describe(n))
		return v
	}
	v.Default = &n
	return v
}

func (p *parser) readSensitive(n value.Node) {
	list, _ := p.list(n, "sensitive-variables")
	for _, item := range list {
		name, ok := p.str(item, "the name of a sensitive variable")
		i := slices.Index(p.variables, name)
		switch {
		case !ok:
		case i < 0:
			p.add(item, suggestVariable(name, p.variables), "unknown variable %q", name)
		default:
			p.template.Variables[i].Sensitive = true
		}
	}
}

func (p *parser) readMinVersion(n value.Node) {
	s, ok := p.str(n, "min_packer_version")
	if !ok {
		return
	}
	p.template.MinVersion = plain(n)
	least, ok := version(s)
	if !ok {
		p.add(n, fmt.Sprintf("write a version such as %q", PackerVersion), "%q is no version", s)
		return
	}
	if ours, _ := version(PackerVersion); slices.Compare(least, ours) > 0 {
		p.add(n, "", "the template is for Packer %s or later; this program does what Packer %s does", s, PackerVersion)
	}
}

// version reads up to three numbers; what follows a hyphen does not count.
func version(s string) ([]int, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	out := make([]int, 3)
	parts := strings.Split(s, ".")
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || i >= len(out) {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}
