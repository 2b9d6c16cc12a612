package diag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func source(files map[string]string) func(string) []byte {
	return func(file string) []byte {
		content, ok := files[file]
		if !ok {
			return nil
		}
		return []byte(content)
	}
}

func TestText(t *testing.T) {
	tests := []struct {
		name, source string
		problem      Problem
		want         string
	}{
		{
			"caret and hint", "images:\n  web:\n    provisoners: []\n",
			Problem{Pos: Pos{"f", 3, 5}, Text: `unknown key "provisoners"`, Hint: `did you mean "provisioners"?`},
			"f:3:5: error: unknown key \"provisoners\"\n" +
				"  3 |     provisoners: []\n" +
				"    |     ^\n" +
				"    hint: did you mean \"provisioners\"?\n",
		},
		{
			"a warning without a hint", "a: 1\n",
			Problem{Pos: Pos{"f", 1, 4}, Severity: Warning, Text: "odd"},
			"f:1:4: warning: odd\n  1 | a: 1\n    |    ^\n",
		},
		{
			"tabs stay tabs", "\t\"a\":\t1",
			Problem{Pos: Pos{"f", 1, 7}, Text: "x"},
			"f:1:7: error: x\n  1 | \t\"a\":\t1\n    | \t    \t^\n",
		},
		{
			"wide runes take two cells", "名前: é x",
			Problem{Pos: Pos{"f", 1, 7}, Text: "x"},
			"f:1:7: error: x\n  1 | 名前: é x\n    |         ^\n",
		},
		{
			"combining runes take none", "e\u0301a",
			Problem{Pos: Pos{"f", 1, 3}, Text: "x"},
			"f:1:3: error: x\n  1 | e\u0301a\n    |  ^\n",
		},
		{
			"past the end of the line", "abc\r\n",
			Problem{Pos: Pos{"f", 1, 9}, Text: "x"},
			"f:1:9: error: x\n  1 | abc\n    |    ^\n",
		},
		{
			"past the end of the file", "abc",
			Problem{Pos: Pos{"f", 7, 1}, Text: "x", Hint: "h"},
			"f:7:1: error: x\n  hint: h\n",
		},
		{
			"a line without a column", "abc",
			Problem{Pos: Pos{"f", 1, 0}, Text: "x", Hint: "h"},
			"f:1: error: x\n  1 | abc\n    hint: h\n",
		},
		{
			"the file as a whole", "abc",
			Problem{Pos: Pos{File: "f"}, Text: "x"},
			"f: error: x\n",
		},
		{"no place", "", Problem{Text: "x"}, "error: x\n"},
		{"a file that is gone", "", Problem{Pos: Pos{"gone", 1, 1}, Text: "x"}, "gone:1:1: error: x\n"},
		{
			"terminal escapes are shown, not sent", "a\x1b[2Jb\u202e",
			Problem{Pos: Pos{"f", 1, 6}, Text: "bad \x1b]0;t\a"},
			"f:1:6: error: bad \ufffd]0;t\ufffd\n  1 | a\ufffd[2Jb\ufffd\n    |      ^\n",
		},
		{
			"text and hint of several lines", "",
			Problem{Text: "one\ntwo\n", Hint: "three\nfour"},
			"error: one\n  two\n  hint: three\n        four\n",
		},
		{
			"a long line is cut around the column", strings.Repeat("a", 300) + "X" + strings.Repeat("b", 300),
			Problem{Pos: Pos{"f", 1, 301}, Text: "x"},
			"f:1:301: error: x\n  1 | …" + strings.Repeat("a", 60) + "X" + strings.Repeat("b", 39) + "…\n" +
				"    | " + strings.Repeat(" ", 61) + "^\n",
		},
		{
			"the margin grows with the number", strings.Repeat("\n", 99) + "abc",
			Problem{Pos: Pos{"f", 100, 2}, Text: "x"},
			"f:100:2: error: x\n  100 | abc\n      |  ^\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			files := source(map[string]string{"f": tt.source})
			if err := Text(&b, List{tt.problem}, TextOptions{Source: files}); err != nil {
				t.Fatal(err)
			}
			want := tt.want + "\n" + Count(List{tt.problem}) + "\n"
			if diff := cmp.Diff(want, b.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTextSortsCountsAndReadsOnce(t *testing.T) {
	reads := 0
	list := List{
		{Pos: Pos{"f", 2, 1}, Text: "second"},
		{Pos: Pos{"f", 1, 1}, Text: "first", Severity: Warning},
		{Pos: Pos{"f", 2, 1}, Text: "second too"},
	}
	var b bytes.Buffer
	err := Text(&b, list, TextOptions{Source: func(string) []byte { reads++; return []byte("a\nb") }})
	if err != nil {
		t.Fatal(err)
	}
	if reads != 1 {
		t.Errorf("the file was read %d times", reads)
	}
	if list[0].Text != "second" {
		t.Error("the caller's list was sorted in place")
	}
	if !strings.HasPrefix(b.String(), "f:1:1: warning: first") || !strings.HasSuffix(b.String(), "\n2 errors, 1 warning\n") {
		t.Errorf("got:\n%s", b.String())
	}
}

func TestTextColor(t *testing.T) {
	var b bytes.Buffer
	list := List{{Pos: Pos{"f", 1, 1}, Text: "x", Hint: "h"}}
	if err := Text(&b, list, TextOptions{Color: true, Source: source(map[string]string{"f": "a"})}); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1mf:1:1\x1b[0m: \x1b[1;31merror\x1b[0m: x\n" +
		"\x1b[34m  1 | \x1b[0ma\n" +
		"    \x1b[34m| \x1b[0m\x1b[1;31m^\x1b[0m\n" +
		"    \x1b[36mhint:\x1b[0m h\n\n1 error\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNothingToSay(t *testing.T) {
	var text, annotations, js bytes.Buffer
	if err := errors.Join(Text(&text, nil, TextOptions{}), Annotations(&annotations, nil), JSON(&js, nil)); err != nil {
		t.Fatal(err)
	}
	if text.Len() != 0 || annotations.Len() != 0 || js.String() != "[]\n" {
		t.Errorf("got %q, %q and %q", text.String(), annotations.String(), js.String())
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	list := List{
		{Pos: Pos{"a.yaml", 3, 4}, Text: "no <such> key", Hint: "h"},
		{Severity: Warning, Text: "w"},
	}
	if err := JSON(&b, list); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "<such>") {
		t.Error("text is escaped for HTML")
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"severity": "warning", "text": "w"},
		{
			"pos":      map[string]any{"file": "a.yaml", "line": 3.0, "column": 4.0},
			"severity": "error", "text": "no <such> key", "hint": "h",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnnotations(t *testing.T) {
	var b bytes.Buffer
	err := Annotations(&b, List{
		{Pos: Pos{"a,b:c%.yaml", 3, 4}, Severity: Warning, Text: "100%\r\n::error::x", Hint: "hint"},
		{Pos: Pos{File: "-", Line: 9}, Text: "z"},
		{Text: "nowhere"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "::error title=imgbake template error::nowhere\n" +
		"::error line=9,title=imgbake template error::z\n" +
		"::warning file=a%2Cb%3Ac%25.yaml,line=3,col=4,title=imgbake template warning::100%25%0D%0A::error::x%0Ahint\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnnotationsAreTenAtMost(t *testing.T) {
	var list List
	list.Warn(Pos{"a", 1, 1}, "", "a warning goes first to the wall")
	for i := range 12 {
		list.Add(Pos{"f", i + 1, 1}, "", "problem %d", i+1)
	}
	var b bytes.Buffer
	if err := Annotations(&b, list); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 10 || strings.Contains(b.String(), "::warning") {
		t.Fatalf("got %d lines:\n%s", len(lines), b.String())
	}
	if want := "::problem 10%0A(and 3 more problems, see the log)"; !strings.HasSuffix(lines[9], want) {
		t.Errorf("the last line is %q, want the end %q", lines[9], want)
	}
}

func TestRenderReportsWriteErrors(t *testing.T) {
	list := List{{Text: "x"}}
	w := failingWriter{}
	for name, err := range map[string]error{
		"text": Text(w, list, TextOptions{}), "json": JSON(w, list), "annotations": Annotations(w, list),
	} {
		if err == nil {
			t.Errorf("%s: the write error is lost", name)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func FuzzText(f *testing.F) {
	f.Add("a: [\n\tb", 2, 2, "text\n", "hint")
	f.Add("\xff\xfe\x1b[31m", 1, 4, "\x9b", "")
	f.Add(strings.Repeat("x", 500), 1, 499, "", "")
	f.Fuzz(func(t *testing.T, content string, line, column int, text, hint string) {
		p := Problem{Pos: Pos{"f", max(line, 0), max(column, 0)}, Text: text, Hint: hint}
		var b bytes.Buffer
		if err := Text(&b, List{p}, TextOptions{Source: source(map[string]string{"f": content})}); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\r\a\b") {
			t.Errorf("control characters in %q", b.String())
		}
		var a bytes.Buffer
		if err := Annotations(&a, List{p}); err != nil {
			t.Fatal(err)
		}
		if strings.Count(a.String(), "\n") != 1 {
			t.Errorf("one problem became several lines: %q", fmt.Sprint(a.String()))
		}
	})
}
