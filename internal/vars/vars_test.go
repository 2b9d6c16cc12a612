package vars_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// decl declares a variable at line n of t.yaml.
func decl(n int, name string, change ...func(*template.Variable)) template.Variable {
	v := template.Variable{Name: name, Pos: diag.Pos{File: "t.yaml", Line: n, Column: 3}}
	for _, c := range change {
		c(&v)
	}
	return v
}

func def(v any) func(*template.Variable) {
	return func(d *template.Variable) { d.Default = lit(d.Pos.Line, v) }
}

func typ(name string) func(*template.Variable) { return func(d *template.Variable) { d.Type = name } }

func env(names ...string) func(*template.Variable) {
	return func(d *template.Variable) { d.Env = names }
}

func choices(c ...string) func(*template.Variable) {
	return func(d *template.Variable) { d.Choices = c }
}

func sensitive(d *template.Variable) { d.Sensitive = true }

func rule(condition value.Node, message string) func(*template.Variable) {
	return func(d *template.Variable) {
		d.Validations = append(d.Validations, template.Validation{Pos: condition.Pos, Condition: condition, Message: message})
	}
}

// show is a result as lines: name = value (source, where).
func show(r vars.Resolved) string {
	var b strings.Builder
	for _, v := range r.Variables {
		text, _ := json.Marshal(v.Value)
		if !v.Known {
			text = []byte("?")
		}
		fmt.Fprintf(&b, "%s = %s (%s)", v.Name, text, v.Source)
		if v.Sensitive {
			b.WriteString(" sensitive")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func problems(l diag.List) string {
	var b strings.Builder
	for _, p := range l {
		fmt.Fprintf(&b, "%s: %s\n", p.Severity, p.Error())
	}
	return b.String()
}

func TestPrecedence(t *testing.T) {
	decls := []template.Variable{decl(1, "x", def("default"), env("APP_X", "OLD_X"))}
	all := vars.Sources{
		Flags:   []string{"x=flag1", "x=flag=2"},
		Inputs:  map[string]string{"x": "input"},
		Environ: []string{"APP_X=app", "OLD_X=old", "PKR_VAR_x=packer", "IMGBAKE_VAR_x=ours"},
		Files: []vars.File{
			{Name: "given.json", Data: []byte(`{"x":"given"}`)},
			{Name: "b.auto.imgbakevars.yaml", Data: []byte("x: auto"), Auto: true},
		},
	}
	steps := []struct {
		want string
		drop func(*vars.Sources)
	}{
		{"flag=2 (flag)", func(s *vars.Sources) { s.Flags = nil }},
		{"input (workflow input)", func(s *vars.Sources) { s.Inputs = map[string]string{"x": ""} }},
		{"ours (environment IMGBAKE_VAR_x)", func(s *vars.Sources) { s.Environ = s.Environ[:3] }},
		{"packer (environment PKR_VAR_x)", func(s *vars.Sources) { s.Environ = s.Environ[:2] }},
		{"app (environment APP_X)", func(s *vars.Sources) { s.Environ = []string{"APP_X=", "OLD_X=old"} }},
		{"old (environment OLD_X)", func(s *vars.Sources) { s.Environ = nil }},
		{"given (file given.json)", func(s *vars.Sources) { s.Files = s.Files[1:] }},
		{"auto (file b.auto.imgbakevars.yaml)", func(s *vars.Sources) { s.Files = nil }},
		{"default (default)", func(*vars.Sources) {}},
	}
	for _, step := range steps {
		r, found := vars.Resolve(decls, all)
		v := r.Variables[0]
		if got := fmt.Sprintf("%v (%s)", v.Value, v.Source); got != step.want || len(found) > 0 {
			t.Errorf("got %s %v, want %s", got, found, step.want)
		}
		if isDefault := v.Source == "default"; v.IsDefault != isDefault {
			t.Errorf("%s: IsDefault = %v", v.Source, v.IsDefault)
		}
		step.drop(&all)
	}
}

func TestTypes(t *testing.T) {
	tests := []struct{ typ, text, want string }{
		{"", "5", `"5"`},
		{"string", "true", `"true"`},
		{"number", "5", `5`},
		{"number", "-1.50e3", `-1.50e3`},
		{"bool", "true", `true`},
		{"bool", "0", `false`},
		{"list", `["a", 1, null]`, `["a",1,null]`},
		{"list", `["a", 1.50, true]`, `["a",1.50,true]`},
		{"list", `[upper("a")]`, "expected a list: an expression of literals only: function calls not allowed"},
		{"map", `{a = "x", b = [1]}`, `{"a":"x","b":[1]}`},
		{"map", `{"a": "${"}`, `{"a":"${"}`},
		{"map", `{a = "${b}"}`, "expected a mapping: an expression of literals only: variables not allowed"},
		{"map", "[", "neither JSON nor an HCL expression"},
		{"map", "[]", "expected a mapping, found a list"},
		{"number", "5x", `expected a number, found the string "5x"`},
		{"number", "1e99999", `expected a number`},
		{"bool", "yes", `expected true or false, found the string "yes"`},
		{"list", "[1e9999999]", "expected a list"},
		{"list", strings.Repeat("[", 1000), "nested more than"},
		{"list", strings.Repeat("-", 1<<18), "larger than"},
	}
	for _, test := range tests {
		r, found := vars.Resolve([]template.Variable{decl(1, "x", typ(test.typ))}, vars.Sources{Flags: []string{"x=" + test.text}})
		got := problems(found)
		if len(found) == 0 {
			text, _ := json.Marshal(r.Variables[0].Value)
			got = string(text)
		}
		if len(found) == 0 && got != test.want || len(found) > 0 && !strings.Contains(got, test.want) {
			t.Errorf("%s %.40s: got %s, want %s", test.typ, test.text, got, test.want)
		}
	}
}

func TestFiles(t *testing.T) {
	decls := []template.Variable{
		decl(1, "s", typ("string"), def("")), decl(2, "n", typ("number"), def(nil)),
		decl(3, "l", typ("list"), def(nil)), decl(4, "m", def(nil)),
	}
	want := "s = \"1.10\" (file F)\nn = 31 (file F)\nl = [\"a\",true] (file F)\nm = {\"k\":{\"x\":null}} (file F)\n"
	files := map[string]string{
		"f.json":         `{"s": 1.10, "n": "31", "l": ["a", true], "m": {"k": {"x": null}}}`,
		"f.yaml":         "s: 1.10\nn: 0x1F\nl: [a, true]\nm: {k: {x: ~}}\n",
		"f.yml":          "{s: '1.10', n: 31.0, l: [a, yes], m: {k: {x: }}}",
		"f.pkrvars.hcl":  "s = \"1.10\"\nn = 31\nl = [\"a\", true]\nm = { k = { x = null } }\n",
		"f.pkrvars.json": `{"s": "1.10", "n": 31, "l": ["a", true], "m": {"k": {"x": null}}}`,
	}
	for name, text := range files {
		r, found := vars.Resolve(decls, vars.Sources{Files: []vars.File{{Name: name, Data: []byte(text)}}})
		got := strings.ReplaceAll(show(r), "file "+name, "file F")
		got = strings.NewReplacer("1.1\"", "1.10\"", "31.0", "31", `"yes"`, "true").Replace(got)
		if diff := cmp.Diff(want, got); diff != "" || len(found) > 0 {
			t.Errorf("%s: %s%s", name, diff, problems(found))
		}
	}
}

func TestFileProblems(t *testing.T) {
	decls := []template.Variable{decl(1, "suite", def("x"))}
	tests := []struct{ name, text, want string }{
		{"f.json", `{"suit": "a"}`, `warning: f.json:1:2: variable "suit" is not declared in the template (did you mean "suite"?)`},
		{"f.yaml", "\nsuite: a\nsuit: b\n", `warning: f.yaml:3:1: variable "suit" is not declared`},
		{"f.hcl", "\nsuite = upper(\"x\")\n", `error: f.hcl:2:9: function calls not allowed`},
		{"f.hcl", "suite = var.y\n", `error: f.hcl:1:9: variables not allowed`},
		{"f.hcl", "suite {\n}\n", `unexpected "suite" block`},
		{"f.json", `{"suite": }`, `error: f.json:1:11`},
		{"f.json", `{"suite": "a", "suite": "b"}`, `duplicate attribute`},
		{"f.yaml", "suite: a\nsuite: b\n", `error: f.yaml:2:1: "suite" is given twice`},
		{"f.yaml", "suite: &a x\nother: *a\n", `error: f.yaml:2:8: aliases are not supported`},
		{"f.yaml", "\tsuite: a", `error: f.yaml: `},
		{"f.yaml", "- a\n", `error: f.yaml:1:1: expected a mapping of variables`},
		{"f.yaml", "suite: a\n---\nsuite: b\n", `more than one YAML document`},
		{"f.yaml", "suite: .inf\n", `error: f.yaml:1:8: a number that is not finite`},
		{"f.yaml", "? [a]\n: b\n", `a key must be a name`},
		{"f.txt", "suite=a", `error: f.txt: variable file with an unknown extension ".txt"`},
		{"f.json", `{"suite":` + strings.Repeat("[", 300), `nested more than 200 deep`},
		{"f.yaml", strings.Repeat("x", 2<<20), `larger than`},
		{"f.yaml", "", ``},
	}
	for _, test := range tests {
		_, found := vars.Resolve(decls, vars.Sources{Files: []vars.File{{Name: test.name, Data: []byte(test.text)}}})
		if got := problems(found); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s %.40q: got %s, want %s", test.name, test.text, got, test.want)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	_, found := vars.Resolve([]template.Variable{decl(1, "suite", def("x"))}, vars.Sources{
		Flags:   []string{"suit=hunter2", "nonsense"},
		Inputs:  map[string]string{"sute": "a"},
		Environ: []string{"IMGBAKE_VAR_suit=a", "PKR_VAR_other=b", "HOME=/"},
	})
	want := `warning: environment IMGBAKE_VAR_suit: variable "suit" is not declared in the template (did you mean "suite"?)
error: workflow input: variable "sute" is not declared in the template (did you mean "suite"?)
error: flag: variable "suit" is not declared in the template (did you mean "suite"?)
error: a -var flag has no name and value (write -var "name=value")
`
	if diff := cmp.Diff(want, problems(found)); diff != "" {
		t.Error(diff)
	}
}

func TestDeclarations(t *testing.T) {
	_, found := vars.Resolve([]template.Variable{
		decl(1, "a", env("A")), decl(2, "b"), decl(3, "b"), decl(4, "c", typ("strng"), def("x")),
	}, vars.Sources{})
	want := `error: t.yaml:1:3: variable "a" is required and not set (set it with -var a=..., in the workflow's vars input, in the environment (IMGBAKE_VAR_a, PKR_VAR_a, A), in a -var-file, or give it a default)
error: t.yaml:2:3: variable "b" is required and not set (set it with -var b=..., in the workflow's vars input, in the environment (IMGBAKE_VAR_b, PKR_VAR_b), in a -var-file, or give it a default)
error: t.yaml:3:3: variable "b" is declared twice (the first one is at t.yaml:2:3)
error: t.yaml:4:3: variable "c": unknown type "strng" (did you mean "string"?)
`
	if diff := cmp.Diff(want, problems(found)); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsInOrder(t *testing.T) {
	r, found := vars.Resolve([]template.Variable{
		decl(1, "c", def(fake("${var.b}+${env.NONE}"))),
		decl(2, "b", def(fake("${var.a}/${env.USER}"))),
		decl(3, "a", def("x")),
		decl(4, "url", def(fake("token ${base64(var.token)}"))),
		decl(5, "token", sensitive, def("hunter2-hunter2")),
		decl(6, "over", def(fake("${var.token}"))),
		decl(7, "at", def(fake("${run.time}"))),
		decl(8, "none", def(fake("needs no name"))),
	}, vars.Sources{Facts: map[string]value.Entry{"run.time": value.Known("noon")}, Environ: []string{"USER=me"}, Flags: []string{"over=plain"}})
	want := `c = "x/me+" (default)
b = "x/me" (default)
a = "x" (default)
url = "token aHVudGVyMi1odW50ZXIy" (default) sensitive
token = "hunter2-hunter2" (default) sensitive
over = "plain" (flag)
at = "noon" (default)
none = "needs no name" (default)
`
	if diff := cmp.Diff(want, show(r)); diff != "" || len(found) > 0 {
		t.Error(diff, found)
	}
	if got, want := r.Secrets(), []string{"token aHVudGVyMi1odW50ZXIy", "hunter2-hunter2"}; !slices.Equal(got, want) {
		t.Errorf("secrets %q, want %q", got, want)
	}
}

func TestBadDefaults(t *testing.T) {
	r, found := vars.Resolve([]template.Variable{
		decl(1, "a", def(fake("${var.b}"))),
		decl(2, "b", def(fake("${var.c}"))),
		decl(3, "c", def(fake("${var.a}"))),
		decl(4, "d", def(fake("${var.sute}"))),
		decl(5, "suite", def("x")),
		decl(6, "e", def(fake("${git.sha}"))),
		decl(7, "f", def(fake("${var.needed}"))),
		decl(8, "needed", func(v *template.Variable) {}),
		decl(9, "self", def(fake("${var.self}"))),
	}, vars.Sources{})
	want := `error: t.yaml:1:3: the defaults of variables go round in a circle: a -> b -> c -> a (a at t.yaml:1:3, b at t.yaml:2:3, c at t.yaml:3:3)
error: t.yaml:4:5: the default of variable "d" reads var.sute, which is not declared (did you mean "suite"?)
error: t.yaml:6:5: unknown name "git.sha"
error: t.yaml:8:3: variable "needed" is required and not set`
	if got := problems(found); !containsLines(got, want) || len(found) != 5 {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, v := range r.Variables {
		if v.Known != (v.Name == "suite") {
			t.Errorf("%s: Known = %v", v.Name, v.Known)
		}
	}
}

func containsLines(got, want string) bool {
	for line := range strings.Lines(want) {
		if !strings.Contains(got, strings.TrimSpace(line)) {
			return false
		}
	}
	return true
}

func TestRules(t *testing.T) {
	condition := value.Node{Pos: diag.Pos{File: "t.yaml", Line: 9, Column: 1}, V: fake("${same(var.x)}")}
	tests := []struct {
		name string
		decl template.Variable
		text string
		want string
	}{
		{"passes", decl(1, "x", rule(condition, "say yes")), "yes", ""},
		{"fails", decl(1, "x", rule(condition, "say yes")), "no", "error: t.yaml:1:3: variable \"x\": say yes (set by flag)\n"},
		{"no bool", decl(1, "x", rule(value.Node{Pos: condition.Pos, V: "often"}, "")), "no", "error: t.yaml:9:1: the validation of variable \"x\" must give true or false, not the string \"often\"\n"},
		{"error hidden", decl(1, "x", sensitive, rule(value.Node{Pos: condition.Pos, V: fake("${fail(var.x)}")}, "")), "hunter2", "error: t.yaml:9:1: the validation of variable \"x\" cannot be evaluated (the reason is not shown since the variable is sensitive)\n"},
		{"choice", decl(1, "x", choices("red", "green")), "red", ""},
		{"no choice", decl(1, "x", choices("red", "green")), "gren", "error: t.yaml:1:3: variable \"x\" (flag): the string \"gren\" is none of the values allowed (did you mean \"green\"?)\n"},
		{"choice of items", decl(1, "x", typ("list"), choices("1", "2")), "[1,3]", "error: t.yaml:1:3: variable \"x\" (flag): the number 3 is none of the values allowed (known: 1, 2)\n"},
		{"sensitive choice", decl(1, "x", sensitive, choices("password1")), "password2", "error: t.yaml:1:3: variable \"x\" (flag) is none of the values allowed (known: password1)\n"},
		{"sensitive type", decl(1, "x", sensitive, typ("number")), "hunter2", "error: t.yaml:1:3: variable \"x\" (flag): expected a number\n"},
		{"short secret", decl(1, "x", sensitive), "abc", "warning: t.yaml:1:3: sensitive variable \"x\" is shorter than 6 bytes and is not masked in logs (masking so short a text would make logs unreadable: use a longer secret)\n"},
		{"empty secret", decl(1, "x", sensitive), "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, found := vars.Resolve([]template.Variable{test.decl}, vars.Sources{Flags: []string{"x=" + test.text}})
			if diff := cmp.Diff(test.want, problems(found)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScopeAndSecrets(t *testing.T) {
	r, _ := vars.Resolve([]template.Variable{decl(1, "db", typ("map"), sensitive), decl(2, "gone")}, vars.Sources{
		Flags: []string{`db={"user":"joe","password":["s3cr3t-1",{"k":1234567,"b":true}]}`},
	})
	if got, want := r.Secrets(), []string{"s3cr3t-1", "1234567"}; len(got) != 3 || !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) {
		t.Errorf("secrets %q, want %q", got, want)
	}
	scope := value.Scope{}.With(r.Scope())
	if _, e, ok := scope.Lookup("var.db.password"); !ok || !e.Known || !e.Sensitive {
		t.Errorf("var.db: %+v, %v", e, ok)
	}
	if _, e, ok := scope.Lookup("var.gone"); !ok || e.Known {
		t.Errorf("var.gone: %+v, %v", e, ok)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, r); strings.Contains(text, "s3cr3t") {
			t.Errorf("%s shows the secret: %s", format, text)
		}
	}
}

func TestAuto(t *testing.T) {
	folder := fstest.MapFS{}
	for _, name := range []string{
		"b.auto.pkrvars.hcl", "a.auto.imgbakevars.yml", "imgbake.vars.yaml", "c.auto.pkrvars.json",
		"imgbake.yaml", "prod.json", "x.pkrvars.hcl", "sub/z.auto.pkrvars.hcl", "d.auto.imgbakevars.json/x",
	} {
		folder[name] = &fstest.MapFile{Data: []byte(name)}
	}
	files, err := vars.Auto(folder, "dir")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name)
		if !f.Auto || "dir/"+string(f.Data) != f.Name {
			t.Errorf("%s: %q, auto %v", f.Name, f.Data, f.Auto)
		}
	}
	want := []string{"dir/a.auto.imgbakevars.yml", "dir/b.auto.pkrvars.hcl", "dir/c.auto.pkrvars.json", "dir/imgbake.vars.yaml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{`{"x": [1, {"a": null}]}`, "x: [1, {a: ~}]\n", "x = [1, { a = null }]\n", "x: &a [*a]", "x = \"${y}\"", "x: 0x_", "x: -.inf", `{"x": 1e9999999}`} {
		for _, ext := range []string{".json", ".yaml", ".hcl"} {
			f.Add(ext, []byte(seed))
		}
	}
	decls := []template.Variable{decl(1, "x", def(nil))}
	f.Fuzz(func(t *testing.T, ext string, data []byte) {
		r, found := vars.Resolve(decls, vars.Sources{Files: []vars.File{{Name: "f" + ext, Data: data}}})
		if r.Variables[0].Known == found.HasErrors() && !found.HasErrors() {
			t.Errorf("no value and no problem: %q", data)
		}
		if _, err := json.Marshal(r.Variables[0].Value); err != nil {
			t.Errorf("%q gives no JSON: %v", data, err)
		}
	})
}

func FuzzFlag(f *testing.F) {
	f.Add("map", `{"a": 1}`)
	f.Add("list", `[upper("x"), 1e400]`)
	f.Add("number", "1e5")
	f.Fuzz(func(t *testing.T, kind, text string) {
		r, found := vars.Resolve([]template.Variable{decl(1, "x", typ(kind))}, vars.Sources{Flags: []string{"x=" + text}})
		if r.Variables[0].Known && found.HasErrors() != (len(problems(found)) > 0 && strings.Contains(problems(found), "unknown type")) {
			t.Errorf("%s %q: a value and %v", kind, text, found)
		}
		if _, err := json.Marshal(r.Variables[0].Value); err != nil {
			t.Errorf("%q gives no JSON: %v", text, err)
		}
	})
}
