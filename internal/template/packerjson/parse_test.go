package packerjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestIsPacker(t *testing.T) {
	tests := []struct {
		src  string
		want bool
	}{
		{`{"builders": []}`, true},
		{"\ufeff{\"builders\": [],}", true},
		{"// comment\n{builders: 5}", true},
		{`{"variables": {"a": "b}, "builders": []}`, true},
		{`{"provisioners": []}`, false},
		{`["builders"]`, false},
		{`{"x": {"builders": []}}`, false},
		{"images:\n  web: {}\n", false},
		{`{"images": {"web": {"builders": {"docker": {}}}}}`, false},
		{"builders:\n- docker\n", false},
		{"", false},
		{"\xff\xfe{", false},
	}
	for _, test := range tests {
		if got := IsPacker([]byte(test.src)); got != test.want {
			t.Errorf("IsPacker(%q) = %t", test.src, got)
		}
	}
}

// Files that cannot be written down in a golden file.
func TestUnusualFiles(t *testing.T) {
	many := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	tests := []struct {
		name, src, want string
		opts            Options
	}{
		{"nothing", "", "t: the file is empty", Options{}},
		{"blank", " \n\t", "t: the file is empty", Options{}},
		{"mark", "\ufeff{\"builders\": [{\"type\": \"x\"}], \"y\": 1}", "t:1:1: the file starts with a byte order mark (save the file as UTF-8 without BOM)", Options{}},
		{"utf-16", "\xff\xfe{\x00", "t:1:1: the file is in UTF-16 (save the file as UTF-8)", Options{}},
		{"latin-1", "{\n \"ü\": \"gr\xfcn\"}", "t:2:10: the byte 0xfc is not UTF-8 (save the file as UTF-8)", Options{}},
		{"cut", "{\"a\": \"\xe2\x82", "t:1:8: the byte 0xe2 is not UTF-8 (save the file as UTF-8)", Options{}},
		{"large", `{"builders": 1}`, "t: the file has 15 bytes, more than 10", Options{MaxBytes: 10}},
		{"deep", `{"a": ` + many + "}", "t:1:70: nested deeper than 64 levels", Options{}},
		{"deeper", "{\"a\":\n" + many + "}", "t:2:3: nested deeper than 3 levels", Options{MaxDepth: 3}},
		{"crlf", "{\r\n  \"builders\": 5\r\n}", "t:2:15: builders must be a list, found the number 5 (write [...])", Options{}},
		{"nul", "{\x00}", `t:1:2: expected a key in quotes, found '\x00'`, Options{}},
		{"backslash at the end", `{"a\`, `t:1:2: the string has no closing quote (close it on the same line; \n in a string is a line break)`, Options{}},
		{"key only", `{"a"`, `t:1:5: expected a colon after the key "a", found the end of the file`, Options{}},
		{"no value", `{"a":`, `t:1:6: expected a value, found the end of the file`, Options{}},
	}
	for _, test := range tests {
		_, problems := Parse("t", []byte(test.src), test.opts)
		if len(problems) == 0 || problems[0].Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.name, problems, test.want)
		}
	}
}

func TestTooManyProblems(t *testing.T) {
	for _, src := range []string{
		"{" + strings.Repeat(",", 5000),
		"{\"a\": [" + strings.Repeat("nope ", 5000),
		"{" + strings.Repeat("#\n", 5000),
		"{\"a\": \"" + strings.Repeat("\x01", 5000) + "\"}",
	} {
		_, problems := Parse("t", []byte(src), Options{})
		if len(problems) > maxProblems+1 {
			t.Errorf("%.10s...: %d problems", src, len(problems))
		}
	}
}

func TestPositionsAfterMark(t *testing.T) {
	_, problems := Parse("t", []byte("\ufeff{\"builders\": [{\"type\": \"x\"}], \"y\": 1}"), Options{})
	want := diag.Pos{File: "t", Line: 1, Column: 31}
	if len(problems) != 2 || problems[1].Pos != want {
		t.Errorf("problems = %v, want the second at %s", problems, want)
	}
}

func seeds(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.txt")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if filepath.Ext(part.Name) == ".json" {
				f.Add(part.Data)
			}
		}
	}
	f.Add([]byte("\ufeff{\"builders\": [\xff]}"))
	f.Add([]byte(`{"builders":[{"type":"a","x":"{{if .A}}{{user \"b\"}}{{end}}"}],"variables":{"b":"{{uuid}}"}}`))
}

// Whatever the input, Parse ends, places are in the file, and what is parsed
// without a problem can be evaluated.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		tmpl, problems := Parse("t", src, Options{})
		lines := strings.Split(strings.TrimPrefix(string(src), "\ufeff"), "\n")
		for _, p := range problems {
			checkPlace(t, lines, p)
		}
		if problems.HasErrors() {
			return
		}
		if !IsPacker(src) {
			t.Error("parsed, but not taken for a Packer template")
		}
		for _, n := range nodes(tmpl) {
			value.Eval(n, scope)
			if _, err := json.Marshal(n); err != nil {
				t.Error(err)
			}
		}
	})
}

func checkPlace(t *testing.T, lines []string, p diag.Problem) {
	if p.Pos.Line == 0 {
		return // the whole file
	}
	if p.Pos.Line > len(lines) || p.Pos.Column < 1 || p.Pos.Column > utf8.RuneCountInString(lines[p.Pos.Line-1])+1 {
		t.Errorf("a place outside the file: %v", p)
	}
	if p.Text == "" || !utf8.ValidString(p.Text) {
		t.Errorf("the problem has a bad text: %q", p.Text)
	}
}

func nodes(tmpl template.Template) []value.Node {
	var out []value.Node
	for _, v := range tmpl.Variables {
		if v.Default != nil {
			out = append(out, *v.Default)
		}
	}
	for _, image := range tmpl.Images {
		for _, b := range image.Builders {
			out = append(out, b.NameOf, b.Body)
		}
		for _, p := range image.Provisioners {
			out = append(out, p.Common, p.Body)
		}
		for _, sequence := range image.Posts {
			for _, p := range sequence {
				out = append(out, p.Common, p.Body)
			}
		}
	}
	return out
}

// FuzzRead compares the reader with encoding/json: what it takes without a
// problem is JSON and means the same.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		root, problems, ok := read("t", src, Options{})
		if len(problems) > 0 {
			return
		}
		if !ok {
			t.Fatal("ended early without a problem")
		}
		decoder := json.NewDecoder(bytes.NewReader(src))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil || decoder.More() {
			t.Fatalf("no JSON: %v", err)
		}
		if diff := cmp.Diff(want, plain(root).Plain()); diff != "" {
			t.Errorf("-encoding/json +reader\n%s", diff)
		}
	})
}

// Every JSON string, whatever its escapes, starts at its place, and so does
// every character in it.
func TestTextPlaces(t *testing.T) {
	src := `{"a": "x\u00fc\ud83d\ude00\n\"\\é!"}`
	root, problems, _ := read("t", []byte(src), Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m, _ := root.V.(value.Object).Get("a")
	got := m.V.(text)
	want := []struct {
		part   string
		column int
	}{{"x", 8}, {"ü", 9}, {"😀", 15}, {"\n", 27}, {`"`, 29}, {`\`, 31}, {"é", 33}, {"!", 34}}
	for _, w := range want {
		if pos := got.at(m.Pos, strings.Index(got.s, w.part)); pos.Column != w.column {
			t.Errorf("%q at column %d, want %d", w.part, pos.Column, w.column)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var src strings.Builder
	src.WriteString(`{"variables": {"suite": "bookworm"}, "builders": [`)
	for i := range 1000 {
		fmt.Fprintf(&src, "{\"type\": \"docker\", \"name\": \"b%d\", \"image\": \"debian:{{user `suite`}}\", \"commit\": true},\n", i)
	}
	src.WriteString(`{"type": "null"}], "provisioners": [`)
	for i := range 10 {
		fmt.Fprintf(&src, "{\"type\": \"shell\", \"inline\": [\"echo {{user `suite`}} {{build_name}} %d\"]},\n", i)
	}
	src.WriteString(`{"type": "sleep"}]}`)
	scope := scope.With(map[string]value.Entry{"var.suite": value.Known("bookworm")})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, problems := Parse("t", []byte(src.String()), Options{}); problems != nil {
				b.Fatal(problems)
			}
		}
	})
	b.Run("eval", func(b *testing.B) {
		n, _ := interpolated("echo {{user `x`}} {{build_name}}", inStep)
		for b.Loop() {
			value.Eval(n, scope)
		}
	})
}
