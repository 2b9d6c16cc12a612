// Package yaml reads imgbake's own template format, imgbake.yaml, into a
// template.Template. It knows the keys of templates, variables and images, and
// the common keys of components; a component's own settings are left to the
// component. Nothing is resolved: strings with "${" become expressions.
//
// Anchors, aliases and merge keys work, within bounds. All problems of a file
// are reported at once, each with its line and column.
package yaml

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Bounds of a template. A file beyond them gets one problem.
const (
	maxSize  = 4 << 20 // bytes
	maxNodes = 500_000 // values, after aliases are expanded
	maxDepth = 100     // values inside values
)

// Parse reads a template. The file name is for positions. The options say what
// expressions may use; env() works in the variables section only, whatever
// they say. The template is usable when no problem is an error.
func Parse(file string, src []byte, o expr.Options) (template.Template, diag.List) {
	t := template.Template{File: file, Format: "imgbake"}
	s, problems := newSource(file, src)
	if problems.HasErrors() {
		return t, problems
	}
	doc, problems := s.document()
	if problems.HasErrors() {
		return t, problems
	}
	root, problems := convert(s, doc, o)
	if problems.HasErrors() && root.V == nil {
		return t, problems
	}
	d := decoder{problems: problems}
	d.template(root, &t)
	d.problems.Sort()
	return t, d.problems
}

// document parses the YAML and returns the one document's value.
func (s *source) document() (*yaml.Node, diag.List) {
	var problems diag.List
	var doc, second yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(s.text))
	err := dec.Decode(&doc)
	if err == nil {
		err = dec.Decode(&second)
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, diag.List{s.syntaxProblem(err)}
	case doc.Kind == 0 || doc.Content[0].ShortTag() == "!!null":
		problems.Add(diag.Pos{File: s.file}, `start with "images:", or let "imgbake init" write a template`, "the template is empty")
	case second.Kind != 0:
		problems.Add(s.at(&second), "put each template into a file of its own", "a template is one YAML document, here starts a second one")
	}
	if problems.HasErrors() {
		return nil, problems
	}
	return doc.Content[0], nil
}

// at is a node's place.
func (s *source) at(n *yaml.Node) diag.Pos {
	return diag.Pos{File: s.file, Line: n.Line, Column: n.Column}
}

// converter makes values of YAML nodes.
type converter struct {
	*source
	lang, envLang *expr.Language // the second one has env()
	variables     bool           // inside the variables section
	nodes, depth  int
	open          map[*yaml.Node]bool // anchored nodes around the current one
	stop          bool                // a bound was reached
	problems      diag.List
}

// convert returns the document as a value. Keys that start with "x-" are
// skipped at the top. The zero Node is returned when a bound was reached.
func convert(s *source, n *yaml.Node, o expr.Options) (value.Node, diag.List) {
	c := converter{source: s, envLang: expr.New(o), open: map[*yaml.Node]bool{}}
	o.Env = nil
	c.lang = expr.New(o)
	root := c.node(n)
	if c.stop {
		return value.Node{}, c.problems[len(c.problems)-1:]
	}
	return root, c.problems
}

func (c *converter) add(n *yaml.Node, hint, format string, args ...any) {
	c.problems.Add(c.at(n), hint, format, args...)
}

// bound ends the conversion with a last problem.
func (c *converter) bound(n *yaml.Node, hint, format string, args ...any) value.Node {
	c.add(n, hint, format, args...)
	c.stop = true
	return value.Node{Pos: c.at(n)}
}

func (c *converter) node(n *yaml.Node) value.Node {
	null := value.Node{Pos: c.at(n)}
	if c.stop {
		return null
	}
	if n.Kind == yaml.AliasNode {
		if c.open[n.Alias] {
			c.add(n, "", "anchor %q contains itself", n.Value)
			return null
		}
		return c.node(n.Alias)
	}
	if c.nodes++; c.nodes > maxNodes {
		return c.bound(n, "aliases count as often as they are used", "the template is too large: more than %d values", maxNodes)
	}
	if c.depth++; c.depth > maxDepth {
		return c.bound(n, "", "the template is nested too deeply: more than %d levels", maxDepth)
	}
	defer func() { c.depth-- }()
	if n.Anchor != "" {
		c.open[n] = true
		defer delete(c.open, n)
	}
	switch n.Kind {
	case yaml.MappingNode:
		if c.tagged(n, "!!map") {
			return value.Node{Pos: c.at(n), V: c.mapping(n)}
		}
	case yaml.SequenceNode:
		if c.tagged(n, "!!seq") {
			return value.Node{Pos: c.at(n), V: c.sequence(n)}
		}
	case yaml.ScalarNode:
		return c.scalar(n)
	}
	return null
}

func (c *converter) tagged(n *yaml.Node, want string) bool {
	if got := n.ShortTag(); got != want {
		c.add(n, "remove the tag", "tag %q is not supported", got)
		return false
	}
	return true
}

func (c *converter) sequence(n *yaml.Node) value.List {
	list := make(value.List, len(n.Content))
	for i, item := range n.Content {
		list[i] = c.node(item)
	}
	return list
}

func (c *converter) mapping(n *yaml.Node) value.Object {
	object := make(value.Object, 0, len(n.Content)/2)
	first := make(map[string]int, len(n.Content)/2) // line of a key
	var merges []*yaml.Node
	top := c.depth == 1
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merges = append(merges, val)
			continue
		}
		name, ok := c.key(key)
		if !ok || top && strings.HasPrefix(name, "x-") {
			continue
		}
		if line, given := first[name]; given {
			c.add(key, fmt.Sprintf("it is given on line %d already", line), "duplicate key %q", name)
			continue
		}
		first[name] = key.Line
		if top {
			c.variables = name == "variables"
		}
		object = append(object, value.Member{Key: name, KeyPos: c.at(key), Node: c.member(name, val)})
	}
	for _, m := range merges {
		object = c.merge(object, m)
	}
	return object
}

// key is a mapping key's text.
func (c *converter) key(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		c.add(n, "quote it if it is meant as text", "a key must be text, not a list or mapping")
	case n.ShortTag() != "!!str":
		c.add(n, fmt.Sprintf("quote it: %q", n.Value), "a key must be text, and %s is none", orNothing(n.Value))
	default:
		return n.Value, true
	}
	return "", false
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// merge adds what "<<" names; keys that are there already win, and so does the
// first of several mappings.
func (c *converter) merge(object value.Object, n *yaml.Node) value.Object {
	merged := c.node(n)
	list, ok := merged.V.(value.List)
	if !ok {
		list = value.List{merged}
	}
	for _, item := range list {
		from, ok := item.V.(value.Object)
		if !ok && !c.stop {
			c.add(n, "", `"<<" takes in mappings, found %s`, value.Describe(item))
			continue
		}
		object = from.Merge(object)
	}
	return object
}

// member is a key's value. The condition of a variable's validation may do
// without "${" and "}".
func (c *converter) member(key string, n *yaml.Node) value.Node {
	target := n
	if n.Kind == yaml.AliasNode {
		target = n.Alias
	}
	if !c.variables || key != "condition" || target.ShortTag() != "!!str" || strings.Contains(target.Value, "${") {
		return c.node(n)
	}
	node, problems := c.envLang.ParseBare(target.Value, c.locator(target))
	c.problems.Append(problems)
	return node
}

func (c *converter) scalar(n *yaml.Node) value.Node {
	node := value.Node{Pos: c.at(n)}
	switch tag := n.ShortTag(); tag {
	case "!!null":
	case "!!bool":
		node.V = strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		node.V = number(n.Value)
	case "!!str", "!!timestamp", "!!merge":
		lang := c.lang
		if c.variables {
			lang = c.envLang
		}
		var problems diag.List
		node, problems = lang.Parse(n.Value, c.locator(n))
		c.problems.Append(problems)
	default:
		c.tagged(n, "!!str")
	}
	return node
}

// number keeps a number's text. What YAML counts as a number but is not in
// plain decimal notation, such as 0755, 0x1f or .inf, stays a string, so that
// nothing is lost where text is wanted.
func number(text string) any {
	if isDecimal(text) {
		return value.Number(text)
	}
	return text
}

// isDecimal reports whether the text is a number as JSON has it.
func isDecimal(text string) bool {
	rest := strings.TrimPrefix(text, "-")
	whole := digits(rest)
	if whole == 0 || whole > 1 && rest[0] == '0' {
		return false
	}
	rest = rest[whole:]
	if fraction, ok := strings.CutPrefix(rest, "."); ok {
		n := digits(fraction)
		if n == 0 {
			return false
		}
		rest = fraction[n:]
	}
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	exponent := strings.TrimLeft(rest[1:], "+-")
	return len(rest)-len(exponent) <= 2 && exponent != "" && digits(exponent) == len(exponent)
}

func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
