package vars

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// types are the types a variable may declare, with the words for messages.
var types = map[string]string{
	"": "a value", "string": "a string", "number": "a number", "bool": "true or false", "list": "a list", "map": "a mapping",
}

func typeNames() []string {
	names := slices.Sorted(maps.Keys(types))
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// typed is the candidate's value as the declared type.
func (c candidate) typed(typ string) (value.Node, error) {
	n := c.node
	if text, ok := n.V.(string); ok && c.isText && (typ == "list" || typ == "map") {
		parsed, err := parseText(text)
		if err != nil {
			return n, fmt.Errorf("expected %s: %w", types[typ], err)
		}
		n = parsed
	}
	out, ok := convert(n, typ)
	if !ok {
		return n, fmt.Errorf("expected %s, found %s", types[typ], value.Describe(n))
	}
	return out, nil
}

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$`)

// convert changes a scalar to the declared type where nothing is lost. Null is
// a value of every type.
func convert(n value.Node, typ string) (value.Node, bool) {
	ok := true
	switch {
	case n.V == nil || typ == "":
	case typ == "list":
		_, ok = n.V.(value.List)
	case typ == "map":
		_, ok = n.V.(value.Object)
	default:
		var text string
		if text, ok = value.Text(n); ok {
			n.V, ok = scalar(text, typ)
		}
	}
	return n, ok
}

func scalar(text, typ string) (any, bool) {
	switch typ {
	case "number":
		return value.Number(text), number.MatchString(text)
	case "bool":
		b, err := strconv.ParseBool(text)
		return b, err == nil
	}
	return text, true
}

// parseText reads a list or map given as text: JSON, or an HCL expression of literals.
func parseText(text string) (value.Node, error) {
	if err := checkBounds(text, maxHCL); err != nil {
		return value.Node{}, err
	}
	if json.Valid([]byte(text)) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var plain any
		if err := d.Decode(&plain); err != nil {
			return value.Node{}, err
		}
		return value.Of(diag.Pos{}, plain), checkNumbers(plain)
	}
	expr, problems := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if problems.HasErrors() {
		return value.Node{}, fmt.Errorf("neither JSON nor an HCL expression: %s", lowerFirst(problems[0].Summary))
	}
	v, problems := expr.Value(nil)
	if problems.HasErrors() {
		return value.Node{}, fmt.Errorf("an expression of literals only: %s", lowerFirst(problems[0].Summary))
	}
	return fromCty(diag.Pos{}, v)
}

// checkNumbers refuses numbers that decimal notation has no room for.
func checkNumbers(plain any) error {
	var bad error
	switch v := plain.(type) {
	case json.Number:
		if !number.MatchString(string(v)) {
			return fmt.Errorf("the number %.20s is too large or too small", v)
		}
	case []any:
		for _, item := range v {
			bad = cmp.Or(bad, checkNumbers(item))
		}
	case map[string]any:
		for _, item := range v {
			bad = cmp.Or(bad, checkNumbers(item))
		}
	}
	return bad
}

// fromCty makes a node of a cty value, at one place.
func fromCty(pos diag.Pos, v cty.Value) (value.Node, error) {
	switch {
	case !v.IsKnown():
		return value.Node{}, fmt.Errorf("the value is not known")
	case v.IsNull():
		return value.Node{Pos: pos}, nil
	case v.Type() == cty.String:
		return value.Node{Pos: pos, V: v.AsString()}, nil
	case v.Type() == cty.Bool:
		return value.Node{Pos: pos, V: v.True()}, nil
	case v.Type() == cty.Number:
		return fromNumber(pos, v.AsBigFloat())
	case v.Type().IsObjectType() || v.Type().IsMapType():
		return fromObject(pos, v)
	case v.CanIterateElements():
		return fromList(pos, v)
	}
	return value.Node{}, fmt.Errorf("a value of type %s", v.Type().FriendlyName())
}

// maxExponent bounds how long a number can get in decimal notation.
const maxExponent = 4096

func fromNumber(pos diag.Pos, f *big.Float) (value.Node, error) {
	if f.IsInf() || f.MantExp(nil) > maxExponent || f.MantExp(nil) < -maxExponent {
		return value.Node{}, fmt.Errorf("the number is too large or too small")
	}
	return value.Node{Pos: pos, V: value.Number(f.Text('f', -1))}, nil
}

func fromObject(pos diag.Pos, v cty.Value) (value.Node, error) {
	members := v.AsValueMap()
	out := make(value.Object, 0, len(members))
	for _, key := range slices.Sorted(maps.Keys(members)) {
		n, err := fromCty(pos, members[key])
		if err != nil {
			return n, err
		}
		out = append(out, value.Member{Key: key, KeyPos: pos, Node: n})
	}
	return value.Node{Pos: pos, V: out}, nil
}

func fromList(pos diag.Pos, v cty.Value) (value.Node, error) {
	out := value.List{}
	for _, item := range v.AsValueSlice() {
		n, err := fromCty(pos, item)
		if err != nil {
			return n, err
		}
		out = append(out, n)
	}
	return value.Node{Pos: pos, V: out}, nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
