package value

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Scope is what expressions can read: dotted names and their values.
// The zero Scope is empty; With makes a larger one. A Scope is immutable.
type Scope struct {
	entries map[string]Entry
}

// Entry is one name's value. Value is plain Go data as Of takes it. An entry
// that is not Known exists but has no value yet. A Sensitive one must never
// become part of a plan.
type Entry struct {
	Value     any
	Known     bool
	Sensitive bool
}

// Known makes an entry for a value that may be shown.
func Known(v any) Entry { return Entry{Value: v, Known: true} }

// With returns a scope that also holds the entries given; they win over
// entries of the same name.
func (s Scope) With(entries map[string]Entry) Scope {
	all := make(map[string]Entry, len(s.entries)+len(entries))
	maps.Copy(all, s.entries)
	maps.Copy(all, entries)
	return Scope{all}
}

// Lookup finds a name. For a dotted name longer than any entry
// ("var.db.host"), the longest entry that is its prefix ("var.db") is found.
func (s Scope) Lookup(name string) (entry string, e Entry, ok bool) {
	for entry = name; ; {
		if e, ok = s.entries[entry]; ok {
			return entry, e, true
		}
		dot := strings.LastIndexByte(entry, '.')
		if dot < 0 {
			return "", Entry{}, false
		}
		entry = entry[:dot]
	}
}

// Names lists every name in the scope, sorted.
func (s Scope) Names() []string { return slices.Sorted(maps.Keys(s.entries)) }

// Plan returns the scope as a plan may see it: sensitive values are unknown.
func (s Scope) Plan() Scope {
	all := make(map[string]Entry, len(s.entries))
	for name, e := range s.entries {
		if e.Sensitive {
			e.Known, e.Value = false, nil
		}
		all[name] = e
	}
	return Scope{all}
}

// Sensitive reports whether any of the names is a sensitive entry.
func (s Scope) Sensitive(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, e, ok := s.Lookup(name)
		return ok && e.Sensitive
	})
}

// Eval replaces every expression in the tree whose names are all known with
// its value; an expression that needs an unknown name stays. Problems of all
// expressions are collected.
func Eval(n Node, s Scope) (Node, diag.List) {
	var problems diag.List
	out := eval(n, s, &problems)
	return out, problems
}

func eval(n Node, s Scope, problems *diag.List) Node {
	switch v := n.V.(type) {
	case Expr:
		result, err := v.Eval(s)
		var unknown *UnknownError
		switch {
		case errors.As(err, &unknown):
			return n
		case err != nil:
			problems.AppendErr(n.Pos, err)
			return n
		}
		result.Pos = n.Pos
		return result
	case List:
		out := make(List, len(v))
		for i, item := range v {
			out[i] = eval(item, s, problems)
		}
		return Node{n.Pos, out}
	case Object:
		out := make(Object, len(v))
		for i, m := range v {
			m.Node = eval(m.Node, s, problems)
			out[i] = m
		}
		return Node{n.Pos, out}
	}
	return n
}
