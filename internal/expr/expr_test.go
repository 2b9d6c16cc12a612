package expr_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/value"
)

var start = diag.Pos{File: "f", Line: 3, Column: 5}

// options allow everything.
func options() expr.Options {
	return expr.Options{
		Files: fstest.MapFS{
			"motd":            {Data: []byte("hello")},
			"raw":             {Data: []byte{0xff}},
			"conf/a.tmpl":     {Data: []byte("${upper(name)}:${n + 1}%{ if n > 1 } big%{ endif }")},
			"conf/b.conf":     {Data: []byte("b")},
			"conf/sub/c.conf": {Data: []byte("c")},
			"bad.tmpl":        {Data: []byte("line\n  ${nope}")},
			"self.tmpl":       {Data: []byte(`${templatefile("self.tmpl", {})}`)},
			".git/config":     {Data: []byte("token")},
		},
		Dir:  "/src/app",
		Home: "/home/me",
		Now:  func() time.Time { return time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC) },
		Env: func(name string) (string, bool) {
			return map[string]string{"HOME": "/home/me"}[name], name == "HOME"
		},
	}
}

func scope() value.Scope {
	return value.Scope{}.With(map[string]value.Entry{
		"var.suite":       value.Known("bookworm"),
		"var.n":           value.Known(value.Number("5")),
		"var.version":     value.Known(value.Number("1.10")),
		"var.flag":        value.Known(true),
		"var.none":        value.Known(nil),
		"var.list":        value.Known([]any{"a", "b", value.Number("3")}),
		"var.db":          value.Known(map[string]any{"host": "h", "ports": []any{1, 2}}),
		"var.my-name":     value.Known("dashed"),
		"var.secret":      {Value: "hunter2", Known: true, Sensitive: true},
		"local.late":      {},
		"build":           {},
		"build.name":      value.Known("web.docker"),
		"git.short_sha":   value.Known("abc123"),
		"path.root":       value.Known("/src/app"),
		"local.composite": value.Known(value.Object{{Key: "k", Node: value.Node{V: "v"}}}),
	})
}

func TestEval(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want any
	}{
		{"plain $ text { } %", "plain $ text { } %"},
		{"$${HOME} %%{x}", "${HOME} %{x}"},
		{"a $${b} ${var.suite}", "a ${b} bookworm"},
		{"debian:${var.suite}-slim", "debian:bookworm-slim"},
		{"${var.n}", value.Number("5")},
		{"${var.n + 1}", value.Number("6")},
		{"n=${var.n}", "n=5"},
		{"${1 / 4}", value.Number("0.25")},
		{"${var.version}", "1.10"},
		{"v${var.version}", "v1.10"},
		{"${var.version + 1}", value.Number("2.1")},
		{"${var.flag}", true},
		{"${!var.flag}", false},
		{"${var.none}", nil},
		{"${var.none == null}", true},
		{"${var.list}", []any{"a", "b", value.Number("3")}},
		{"${var.list[1]}", "b"},
		{"${var.db.host}", "h"},
		{`${var.db["host"]}`, "h"},
		{`${var["suite"]}`, "bookworm"},
		{"${var.db.ports[*]}", []any{value.Number("1"), value.Number("2")}},
		{"${var.my-name}", "dashed"},
		{"${local.composite.k}", "v"},
		{"${build.name}/${git.short_sha}", "web.docker/abc123"},
		{"${[for x in var.list : upper(x)]}", []any{"A", "B", "3"}},
		{"${{for k, v in var.db : k => v if k == \"host\"}}", map[string]any{"host": "h"}},
		{"%{ for x in var.list }${x},%{ endfor }", "a,b,3,"},
		{"%{ if var.flag }yes%{ else }no%{ endif }", "yes"},
		{"${var.flag ? \"a\" : \"b\"}", "a"},
		{"${var.n}\n", "5\n"},
		{"${upper(\"é\")} größer", "É größer"},
	} {
		t.Run(tt.src, func(t *testing.T) {
			node, problems := expr.Parse(tt.src, start, options())
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			got, problems := value.Eval(node, scope())
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value.Of(start, tt.want).Plain(), got.Plain()); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
			if got.Pos != start {
				t.Errorf("place = %v, want %v", got.Pos, start)
			}
		})
	}
}

func TestLiteralsAreNoExpressions(t *testing.T) {
	for _, src := range []string{"", "text", "$", "a $${b}", "%%{x}", "$HOME {x}"} {
		node, problems := expr.Parse(src, start, expr.Options{})
		if _, ok := node.V.(string); !ok || len(problems) > 0 {
			t.Errorf("Parse(%q) = %#v, %v; want a string", src, node.V, problems)
		}
	}
}

func TestNeeds(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want []string
	}{
		{"${1 + 2}", []string{}},
		{"${var.b}${var.a}${var.b}", []string{"var.a", "var.b"}},
		{"${var.db.host.x}", []string{"var.db.host.x"}},
		{"${var.list[0].name}", []string{"var.list"}},
		{`${var["a"].b}`, []string{"var.a.b"}},
		{"${var.list[var.i]}", []string{"var.i", "var.list"}},
		{"${var.list[*].name}", []string{"var.list"}},
		{"${[for x in local.xs : x.name + local.y]}", []string{"local.xs", "local.y"}},
		{"%{ for k, v in var.m }${k}${v}${var.z}%{ endfor }", []string{"var.m", "var.z"}},
		{"${try(var.a.b, build.ID)}", []string{"build.ID", "var.a.b"}},
		{"${convert(var.a, list(string))}", []string{"var.a"}},
		{"${HOME}", []string{"HOME"}},
	} {
		node, problems := expr.Parse(tt.src, start, expr.Options{})
		if err := problems.Err(); err != nil {
			t.Errorf("Parse(%q): %v", tt.src, err)
			continue
		}
		e := node.V.(value.Expr)
		if diff := cmp.Diff(tt.want, e.Needs()); diff != "" {
			t.Errorf("needs of %s (-want +got):\n%s", tt.src, diff)
		}
		if e.Source() != tt.src {
			t.Errorf("source = %q, want %q", e.Source(), tt.src)
		}
	}
}

func TestRefs(t *testing.T) {
	needs := []string{"build.ID", "local.a", "local.b", "local.b.c", "local.d.e", "localx.f", "var.local"}
	if diff := cmp.Diff([]string{"a", "b", "d"}, expr.Refs(needs, "local")); diff != "" {
		t.Errorf("refs (-want +got):\n%s", diff)
	}
}

func TestUnknownStays(t *testing.T) {
	for _, src := range []string{"${local.late}", "${build.ID}", "x ${var.suite} ${local.late.a}"} {
		node, problems := expr.Parse(src, start, expr.Options{})
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		_, err := node.V.(value.Expr).Eval(scope())
		var unknown *value.UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("Eval(%q) = %v, want an UnknownError", src, err)
		}
	}
}

// TestSensitiveInPlan: what a plan sees of an expression over a secret is the
// expression.
func TestSensitiveInPlan(t *testing.T) {
	node, _ := expr.Parse("${base64encode(var.secret)}", start, expr.Options{})
	late, problems := value.Eval(node, scope().Plan())
	if len(problems) > 0 || late.V != node.V {
		t.Errorf("in a plan: %v, %v; want the expression", late.V, problems)
	}
	done, problems := value.Eval(node, scope())
	if len(problems) > 0 || done.V != "aHVudGVyMg==" {
		t.Errorf("in a run: %v, %v", done.V, problems)
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{"${var.suit}", `f:3:7: unknown name "var.suit" (did you mean "var.suite"?)`},
		{"a\nbc ${local.x} ${var.nop}", `f:4:6: unknown name "local.x" (known: local.composite, local.late)` + "\n" +
			`f:4:17: unknown name "var.nop" (did you mean "var.n"?)`},
		{"${vra.suite}", `f:3:7: unknown name "vra.suite" (known: build, git, local, path, var)`},
		{"${git}", `f:3:7: "git" is a group of names, not a value (name one of them: git.short_sha)`},
		{"${var[var.suite]}", `f:3:7: "var" is a group of names, not a value (name one of them: var.db, var.flag, var.list, var.my-name, var.n, var.none, var.secret, var.suite, var.version)`},
		{"${HOME}", `f:3:7: unknown name "HOME" (write $${HOME} to leave it to the shell, or var.HOME for a variable of the template)`},
		{"${var.db.hots}", `f:3:13: this object does not have an attribute named "hots"`},
		{"${local.late} ${var.nope}", `f:3:21: unknown name "var.nope" (did you mean "var.none"?)`},
		{"größer ${var.nope}", `f:3:14: unknown name "var.nope" (did you mean "var.none"?)`},
		{"x${var.none}", `f:3:8: the expression result is null (cannot include a null value in a string template)`},
		{"${1 + \"x\"}", `f:3:11: unsuitable value for right operand: a number is required`},
		{"${upper()}", `f:3:13: function "upper" expects 1 argument(s) (missing value for "str")`},
		{"${var.list[7]}", `f:3:15: the given key does not identify an element in this collection value`},
		{`${parseint("x", 10)}`, `f:3:17: invalid value for "number" parameter: cannot parse "x" as a base 10 integer`},
		{`${parseint(var.secret, 10)}`, `f:3:16: invalid function argument (details are not shown: the expression uses a sensitive value)`},
		{`${uper("x")}`, `f:3:7: unknown function "uper" (did you mean "upper"?)`},
		{`${totallydifferent()}`, `f:3:7: unknown function "totallydifferent"`},
		{`${try(vault("a", "b"), "")}`, `f:3:11: function "vault" is not supported here (pass the secret in: declare a variable with sensitive: true and env: NAME)`},
		{"${", `f:3:7: expected the start of an expression, but found the end of the file (for a literal ${ write $${)`},
	} {
		t.Run(tt.src, func(t *testing.T) {
			node, problems := expr.Parse(tt.src, start, options())
			if len(problems) == 0 {
				_, problems = value.Eval(node, scope())
			}
			problems.Sort()
			if got := problems.Error(); got != tt.want {
				t.Errorf("problems:\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestRefusedWithoutOptions(t *testing.T) {
	for _, call := range []string{`env("X")`, `timestamp()`, `legacy_isotime()`, `file("x")`, `templatefile("x", {})`, `abspath("x")`, `pathexpand("~")`} {
		_, problems := expr.Parse("${"+call+"}", start, expr.Options{})
		if got := problems.Error(); !strings.Contains(got, "is not supported here (") {
			t.Errorf("%s: problems = %q, want not supported, with a hint", call, got)
		}
	}
}

func TestParseBare(t *testing.T) {
	l := expr.New(expr.Options{})
	src := "length(var.suite) > 2"
	node, problems := l.ParseBare(src, expr.At(src, start))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if got, problems := value.Eval(node, scope()); got.V != true || len(problems) > 0 {
		t.Errorf("value = %v, %v; want true", got.V, problems)
	}
	for src, want := range map[string]string{
		"1 +":        "f:3:8: expected the start of an expression, but found the end of the file",
		"nosuch(1)":  `f:3:5: unknown function "nosuch"`,
		"a\n\n  b c": "f:5:3: an expression was successfully parsed, but extra characters were found after it",
	} {
		_, problems := l.ParseBare(src, expr.At(src, start))
		if got, _, _ := strings.Cut(problems.Error(), " ("); got != want {
			t.Errorf("ParseBare(%q) = %q, want %q", src, got, want)
		}
	}
}

// TestFence: no expression reads a file outside of the template's folder, by
// whatever name (threat T26).
func TestFence(t *testing.T) {
	base := t.TempDir()
	inside := filepath.Join(base, "in")
	for path, text := range map[string]string{"secret": "s3cret", "in/ok": "fine", "in/.git/config": "token"} {
		full := filepath.Join(base, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "../secret", "abs": filepath.Join(base, "secret"), "dir": "..", "good": "ok"} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	o := expr.Options{Files: root.FS(), Dir: inside}
	for src, want := range map[string]string{
		`${file("ok")}`:                        "fine",
		`${file("./x/../ok")}`:                 "fine",
		`${file("good")}`:                      "fine",
		`${file("` + inside + `/ok")}`:         "fine",
		`${join(",", fileset(".", "*"))}`:      "ok",
		`${fileexists("none")}`:                "false",
		`${file("../secret")}`:                 "outside of the template's folder",
		`${file("/etc/passwd")}`:               "outside of the template's folder",
		`${file("/proc/self/environ")}`:        "outside of the template's folder",
		`${file("` + inside + `2/ok")}`:        "outside of the template's folder",
		`${file("link")}`:                      "escapes",
		`${file("abs")}`:                       "escapes",
		`${file("dir/secret")}`:                "escapes",
		`${filebase64("link")}`:                "escapes",
		`${templatefile("link", {})}`:          "escapes",
		`${fileexists("link")}`:                "escapes",
		`${join(",", fileset("..", "*"))}`:     "outside of the template's folder",
		`${join(",", fileset(".", "../*"))}`:   "",
		`${join(",", fileset(".", "dir/*"))}`:  "",
		`${join(",", fileset(".", ".git/*"))}`: "",
		`${file(".git/config")}`:               "may hold credentials",
		`${file("X/../.GIT/config")}`:          "may hold credentials",
		`${file(".")}`:                         "not a regular file",
	} {
		t.Run(src, func(t *testing.T) {
			node, problems := expr.Parse(src, start, o)
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			got, problems := value.Eval(node, value.Scope{})
			text, _ := value.Text(got)
			if all := text + problems.Error(); !strings.Contains(all, want) || strings.Contains(all, "s3cret") || strings.Contains(all, "token") {
				t.Errorf("got %q, %v; want %q", text, problems, want)
			}
		})
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "a_b-c1": true, "": false, "1a": false, "a.b": false, "a b": false} {
		if got := expr.IsName(name); got != want {
			t.Errorf("IsName(%q) = %v, want %v", name, got, want)
		}
	}
}
