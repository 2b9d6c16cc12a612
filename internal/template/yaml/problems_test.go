package yaml_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
)

var update = flag.Bool("update", false, "write the problems found into testdata")

// TestProblems parses NAME.yaml of every archive and compares the problems,
// shown with their carets, with NAME.want.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("archives: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { archive(t, file) })
	}
}

func archive(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range a.Files {
		want[f.Name] = string(f.Data)
	}
	out := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		name, isCase := strings.CutSuffix(f.Name, ".yaml")
		if !isCase {
			continue
		}
		got := problemsOf(f.Data)
		out.Files = append(out.Files, f, txtar.File{Name: name + ".want", Data: []byte(got)})
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want[name+".want"], got); diff != "" && !*update {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// problemsOf renders the problems with source lines and carets.
func problemsOf(src []byte) string {
	_, problems := yaml.Parse("imgbake.yaml", src, expr.Options{Env: func(string) (string, bool) { return "", false }})
	var out bytes.Buffer
	o := diag.TextOptions{Source: func(string) []byte { return src }}
	if err := diag.Text(&out, problems, o); err != nil {
		return err.Error()
	}
	return out.String()
}

// TestProblemsOfBytes has the cases that no text file can hold.
func TestProblemsOfBytes(t *testing.T) {
	const good = "images: {a: {builders: docker}}"
	deep := strings.Repeat("{a: ", 200) + strings.Repeat("}", 200)
	for _, tt := range []struct{ name, src, want string }{
		{"empty", "", `f: the template is empty (start with "images:", or let "imgbake init" write a template)`},
		{"null", "~\n", `f: the template is empty (start with "images:", or let "imgbake init" write a template)`},
		{"byte order mark", "\ufeff" + good, ""},
		{"byte order mark alone", "\ufeff", `f: the template is empty (start with "images:", or let "imgbake init" write a template)`},
		{"CRLF", "images:\r\n  a:\r\n    bilders: docker\r\n", `f:3:5: unknown key "bilders" (did you mean "builders"?)`},
		{"CRLF in a syntax error", "images:\r\n  a: b: c\r\n", `f:2:7: unexpected ":" (quote a value that contains ": ", or check the indentation)`},
		{"byte order mark and problem", "\ufeffimagez: {}\n" + good, `f:1:1: unknown key "imagez" (did you mean "images"?)`},
		{"not UTF-8", good + "\n# \xff\xfe", "f:2:3: the template is not UTF-8 text (save it as UTF-8)"},
		{"UTF-16", "\xff\xfei\x00m\x00", "f:1:1: the template is not UTF-8 text (save it as UTF-8)"},
		{"NUL", "images: \x00", `f:1:9: control character U+0000 (write \u0000 inside double quotes if it is meant)`},
		{"odd line end", "x-a: b\u2028c\n" + good, `f:1:7: unusual line end U+2028 (write \u2028 inside double quotes if it is meant)`},
		{"lone carriage return", "x-a: b\rc\n" + good, `f:1:7: unusual line end U+000D (write \u000d inside double quotes if it is meant)`},
		{"too large", strings.Repeat("#", 5<<20), "f: the template is too large: 5242880 bytes, at most 4194304 are read"},
		{"nested too deeply", "images: " + deep, "f:1:405: the template is nested too deeply: more than 100 levels"},
		{"nested far too deeply", "images: " + strings.Repeat("[", 12_000), "f:1:10009: the template is nested too deeply"},
		{"deep dashes", strings.Repeat("- ", 12_000), "f:1:20001: the template is nested too deeply"},
		{"deep expression", "locals: {a: '${" + strings.Repeat("(", 50_000) + "'}\n" + good,
			"f:1:10015: expression is too long: more than 10000 symbols (split it up with locals)"},
		{"long literal", "locals: {a: '" + strings.Repeat("text ${1} ", 1500) + "'}\n" + good, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := yaml.Parse("f", []byte(tt.src), expr.Options{})
			if got := problems.Error(); got != tt.want {
				t.Errorf("problems:\n got %s\nwant %s", clip(got), tt.want)
			}
		})
	}
}

func clip(s string) string {
	if len(s) > 500 {
		return fmt.Sprintf("%s… (%d bytes)", s[:500], len(s))
	}
	return s
}
