package packerjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

var scope = value.Scope{}.With(map[string]value.Entry{
	"var.x":      value.Known("a.b.c"),
	"var.n":      value.Known(5),
	"var.on":     value.Known(true),
	"var.list":   value.Known([]string{"a"}),
	"var.braces": value.Known("{{.Path}}"),
	"var.quotes": value.Known("a\"b`c\n"),
	"var.secret": {Sensitive: true},
	"env.HOME":   value.Known("/root"),
	"build.name": value.Known("web"),
	"build.type": value.Known("docker"),
	"build.ID":   value.Known("0123abcd"),
	"run.time":   value.Known("2024-02-09T15:04:05.5+01:00"),
	"run.uuid":   value.Known("seed"),
	"path.cwd":   value.Known("/work"),
	"path.root":  value.Known("/work/images"),
})

var scopeVariables = []string{"x", "n", "on", "list", "braces", "quotes", "secret", "gone"}

// interpolated reads one string of a template.
func interpolated(s string, where place) (value.Node, diag.List) {
	p := parser{variables: scopeVariables}
	open := diag.Pos{File: "t.json", Line: 1, Column: 1}
	n := p.interpolate(value.Node{Pos: open, V: text{s: s}}, where)
	return n, p.problems
}

func TestFunctions(t *testing.T) {
	tests := []struct{ in, want string }{
		{"{{user `x`}}", "a.b.c"},
		{`{{ user "x" }}`, "a.b.c"},
		{"{{user `n`}}-{{user `on`}}", "5-true"},
		{"{{build_name}}/{{build_type}}/{{build `ID`}}", "web/docker/0123abcd"},
		{"{{isotime}}", "2024-02-09T14:04:05Z"},
		{"{{isotime \"2006-01-02 15.04\"}}", "2024-02-09 14.04"},
		{"{{timestamp}}", "1707487445"},
		{"{{pwd}} {{template_dir}}", "/work /work/images"},
		{"{{packer_version}}", PackerVersion},
		{"{{split `a-b-c` `-` 1}}", "b"},
		{"{{split (user `x`) `.` 2}}", "c"},
		{"{{replace `.` `-` 1 (user `x`)}}", "a-b.c"},
		{"{{user `x` | replace_all `.` ``}}", "abc"},
		{"{{upper (user `x`)}}{{lower `ABC`}}", "A.B.Cabc"},

		{"{{strftime `%Y-%m-%dT%H:%M:%S%z`}}", "2024-02-09T14:04:05+0000"},
		{"{{strftime `%a %A %b %B %h %c`}}", "Fri Friday Feb February Feb Fri Feb  9 14:04:05 2024"},
		{"{{strftime `%C %D %e %F %I %j %k %l`}}", "20 02/09/24  9 2024-02-09 02 040 14  2"},
		{"{{strftime `%p %R %r %T %v %X %x %y %Z`}}", "PM 14:04 02:04:05 PM 14:04:05  9-Feb-2024 14:04:05 02/09/24 24 UTC"},
		{"{{strftime `%G %V %U %W %w %u %s %%`}}", "2024 06 05 06 5 5 1707487445 %"},
		{"{{strftime `a%nb%tc`}}", "a\nb\tc"},

		{"{{printf `%s=%q` `k` (user `x`)}}", `k="a.b.c"`},
		{"{{if eq (user `on`) `true`}}yes{{else}}no{{end}}", "yes"},
		{"{{if and (ne build_name `web`) true}}yes{{else if true}}or{{end}}", "or"},
		{"{{with user `x`}}[{{.}}]{{else}}none{{end}}", "[a.b.c]"},
		{"{{with ``}}[{{.}}]{{else}}none{{end}}", "none"},
		{"{{$y := user `x`}}{{$y}}{{$y}}", "a.b.ca.b.c"},
		{"a {{- user `x` -}} b", "aa.b.cb"},
		{"{{len (user `x`)}} {{slice (user `x`) 2 3}} {{urlquery `a b`}}", "5 b a+b"},
		{"{{/* nothing */}}x", "{{/* nothing */}}x"},
		{"{{user `braces`}}", "{{.Path}}"},
	}
	for _, test := range tests {
		got, err := evaluate(test.in, inStep)
		if err != nil || got != test.want {
			t.Errorf("%s = %q, %v; want %q", test.in, got, err, test.want)
		}
	}
}

func evaluate(s string, where place) (string, error) {
	n, problems := interpolated(s, where)
	if err := problems.Err(); err != nil {
		return "", err
	}
	n, problems = value.Eval(n, scope)
	got, isString := n.V.(string)
	if !isString && problems.Err() == nil {
		return "", fmt.Errorf("not evaluated: %v", n.V)
	}
	return got, problems.Err()
}

func TestEnvironment(t *testing.T) {
	for in, want := range map[string]string{
		"{{env `HOME`}}/x":        "/root/x",
		"{{env `NOT_SET`}}":       "",
		"{{or (env `A`) `none`}}": "none",
	} {
		if got, err := evaluate(in, inVariable); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", in, got, err, want)
		}
	}
}

// What reads data is the component's to render; it gets the facts as texts.
func TestLateParts(t *testing.T) {
	tests := []struct{ in, want string }{
		{"{{ .Vars }} {{.Path}}", "{{ .Vars }} {{.Path}}"},
		{"  {{- .Path -}}  x", "  {{- .Path -}}  x"},
		{"{{user `x`}} {{ .Path }}", "a.b.c {{.Path}}"},
		{"{{if .Sudo}}sudo {{user `x`}}{{end}}", "{{if .Sudo}}sudo {{\"a.b.c\"}}{{end}}"},
		{"{{if eq (user `x`) `a.b.c`}}{{.Path}} {{user `n`}}{{else}}{{.Vars}}{{end}}", "{{.Path}} 5"},
		{"{{printf `%s %s` .Path (user `x`)}}", "{{printf `%s %s` .Path (\"a.b.c\")}}"},
		{"{{printf `%s %s` .Path build_name}}", "{{printf `%s %s` .Path \"web\"}}"},
		{"{{user `x` | printf `%s %s` .Path}}", "{{\"a.b.c\" | printf `%s %s` .Path}}"},
		{"{{user `quotes`}}{{if .P}}{{user `quotes`}}{{end}}", "a\"b`c\n{{if .P}}{{\"a\\\"b`c\\n\"}}{{end}}"},
		{"{{range .Files}}{{.}} {{build_type}}{{end}}", "{{range .Files}}{{.}} {{\"docker\"}}{{end}}"},
		{"{{with user `x`}}{{.}} {{$.Path}}{{end}}", "{{with \"a.b.c\"}}{{.}} {{$.Path}}{{end}}"},
		{"{{with user `x`}}{{.}}{{end}}{{.Path}}", "a.b.c{{.Path}}"},
		{"{{$y := user `x`}}{{$y}} {{.Path}}", "{{$y := \"a.b.c\"}}{{$y}} {{.Path}}"},
		{"{{user `braces`}} {{.Path}}", "{{`{{`}}.Path}} {{.Path}}"},
		{"{{packer_version}}{{if .A}}{{packer_version}}{{end}}", PackerVersion + "{{if .A}}{{\"" + PackerVersion + "\"}}{{end}}"},
		{"{{if .A}}{{isotime `2006`}}{{strftime `%m`}}{{end}}", "{{if .A}}{{\"2024\"}}{{\"02\"}}{{end}}"},
		{"{{`{{`}}.Path}}", "{{.Path}}"},
	}
	for _, test := range tests {
		got, err := evaluate(test.in, inStep)
		if err != nil || got != test.want {
			t.Errorf("%s\n got %q, %v\nwant %q", test.in, got, err, test.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	tests := []struct {
		in   string
		want []string
	}{
		{"{{user `x`}}{{user `n`}}{{user `x`}}", []string{"var.n", "var.x"}},
		{"{{build `ID`}}{{build_name}}{{build_type}}", []string{"build.ID", "build.name", "build.type"}},
		{"{{isotime}}{{timestamp}}{{strftime `%F`}}{{uuid}}", []string{"run.time", "run.uuid"}},
		{"{{pwd}}{{template_dir}}{{packer_version}}", []string{"path.cwd", "path.root"}},
		{"{{if .Path}}{{user `x`}}{{end}}", []string{"var.x"}},
	}
	for _, test := range tests {
		n, problems := interpolated(test.in, inStep)
		if diff := cmp.Diff(test.want, n.Needs()); diff != "" || problems != nil {
			t.Errorf("%s: %v (-want +got)\n%s", test.in, problems, diff)
		}
		if got := n.V.(value.Expr).Source(); got != test.in {
			t.Errorf("source = %q, want %q", got, test.in)
		}
	}
}

func TestUUID(t *testing.T) {
	once, err := evaluate("{{uuid}} {{uuid}}", inStep)
	if err != nil {
		t.Fatal(err)
	}
	one := `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	if !regexp.MustCompile("^" + one + " " + one + "$").MatchString(once) {
		t.Errorf("no UUIDs: %s", once)
	}
	if a, b, _ := strings.Cut(once, " "); a == b {
		t.Errorf("two calls give the same UUID %s", a)
	}
	if again, _ := evaluate("{{uuid}} {{uuid}}", inStep); again != once {
		t.Errorf("evaluated again: %s, want %s", again, once)
	}
}

func TestUnknownStays(t *testing.T) {
	n, _ := interpolated("{{user `x`}}-{{user `secret`}}", inStep)
	_, err := n.V.(value.Expr).Eval(scope)
	var unknown *value.UnknownError
	if !errors.As(err, &unknown) || unknown.Name != "var.secret" {
		t.Errorf("err = %v, want var.secret unknown", err)
	}
}

func TestEvaluationProblems(t *testing.T) {
	tests := []struct{ in, want string }{
		{"a {{user `gone`}}", `t.json:1:11: unknown variable "gone" (known: braces, list, n, on, quotes, secret, x)`},
		{"{{build `Id`}}", `t.json:1:10: this build has no "Id" (did you mean "ID"?)`},
		{"{{build `ID`}}{{user `list`}}", "t.json:1:23: var.list is a list or a mapping, not a text"},
		{"ü\n{{split (user `x`) `.` 7}}", `t.json:1:6: no part 7: the text has 3 when split at "."`},
		{"{{slice (user `x`) 1 9}}", "t.json:1:4: index out of range: 9"},
	}
	for _, test := range tests {
		_, err := evaluate(test.in, inStep)
		if err == nil || err.Error() != test.want {
			t.Errorf("%q\n got %v\nwant %s", test.in, err, test.want)
		}
	}
}

// A fact that nobody provides is a problem, not something that stays open.
func TestMissingFacts(t *testing.T) {
	n, _ := interpolated("{{isotime}} {{pwd}}", inStep)
	_, problems := value.Eval(n, value.Scope{})
	if len(problems) != 2 || problems[0].Text != "run.time is not known here" {
		t.Errorf("problems = %v", problems)
	}
	broken := value.Scope{}.With(map[string]value.Entry{"run.time": value.Known("noon")})
	for _, in := range []string{"{{isotime}}", "{{if .X}}{{isotime}}{{end}}"} {
		n, _ := interpolated(in, inStep)
		if _, problems := value.Eval(n, broken); len(problems) != 1 {
			t.Errorf("%s with a bad time: problems = %v", in, problems)
		}
	}
}

func TestFactsInMaps(t *testing.T) {
	s := value.Scope{}.With(map[string]value.Entry{
		"build": value.Known(map[string]string{"ID": "1"}),
		"var":   value.Known(map[string]any{"x": 2}),
		"env":   value.Known(map[string]string{}),
	})
	for in, want := range map[string]any{"{{build `ID`}}{{user `x`}}": "12", "{{build `No`}}": nil} {
		n, _ := interpolated(in, inStep)
		got, problems := value.Eval(n, s)
		if want == nil {
			if len(problems) != 1 {
				t.Errorf("%s: problems = %v, want one", in, problems)
			}
		} else if got.V != want {
			t.Errorf("%s = %v, %v; want %v", in, got.V, problems, want)
		}
	}
}

func TestBounds(t *testing.T) {
	long := "{{isotime}}" + strings.Repeat("x", maxTemplate)
	if _, problems := interpolated(long, inStep); len(problems) != 1 {
		t.Errorf("long template: problems = %v", problems)
	}
	if n, problems := interpolated(strings.Repeat("x", maxTemplate+1), inStep); len(problems) != 0 || n.V == nil {
		t.Errorf("long text without actions: problems = %v", problems)
	}
	big := value.Scope{}.With(map[string]value.Entry{"var.x": value.Known(strings.Repeat("x", maxOutput))})
	n, _ := interpolated("{{user `x`}}y", inStep)
	if _, problems := value.Eval(n, big); len(problems) != 1 || !strings.Contains(problems[0].Text, "more than 4194304 bytes") {
		t.Errorf("large output: problems = %v", problems)
	}
	many := strings.Repeat("{{if .X}}", 10000)
	if _, problems := interpolated(many, inStep); len(problems) != 1 {
		t.Errorf("deep blocks: problems = %v", problems)
	}
}

// An error while evaluating says nothing about the values.
func TestErrorsHideValues(t *testing.T) {
	s := value.Scope{}.With(map[string]value.Entry{"var.x": {Value: "hunter2-s3cr3t", Known: true, Sensitive: true}})
	for _, in := range []string{
		"{{split (user `x`) `,` 3}}", "{{index (user `x`) `a`}}", "{{(user `x`).Field}}",
		"{{slice (user `x`) 99}}", "{{split `a` `a` (user `x`)}}", "{{eq (user `x`) 5}}",
		"{{user `x` | replace `a` `b` `c`}}", "{{(user `x`).Field}} {{.Path}}", "{{call (user `x`)}}",
	} {
		n, problems := interpolated(in, inStep)
		_, more := value.Eval(n, s)
		problems.Append(more)
		if !problems.HasErrors() {
			t.Errorf("%s: no problem", in)
		}
		if strings.Contains(problems.Error(), "hunter2") {
			t.Errorf("%s: %v", in, problems)
		}
	}
}

func TestLateJSON(t *testing.T) {
	n, _ := interpolated("{{user `secret`}}", inStep)
	n, _ = value.Eval(n, scope)
	got, err := json.Marshal(n)
	want := "{\"expression\":\"{{user `secret`}}\",\"needs\":[\"var.secret\"],\"pos\":{\"file\":\"t.json\",\"line\":1,\"column\":1}}"
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}
