package bake_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

type bakery struct {
	Flour string   `key:"flour" doc:"What to bake with." opt:"required"`
	Oven  int      `key:"oven" doc:"Degrees." opt:"default=220"`
	Add   []string `key:"add" doc:"More files."`
}

// kind's component is its own config, as text.
func kind() bake.Kind[string] {
	return bake.Define(bake.Spec[bakery, string]{
		Name: "bread", Doc: "Bakes bread.", Zero: bakery{Oven: 220}, Sources: []string{"flour"}, HostExec: true,
		Needs: []bake.Need{bake.NeedRoot}, Commit: bake.CommitAtEnd,
		Check: func(c bakery, w value.Where) (problems diag.List) {
			if c.Oven > 300 {
				problems.Add(w.At("oven"), "", "%d is too hot", c.Oven)
			}
			return problems
		},
		Inputs: func(c bakery, w value.Where) (inputs []bake.Input) {
			for i, path := range c.Add {
				inputs = append(inputs, bake.Input{Path: path, Pos: w.At("add", i)})
			}
			return inputs
		},
		Title: func(c bakery) string { return "bread of " + c.Flour },
		New:   func(c bakery) (string, error) { return strings.Join(append(c.Add, c.Flour), "+"), nil },
	})
}

func body(members map[string]any) value.Node {
	return value.Of(diag.Pos{File: "t.yaml", Line: 7}, members)
}

func TestDefine(t *testing.T) {
	k := kind()
	if k.Name != "bread" || !k.HostExec || k.Commit != bake.CommitAtEnd || len(k.Needs) != 1 || len(k.Sources) != 1 {
		t.Errorf("facts: %+v", k)
	}
	var keys []string
	for _, f := range k.Fields {
		keys = append(keys, f.Key)
	}
	if diff := cmp.Diff([]string{"flour", "oven", "add"}, keys); diff != "" {
		t.Errorf("fields, -want +got:\n%s", diff)
	}
	good := body(map[string]any{"flour": "rye", "add": []string{"salt"}})
	if problems := k.Check(good); problems != nil {
		t.Errorf("check: %v", problems)
	}
	if got := k.Title(good); got != "bread of rye" {
		t.Errorf("title %q", got)
	}
	want := []bake.Input{{Path: "salt", Pos: diag.Pos{File: "t.yaml", Line: 7}}}
	if diff := cmp.Diff(want, k.Inputs(good)); diff != "" {
		t.Errorf("inputs, -want +got:\n%s", diff)
	}
	if got, err := k.New(good); got != "salt+rye" || err != nil {
		t.Errorf("new: %q, %v", got, err)
	}
}

func TestDefineRefuses(t *testing.T) {
	for name, members := range map[string]map[string]any{
		"missing": nil, "unknown": {"flour": "rye", "flower": 1}, "type": {"flour": "rye", "oven": "hot"}, "own check": {"flour": "rye", "oven": 400},
	} {
		n := body(members)
		if problems := kind().Check(n); len(problems) != 1 {
			t.Errorf("%s: check found %v", name, problems)
		}
		if made, err := kind().New(n); err == nil || made != "" {
			t.Errorf("%s: new made %q, %v", name, made, err)
		}
	}
	if problems := kind().Check(value.Node{}); len(problems) != 1 || !strings.Contains(problems[0].Text, "flour") {
		t.Errorf("no body at all: %v", problems)
	}
}

// The defaults are not shared: decoding one body leaves the next as it was.
func TestDefineDefaultsStay(t *testing.T) {
	k := kind()
	if _, err := k.New(body(map[string]any{"flour": "a", "oven": 100, "add": []string{"x"}})); err != nil {
		t.Fatal(err)
	}
	if got, _ := k.New(body(map[string]any{"flour": "b"})); got != "b" {
		t.Errorf("got %q", got)
	}
}

// A kind may leave out what it does not need.
func TestDefineBare(t *testing.T) {
	k := bake.Define(bake.Spec[struct{}, int]{Name: "bare", New: func(struct{}) (int, error) { return 1, nil }})
	if got := k.Title(value.Node{}); got != "bare" {
		t.Errorf("title %q", got)
	}
	if k.Check(value.Node{}) != nil || k.Inputs(value.Node{}) != nil {
		t.Error("an empty body has problems or inputs")
	}
}

func TestFind(t *testing.T) {
	kinds := []bake.Kind[string]{kind(), {Name: "cake"}}
	if k, err := bake.Find(kinds, "builder", "cake", diag.Pos{}); err != nil || k.Name != "cake" {
		t.Errorf("got %q, %v", k.Name, err)
	}
	pos := diag.Pos{File: "t.yaml", Line: 2, Column: 5}
	for name, hint := range map[string]string{"bred": `did you mean "bread"?`, "qemu": "known: bread, cake"} {
		_, err := bake.Find(kinds, "builder", name, pos)
		var p diag.Problem
		if !errors.As(err, &p) {
			t.Fatalf("%s: got %v", name, err)
		}
		if want := (diag.Problem{Pos: pos, Text: `unknown builder type "` + name + `"`, Hint: hint}); p != want {
			t.Errorf("got %v, want %v", p, want)
		}
	}
}

func TestRenderFields(t *testing.T) {
	data := map[string]string{"BuildName": "web", "Type": "docker"}
	for text, want := range map[string]string{
		"plain": "plain", "{{.BuildName}}-{{ .Type }}.tar": "web-docker.tar", "{{if eq .Type `docker`}}x{{end}}": "x", "}}": "}}",
	} {
		if got, err := bake.RenderFields(text, data); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"{{.BuldName}}": "known: {{.BuildName}}, {{.Type}}", "{{": "{{", "{{nope}}": `"nope" not defined`,
	} {
		if got, err := bake.RenderFields(text, data); err == nil || !strings.Contains(err.Error(), want) || got != "" {
			t.Errorf("%s: got %q, %v, want an error with %q", text, got, err, want)
		}
	}
}
