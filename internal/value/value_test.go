package value_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// reads is an expression that is the value of one name.
type reads string

func (r reads) Source() string  { return "${" + string(r) + "}" }
func (r reads) Needs() []string { return []string{string(r)} }
func (r reads) Eval(s value.Scope) (value.Node, error) {
	_, e, ok := s.Lookup(string(r))
	switch {
	case !ok:
		return value.Node{}, errors.New("no such name " + string(r))
	case !e.Known:
		return value.Node{}, &value.UnknownError{Name: string(r)}
	}
	return value.Of(diag.Pos{}, e.Value), nil
}

func at(line int) diag.Pos { return diag.Pos{File: "f", Line: line, Column: 1} }

func object(line int, pairs ...any) value.Node {
	var o value.Object
	for i := 0; i < len(pairs); i += 2 {
		pos := at(line + 1 + i/2)
		o = append(o, value.Member{Key: pairs[i].(string), KeyPos: pos, Node: value.Of(pos, pairs[i+1])})
	}
	return value.Node{Pos: at(line), V: o}
}

type inner struct {
	Path string `key:"path" opt:"required" doc:"Where."`
}

type config struct {
	Name   string            `key:"name" alias:"label" opt:"required"`
	Count  int               `key:"count" opt:"default=3"`
	On     *bool             `key:"on"`
	Wait   time.Duration     `key:"wait"`
	Lines  []string          `key:"lines"`
	Env    map[string]string `key:"env"`
	Mode   string            `key:"mode" opt:"enum=fast|slow"`
	Source string            `key:"source" opt:"known"`
	Inner  inner             `key:"inner"`
	Raw    value.Node        `key:"raw"`
}

func TestDecode(t *testing.T) {
	yes := true
	tests := []struct {
		name     string
		in       value.Node
		want     config
		problems string
	}{
		{
			name: "types convert where nothing is lost",
			in: object(1, "label", value.Number("1.10"), "count", "5", "on", "true", "wait", "1m30s",
				"lines", "one", "env", map[string]any{"A": 1}, "mode", "fast", "inner", map[string]any{"path": "/x"}),
			want: config{Name: "1.10", Count: 5, On: &yes, Wait: 90 * time.Second, Lines: []string{"one"},
				Env: map[string]string{"A": "1"}, Mode: "fast", Inner: inner{"/x"}},
		},
		{
			name:     "every problem at once, each at its place",
			in:       object(1, "nmae", "x", "count", "five", "wait", "soon", "mode", "fsat", "env", []any{}, "inner", map[string]any{}),
			want:     config{Count: 3, Mode: "fsat"},
			problems: "f:1:1: \"name\" is required\nf:2:1: unknown key \"nmae\" (did you mean \"name\"?)\nf:3:1: expected number, found the string \"five\"\nf:4:1: \"soon\" is no duration (write a number with a unit, such as \"90s\" or \"1m30s\")\nf:5:1: \"fsat\" is not one of the values allowed (did you mean \"fast\"?)\nf:6:1: expected a mapping, found a list\nf:7:1: \"path\" is required (Where.)",
		},
		{
			name: "an alias and its key are one",
			in:   object(1, "name", "x", "label", "y"), want: config{Name: "x", Count: 3},
			problems: `f:3:1: "name" is given twice`,
		},
		{
			name: "null is absent",
			in:   object(1, "name", nil), want: config{Count: 3}, problems: `f:1:1: "name" is required`,
		},
		{
			name: "late values leave their field, unless it must be known",
			in:   object(1, "name", reads("var.x"), "lines", []any{"a", value.Node{Pos: at(9), V: reads("var.x")}}, "source", reads("var.x")),
			want: config{Count: 3, Lines: []string{"a", ""}},
			problems: "f:4:1: ${var.x} must be known before the run, it needs var.x " +
				"(use a value that is known before the run: secrets and build.* are not)",
		},
		{name: "no mapping", in: value.Of(at(1), "x"), want: config{Count: 3}, problems: `f:1:1: expected a mapping, found the string "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := config{Count: 3}
			_, problems := value.Decode(tt.in, &got)
			problems.Sort()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if problems.Error() != tt.problems {
				t.Errorf("problems\n%s\nwant\n%s", problems, tt.problems)
			}
		})
	}
}

func TestShortForm(t *testing.T) {
	type short struct {
		Lines []string `key:"lines" opt:"short,known"`
		Other string   `key:"other"`
	}
	for _, in := range []any{"one", []any{"one"}, map[string]any{"lines": "one"}} {
		var got short
		where, problems := value.Decode(value.Of(at(1), in), &got)
		if len(problems) > 0 || !cmp.Equal(got.Lines, []string{"one"}) {
			t.Errorf("%v: %v, %v", in, got, problems)
		}
		if p := where.At("lines"); p != at(1) || !where.Given("lines") {
			t.Errorf("%v: place %v", in, p)
		}
	}
}

func TestWhere(t *testing.T) {
	var c config
	n := object(1, "name", reads("var.x"), "lines", []any{value.Of(at(8), "a"), value.Of(at(9), "b")}, "mode", "fast")
	where, _ := value.Decode(n, &c)
	if got := where.At("lines", 1); got != at(9) {
		t.Errorf("At(lines, 1) = %v", got)
	}
	if got := where.At("nothing"); got != at(1) {
		t.Errorf("the place of what is absent is its parent's: %v", got)
	}
	if got := where.At("mode", 0); got != at(4) {
		t.Errorf("a single value is a list of one: %v", got)
	}
	if !where.Late("name") || where.Late("mode") || where.Late("nothing") {
		t.Error("Late must tell expressions from literals")
	}
	if !where.Given("lines", 0) || where.Given("lines", 2) {
		t.Error("Given must know what the template has")
	}
}

func TestEvalLeavesWhatIsUnknown(t *testing.T) {
	scope := value.Scope{}.With(map[string]value.Entry{
		"var.x": value.Known("X"), "var.secret": {Value: "S", Known: true, Sensitive: true}, "build.id": {},
	})
	n := object(1, "a", reads("var.x"), "b", []any{reads("var.secret"), reads("build.id")}, "c", reads("var.none"))
	planned, problems := value.Eval(n, scope.Plan())
	if want := []string{"build.id", "var.none", "var.secret"}; !cmp.Equal(planned.Needs(), want) {
		t.Errorf("left %v, want %v", planned.Needs(), want)
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Text, "var.none") {
		t.Errorf("problems = %v", problems)
	}
	text, err := json.Marshal(planned)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"a":"X","b":[{"expression":"${var.secret}","needs":["var.secret"],"pos":{"file":"f","line":3,"column":1}},` +
		`{"expression":"${build.id}","needs":["build.id"],"pos":{"file":"f","line":3,"column":1}}],` +
		`"c":{"expression":"${var.none}","needs":["var.none"],"pos":{"file":"f","line":4,"column":1}}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	ready, _ := value.Eval(planned, scope)
	b, _ := ready.V.(value.Object).Get("b")
	if first := b.V.(value.List)[0].V; first != "S" {
		t.Errorf("run must see the secret, got %v", first)
	}
}

func TestScopeLookupFindsTheLongestPrefix(t *testing.T) {
	s := value.Scope{}.With(map[string]value.Entry{"var.db": value.Known(map[string]any{"host": "h"})})
	if entry, _, ok := s.Lookup("var.db.host"); !ok || entry != "var.db" {
		t.Errorf("Lookup = %q, %v", entry, ok)
	}
	if _, _, ok := s.Lookup("var.dbx"); ok {
		t.Error("var.dbx is not var.db")
	}
	if !s.With(map[string]value.Entry{"var.db": {Sensitive: true}}).Sensitive([]string{"var.db.host"}) {
		t.Error("a part of a sensitive value is sensitive")
	}
}

func TestFieldsDescribeTheStruct(t *testing.T) {
	fields := value.Fields(reflect.TypeFor[config]())
	var lines []string
	for _, f := range fields {
		lines = append(lines, f.Key+": "+f.Type)
	}
	want := []string{"name: string", "count: number", "on: bool", "wait: duration", "lines: list of string",
		"env: map of string", "mode: string", "source: string", "inner: object", "raw: any"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if f := fields[8].Fields; len(f) != 1 || f[0].Doc != "Where." || !f[0].Required {
		t.Errorf("inner fields = %+v", f)
	}
	if fields[1].Default != "3" || !fields[7].Known || len(fields[6].Enum) != 2 {
		t.Error("options must be told")
	}
}
