package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// ref is one use of a name in an expression's source.
type ref struct {
	name   string
	offset int
}

// references lists the names the tree reads from its scope; names bound by a
// "for" inside it are not among them.
func references(tree hclsyntax.Expression) []ref {
	var refs []ref
	types := typeArguments(tree)
	for _, t := range tree.Variables() {
		if within(types, t.SourceRange()) {
			continue
		}
		refs = append(refs, ref{dotted(t), t.SourceRange().Start.Byte})
	}
	return refs
}

// typeArguments are the places where words such as list(string) are types:
// the second argument of convert.
func typeArguments(tree hclsyntax.Node) []hcl.Range {
	var ranges []hcl.Range
	_ = hclsyntax.VisitAll(tree, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && call.Name == "convert" && len(call.Args) == 2 {
			ranges = append(ranges, call.Args[1].Range())
		}
		return nil
	})
	return ranges
}

func within(ranges []hcl.Range, r hcl.Range) bool {
	return slices.ContainsFunc(ranges, func(outer hcl.Range) bool {
		return outer.Start.Byte <= r.Start.Byte && r.End.Byte <= outer.End.Byte
	})
}

// dotted renders a traversal up to its first index that is not a name.
func dotted(t hcl.Traversal) string {
	parts := []string{t.RootName()}
	for _, step := range t[1:] {
		name := ""
		switch s := step.(type) {
		case hcl.TraverseAttr:
			name = s.Name
		case hcl.TraverseIndex:
			if s.Key.Type() == cty.String && IsName(s.Key.AsString()) {
				name = s.Key.AsString()
			}
		}
		if name == "" {
			break
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ".")
}

func names(refs []ref) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.name
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// variables gathers the values of the names needed. Names that do not exist
// come before names not known yet: they are wrong whatever happens later.
func (e *expression) variables(s value.Scope) (map[string]cty.Value, error) {
	var problems diag.List
	var unknown error
	root := cty.EmptyObjectVal
	for _, r := range e.refs {
		entry, found, ok := s.Lookup(r.name)
		switch {
		case !ok:
			problems = append(problems, missing(r, s, e.at(r.offset)))
		case !found.Known:
			unknown = &value.UnknownError{Name: r.name}
		default:
			v, err := toCty(value.Of(diag.Pos{}, found.Value))
			if err != nil {
				unknown = err
				continue
			}
			root = set(root, strings.Split(entry, "."), v)
		}
	}
	if problems.HasErrors() {
		return nil, problems
	}
	return root.AsValueMap(), unknown
}

// set returns the object with the value put at the path.
func set(in cty.Value, path []string, v cty.Value) cty.Value {
	if len(path) == 0 {
		return v
	}
	attrs := map[string]cty.Value{}
	if in != cty.NilVal && in.Type().IsObjectType() && !in.IsNull() {
		maps.Copy(attrs, in.AsValueMap())
	}
	attrs[path[0]] = set(attrs[path[0]], path[1:], v)
	return cty.ObjectVal(attrs)
}

// missing says that a name is not in the scope, and what was meant perhaps.
func missing(r ref, s value.Scope, pos diag.Pos) diag.Problem {
	group, _, dotted := strings.Cut(r.name, ".")
	var groups, siblings []string
	for _, name := range s.Names() {
		g, _, _ := strings.Cut(name, ".")
		groups = append(groups, g)
		if g == group {
			siblings = append(siblings, name)
		}
	}
	switch {
	case len(siblings) > 0 && !dotted:
		return diag.Problem{Pos: pos, Text: fmt.Sprintf("%q is a group of names, not a value", group),
			Hint: "name one of them: " + strings.Join(siblings, ", ")}
	case len(siblings) > 0:
		return diag.Problem{Pos: pos, Text: fmt.Sprintf("unknown name %q", r.name), Hint: diag.Suggest(r.name, siblings)}
	case !dotted:
		return diag.Problem{Pos: pos, Text: fmt.Sprintf("unknown name %q", r.name),
			Hint: fmt.Sprintf("write $${%s} to leave it to the shell, or var.%s for a variable of the template", r.name, r.name)}
	case group == "var" || group == "local":
		return diag.Problem{Pos: pos, Text: fmt.Sprintf("unknown name %q", r.name), Hint: "the template declares none"}
	}
	return diag.Problem{Pos: pos, Text: fmt.Sprintf("unknown name %q", r.name), Hint: diag.Suggest(group, groups)}
}

// toCty converts a node without losing text: a number that is not written the
// way it would be printed, such as 1.10, travels as a string, which HCL turns
// into a number where one is needed.
func toCty(n value.Node) (cty.Value, error) {
	switch v := n.V.(type) {
	case nil:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case bool:
		return cty.BoolVal(v), nil
	case string:
		return cty.StringVal(v), nil
	case value.Number:
		number, err := cty.ParseNumberVal(string(v))
		if err != nil || numberText(number) != string(v) {
			return cty.StringVal(string(v)), nil
		}
		return number, nil
	case value.List:
		items := make([]cty.Value, len(v))
		for i, item := range v {
			var err error
			if items[i], err = toCty(item); err != nil {
				return cty.NilVal, err
			}
		}
		return cty.TupleVal(items), nil
	case value.Object:
		attrs := make(map[string]cty.Value, len(v))
		for _, m := range v {
			var err error
			if attrs[m.Key], err = toCty(m.Node); err != nil {
				return cty.NilVal, err
			}
		}
		return cty.ObjectVal(attrs), nil
	case value.Expr:
		return cty.NilVal, &value.UnknownError{Name: strings.Join(v.Needs(), ", ")}
	}
	return cty.NilVal, errNoPlainValue
}

func numberText(v cty.Value) string {
	text, err := convert.Convert(v, cty.String)
	if err != nil {
		return ""
	}
	return text.AsString()
}

// fromCty converts a result; every node of it has the expression's place.
func fromCty(pos diag.Pos, v cty.Value) (value.Node, error) {
	if !v.IsKnown() {
		return value.Node{}, errNoPlainValue
	}
	t := v.Type()
	switch {
	case v.IsNull():
		return value.Node{Pos: pos}, nil
	case t == cty.String:
		return value.Node{Pos: pos, V: v.AsString()}, nil
	case t == cty.Bool:
		return value.Node{Pos: pos, V: v.True()}, nil
	case t == cty.Number:
		return value.Node{Pos: pos, V: value.Number(numberText(v))}, nil
	case t.IsObjectType() || t.IsMapType():
		return objectFromCty(pos, v)
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		return listFromCty(pos, v)
	}
	return value.Node{}, errNoPlainValue
}

func listFromCty(pos diag.Pos, v cty.Value) (value.Node, error) {
	list := make(value.List, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, item := it.Element()
		node, err := fromCty(pos, item)
		if err != nil {
			return value.Node{}, err
		}
		list = append(list, node)
	}
	return value.Node{Pos: pos, V: list}, nil
}

func objectFromCty(pos diag.Pos, v cty.Value) (value.Node, error) {
	object := make(value.Object, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		key, item := it.Element()
		node, err := fromCty(pos, item)
		if err != nil {
			return value.Node{}, err
		}
		object = append(object, value.Member{Key: key.AsString(), KeyPos: pos, Node: node})
	}
	return value.Node{Pos: pos, V: object}, nil
}
