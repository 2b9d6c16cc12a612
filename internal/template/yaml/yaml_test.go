package yaml_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
	"github.com/imgbake/imgbake-action/internal/value"
)

// TestTemplate compares a template that has everything with what it reads as.
func TestTemplate(t *testing.T) {
	const file = "testdata/template.txt"
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env := func(string) (string, bool) { return "amd64", true }
	tmpl, problems := yaml.Parse("imgbake.yaml", a.Files[0].Data, expr.Options{Env: env})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(tmpl, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(compact(got), '\n')
	if *update {
		a.Files = []txtar.File{a.Files[0], {Name: "template.json", Data: got}}
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(a.Files[1].Data), string(got)); diff != "" {
		t.Errorf("template (-want +got):\n%s", diff)
	}
}

var place = regexp.MustCompile(`\{\s*"line": (\d+),\s*"column": (\d+)\s*\}`)

// compact puts each place on one line.
func compact(in []byte) []byte {
	for _, r := range [][2]string{{`"file": "imgbake.yaml",`, ``}} {
		in = bytes.ReplaceAll(in, []byte(r[0]), []byte(r[1]))
	}
	return place.ReplaceAll(in, []byte(`"$1:$2"`))
}

func TestNumbersKeepTheirText(t *testing.T) {
	for _, tt := range []struct {
		text string
		want any
	}{
		{"1.10", value.Number("1.10")},
		{"-3", value.Number("-3")},
		{"1e3", value.Number("1e3")},
		{"1E-3", value.Number("1E-3")},
		{"0.5", value.Number("0.5")},
		{"0", value.Number("0")},
		{"0755", "0755"},
		{"0x1f", "0x1f"},
		{"0o17", "0o17"},
		{"1_000", "1_000"},
		{".5", ".5"},
		{"+1", "+1"},
		{"5.", "5."},
		{".inf", ".inf"},
		{".nan", ".nan"},
		{"2024-01-02", "2024-01-02"},
		{"12:30", "12:30"},
		{"yes", "yes"},
		{"on", "on"},
		{"NO", "NO"},
		{"True", true},
		{"false", false},
		{"~", nil},
		{"'1'", "1"},
		{"!!str 1", "1"},
		{"<<", "<<"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			tmpl, problems := yaml.Parse("f", []byte("locals: {v: ["+tt.text+"]}\nimages: {a: {builders: b}}"), expr.Options{})
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			if got := tmpl.Locals[0].Value.V.(value.List)[0].V; got != tt.want {
				t.Errorf("value of %s = %#v, want %#v", tt.text, got, tt.want)
			}
		})
	}
}

// TestMerge: what stands in the mapping wins, then the first one merged.
func TestMerge(t *testing.T) {
	const src = `
x-a: &a {one: a, two: a}
x-b: &b {<<: *a, two: b, three: b}
locals:
  v: {<<: [*b, {three: c, four: c}], one: own}
images: {i: {builders: docker}}`
	tmpl, problems := yaml.Parse("f", []byte(src), expr.Options{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"one": "own", "two": "b", "three": "b", "four": "c"}
	if diff := cmp.Diff(want, tmpl.Locals[0].Value.Plain()); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// TestStarterTemplates: the templates people copy are right.
func TestStarterTemplates(t *testing.T) {
	files, err := filepath.Glob("../../../templates/*/imgbake.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := yaml.Parse(file, src, expr.Options{}); len(problems) > 0 {
			t.Error(problems)
		}
	}
}

// TestCommonKeys: the keys the decoder splits off are those that plan reads.
func TestCommonKeys(t *testing.T) {
	tmpl, problems := yaml.Parse("f", []byte(`
images:
  a:
    builders: docker
    provisioners: [{x: {`+allKeys[plan.StepCommon]()+`}}]
    post_processors: [{x: {`+allKeys[plan.PostCommon]()+`}}]`), expr.Options{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]template.Component{
		"provisioner":    tmpl.Images[0].Provisioners[0].Component,
		"post-processor": tmpl.Images[0].Posts[0][0].Component,
	} {
		if left := c.Body.V.(value.Object).Keys(); len(left) > 0 {
			t.Errorf("common keys left in the settings of a %s: %v", what, left)
		}
	}
}

func allKeys[T any]() string {
	var keys string
	for _, f := range value.Fields(reflect.TypeFor[T]()) {
		keys += f.Key + ": x, "
	}
	return keys
}

func TestReferenceHasDocs(t *testing.T) {
	keys := yaml.Reference()
	for _, fields := range [][]value.Field{keys.Template, keys.Variable, keys.Image} {
		if len(fields) == 0 {
			t.Error("no keys")
		}
		for _, f := range fields {
			if f.Doc == "" {
				t.Errorf("key %q has no doc", f.Key)
			}
		}
	}
}

// TestRequired: a variable without a default is required, one whose default
// is null is not.
func TestRequired(t *testing.T) {
	const src = `
variables: {a: , b: {}, c: {required: true}, d: {default: ~}, e: {required: false}, f: x, g: [x]}
images: {i: {builders: docker}}`
	tmpl, problems := yaml.Parse("f", []byte(src), expr.Options{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, v := range tmpl.Variables {
		got[v.Name] = v.Default == nil
	}
	want := map[string]bool{"a": true, "b": true, "c": true, "d": false, "e": false, "f": false, "g": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("required (-want +got):\n%s", diff)
	}
}
