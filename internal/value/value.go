// Package value is the data model of a template's bodies: trees of literals
// and expressions in which every node knows its place in the file.
//
// A front end (YAML, Packer JSON) makes the tree; plan evaluates what is known
// before the run and leaves the rest as expressions; run evaluates those at the
// moment of use; a component decodes the result into its own config struct with
// Decode. The package knows no expression language: a front end brings its own
// by implementing Expr.
package value

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Node is one value and its place.
//
// V holds one of: nil (null), bool, string, Number, List, Object or an Expr.
type Node struct {
	Pos diag.Pos
	V   any
}

// Number is a number as it was written or computed, in decimal notation.
type Number string

// List is an ordered list of nodes.
type List []Node

// Object is an ordered mapping with unique keys.
type Object []Member

// Member is one key of an Object. Pos of the embedded Node is the value's
// place; KeyPos is the key's own.
type Member struct {
	Key    string
	KeyPos diag.Pos
	Node
}

// Expr is an unevaluated expression. Implementations are immutable.
type Expr interface {
	// Source is the expression as the user wrote it.
	Source() string
	// Needs lists the dotted names the expression reads ("var.suite",
	// "build.id"), sorted, each once.
	Needs() []string
	// Eval computes the value. The returned node contains no Expr. A value
	// the scope does not know yields an *UnknownError; other errors are
	// diag problems with their place.
	Eval(Scope) (Node, error)
}

// UnknownError says that an expression needs a name whose value is not known yet.
type UnknownError struct{ Name string }

// Error names what is missing.
func (e *UnknownError) Error() string { return e.Name + " is not known yet" }

// Get returns the member with the key.
func (o Object) Get(key string) (Member, bool) {
	for _, m := range o {
		if m.Key == key {
			return m, true
		}
	}
	return Member{}, false
}

// Keys lists the object's keys in order.
func (o Object) Keys() []string {
	keys := make([]string, len(o))
	for i, m := range o {
		keys[i] = m.Key
	}
	return keys
}

// Without returns the object less the keys named.
func (o Object) Without(keys ...string) Object {
	out := make(Object, 0, len(o))
	for _, m := range o {
		if !slices.Contains(keys, m.Key) {
			out = append(out, m)
		}
	}
	return out
}

// Merge returns the object with the members of over added; a member of over
// replaces one with the same key, in its place.
func (o Object) Merge(over Object) Object {
	out := slices.Clone(o)
	for _, m := range over {
		if i := slices.IndexFunc(out, func(x Member) bool { return x.Key == m.Key }); i >= 0 {
			out[i] = m
		} else {
			out = append(out, m)
		}
	}
	return out
}

// Of makes a node of a plain Go value: nil, bool, string, any integer or float,
// json.Number, Number, []any, []string, map[string]any, map[string]string (keys
// sorted), Node, List or Object. It panics on any other type: that is a bug.
func Of(pos diag.Pos, v any) Node {
	switch v := v.(type) {
	case nil, bool, string, Number, List, Object, Expr:
		return Node{pos, v}
	case Node:
		return v
	case json.Number:
		return Node{pos, Number(v)}
	case int:
		return Node{pos, Number(strconv.Itoa(v))}
	case int64:
		return Node{pos, Number(strconv.FormatInt(v, 10))}
	case float64:
		return Node{pos, Number(strconv.FormatFloat(v, 'f', -1, 64))}
	case []string:
		return listOf(pos, v)
	case []any:
		return listOf(pos, v)
	case map[string]string:
		return objectOf(pos, v)
	case map[string]any:
		return objectOf(pos, v)
	}
	panic(fmt.Sprintf("value.Of: no node for a %T", v))
}

func listOf[T any](pos diag.Pos, items []T) Node {
	list := make(List, len(items))
	for i, item := range items {
		list[i] = Of(pos, item)
	}
	return Node{pos, list}
}

func objectOf[T any](pos diag.Pos, members map[string]T) Node {
	object := make(Object, 0, len(members))
	for _, key := range sortedKeys(members) {
		object = append(object, Member{Key: key, KeyPos: pos, Node: Of(pos, members[key])})
	}
	return Node{pos, object}
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Plain returns the node as plain Go values: nil, bool, string, json.Number,
// []any, map[string]any. An expression becomes its *Late description.
func (n Node) Plain() any {
	switch v := n.V.(type) {
	case Number:
		return json.Number(v)
	case List:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = item.Plain()
		}
		return out
	case Object:
		out := make(map[string]any, len(v))
		for _, m := range v {
			out[m.Key] = m.Plain()
		}
		return out
	case Expr:
		return &Late{Expr: v.Source(), Needs: v.Needs(), Pos: n.Pos}
	}
	return n.V
}

// Late is how an expression that is evaluated during the run looks in a
// printed plan.
type Late struct {
	Expr  string   `json:"expression"`
	Needs []string `json:"needs,omitempty"`
	Pos   diag.Pos `json:"pos,omitzero"`
}

// MarshalJSON writes literals as themselves and expressions as Late. Object
// keys keep the template's order.
func (n Node) MarshalJSON() ([]byte, error) {
	object, ok := n.V.(Object)
	if !ok {
		if list, isList := n.V.(List); isList {
			return json.Marshal([]Node(list))
		}
		return json.Marshal(n.Plain())
	}
	out := []byte{'{'}
	for i, m := range object {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := json.Marshal(m.Key)
		if err != nil {
			return nil, err
		}
		val, err := m.Node.MarshalJSON()
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), val...)
	}
	return append(out, '}'), nil
}

// Needs lists the names that the expressions left in the tree read, sorted,
// each once.
func (n Node) Needs() []string {
	var names []string
	n.walk(func(e Expr) { names = append(names, e.Needs()...) })
	slices.Sort(names)
	return slices.Compact(names)
}

func (n Node) walk(visit func(Expr)) {
	switch v := n.V.(type) {
	case Expr:
		visit(v)
	case List:
		for _, item := range v {
			item.walk(visit)
		}
	case Object:
		for _, m := range v {
			m.walk(visit)
		}
	}
}
