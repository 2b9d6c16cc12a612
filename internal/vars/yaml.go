package vars

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// parseYAML reads one YAML document that is a mapping. Aliases are refused: a
// file of values has no use for them, and they can blow it up.
func parseYAML(f File) (value.Object, diag.List) {
	y := yamlFile{name: f.Name}
	d := yaml.NewDecoder(bytes.NewReader(f.Data))
	var document yaml.Node
	if err := d.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) {
			y.problems.Add(diag.Pos{File: f.Name}, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		return nil, y.problems
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		y.problems.Add(diag.Pos{File: f.Name}, "", "more than one YAML document")
	}
	root := y.node(document.Content[0])
	object, ok := root.V.(value.Object)
	if !ok && root.V != nil {
		y.problems.Add(root.Pos, "write one variable a line, name: value", "expected a mapping of variables")
	}
	return object, y.problems
}

type yamlFile struct {
	name     string
	problems diag.List
}

func (y *yamlFile) node(n *yaml.Node) value.Node {
	out := value.Node{Pos: diag.Pos{File: y.name, Line: n.Line, Column: n.Column}}
	switch n.Kind {
	case yaml.AliasNode:
		y.problems.Add(out.Pos, "write the value out", "aliases are not supported in variable files")
	case yaml.SequenceNode:
		list := make(value.List, len(n.Content))
		for i, item := range n.Content {
			list[i] = y.node(item)
		}
		out.V = list
	case yaml.MappingNode:
		out.V = y.object(n)
	default:
		v, err := scalarOf(n)
		if err != nil {
			y.problems.Add(out.Pos, "", "%v", err)
		}
		out.V = v
	}
	return out
}

func (y *yamlFile) object(n *yaml.Node) value.Object {
	out := make(value.Object, 0, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		pos := diag.Pos{File: y.name, Line: key.Line, Column: key.Column}
		switch {
		case key.Kind != yaml.ScalarNode:
			y.problems.Add(pos, "", "a key must be a name")
		case seen[key.Value]:
			y.problems.Add(pos, "", "%q is given twice", key.Value)
		default:
			seen[key.Value] = true
			out = append(out, value.Member{Key: key.Value, KeyPos: pos, Node: y.node(n.Content[i+1])})
		}
	}
	return out
}

func scalarOf(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	case "!!int":
		return integer(n)
	case "!!float":
		return float(n)
	}
	return n.Value, nil
}

func integer(n *yaml.Node) (any, error) {
	var i int64 // takes 0x1F, 0o17 and 1_000 too
	if n.Decode(&i) == nil {
		return value.Number(strconv.FormatInt(i, 10)), nil
	}
	if number.MatchString(n.Value) {
		return value.Number(n.Value), nil
	}
	return nil, fmt.Errorf("a number that is out of range")
}

func float(n *yaml.Node) (any, error) {
	if number.MatchString(n.Value) {
		return value.Number(n.Value), nil
	}
	var f float64
	if err := n.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fmt.Errorf("a number that is not finite")
	}
	return value.Number(strconv.FormatFloat(f, 'f', -1, 64)), nil
}
