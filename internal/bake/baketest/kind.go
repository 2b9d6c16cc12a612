package baketest

import (
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Body makes a component's body of plain data; everything is at one place.
func Body(body map[string]any) value.Node {
	return value.Of(diag.Pos{File: "suite.yaml", Line: 3, Column: 5}, body)
}

// Documented checks that a kind has a name, a text, an example, and a sentence
// for every key.
func Documented[T any](t *testing.T, kind bake.Kind[T]) {
	t.Helper()
	if kind.Name == "" || kind.Doc == "" || !strings.Contains(kind.Example, kind.Name) {
		t.Errorf("name, doc or example is missing: %q, %q, %q", kind.Name, kind.Doc, kind.Example)
	}
	var walk func([]value.Field)
	walk = func(fields []value.Field) {
		for _, f := range fields {
			if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") {
				t.Errorf("key %s: the doc is no sentence: %q", f.Key, f.Doc)
			}
			walk(f.Fields)
		}
	}
	walk(kind.Fields)
}

// Refuses checks that a body has problems, each with a place, and that no
// component is made of it.
func Refuses[T any](t *testing.T, kind bake.Kind[T], body map[string]any) {
	t.Helper()
	n := Body(body)
	problems := kind.Check(n)
	if !problems.HasErrors() {
		t.Error("check: found no problem")
	}
	for _, p := range problems {
		if p.Pos.File != "suite.yaml" {
			t.Errorf("a problem without a place: %v", p)
		}
	}
	if _, err := kind.New(n); err == nil {
		t.Error("new: got no error")
	}
}
