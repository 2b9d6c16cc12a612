package comment

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

var payloads = []string{
	"@octocat", "a@b.example", "hello @acme/admins!", "#1", "GH-1", "acme/shop#12",
	"](javascript:alert(1))", "[x](javascript:alert(1))", "![x](https://evil.example/x.png)", "<https://evil.example>",
	"https://evil.example/x", "www.evil.example", "ftp://evil.example", "mailto:a@b.example",
	"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</code></summary></details><h1>x", "<!-- x", "-->", "&lt;b&gt;", "<br", "&amp;#64;",
	"`", "``", "```", "````\n# x", "` | ` | x", "a`b``c```d", "\\`", "\\", "\\\\", "x\\",
	"|", "a | b | c", "\\|", "a\\|b", "||||", "| ✅ | **fake** |",
	"a\n\n# heading", "a\r\n| x | y |", "\n> [!CAUTION]\n> x", "\n```\nx", "\n</details>\n", "a\u2028b", "a\u0085b",
	"*x*", "**x**", "_x_", "__x__", "~~x~~", "- x", "1. x", "> x", "# x", "---", "===", "    x", "\tx", " x ", "   ", "x  ", "[x]: https://evil.example", "[ ] x", "[^1]", ":tada:", "$x$", "$$x$$",
	"\u202egnp.exe", "a\u2066b\u2069", "\u200f", "\u200bx", "\ufeff", "\u00a0", "\U000e0041", "\x00", "\x1b[31m", "\x9b", "\xff\xfe", "é\xc3",
	"end\"]:::x", "x\"] --> y[\"z", "%%{init: {}}%%", "click n0 \"javascript:alert(1)\"", "#quot;", strings.Repeat("x", 5000), strings.Repeat("`", 500), strings.Repeat("|", 500), strings.Repeat("@a ", 300),
}

// everywhere makes sections in which every string, addresses excepted, is s.
func everywhere(s string) []Section {
	sections := []Section{failed(), preview("b", "c", 42), closed(), {Leg: "old", Run: 1, Data: oldData()}}
	sections[2].Run = 42
	sections[2].Data.Source.Commit = sections[0].Data.Source.Commit
	for i := range sections {
		fillStrings(reflect.ValueOf(&sections[i]).Elem(), func(field, _ string) (string, bool) {
			return s, !strings.HasSuffix(field, "URL")
		})
		sections[i].Leg = fmt.Sprint(i) + s
		if sections[i].Run == 1 {
			sections[i].Data.Source.Commit = "0" + s
		}
		for j := range sections[i].Data.Stages {
			sections[i].Data.Stages[j].Name = fmt.Sprint(i, j, s)
			sections[i].Data.Stages[j].Needs = []string{fmt.Sprint(i, (j+1)%5, s), "base" + s}
		}
		for j := range sections[i].Data.Problems {
			sections[i].Data.Problems[j].Text = fmt.Sprint(i, j, s)
		}
	}
	return sections
}

// fillStrings replaces the strings of a value, but for states.
func fillStrings(v reflect.Value, with func(field, old string) (string, bool)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillStrings(v.Elem(), with)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if v.Index(i).Kind() == reflect.String {
				if s, ok := with("", v.Index(i).String()); ok {
					v.Index(i).SetString(s)
				}
			}
			fillStrings(v.Index(i), with)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if f.Type() == reflect.TypeFor[string]() {
				if s, ok := with(v.Type().Field(i).Name, f.String()); ok && f.String() != "" {
					f.SetString(s)
				}
				continue
			}
			fillStrings(f, with)
		}
	}
}

// shape is the tree of a page: its tags, and where its links go.
func shape(page string) []string {
	var out []string
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return out
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken, html.CommentToken:
			token := z.Token()
			out = append(out, token.String())
		}
	}
}

var (
	active = regexp.MustCompile(`@\w|#\d|\bGH-\d|://|www\.`)
	bidi   = []rune("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029")
)

// loose is text outside of code that GitHub would make a mention or a link of,
// and text anywhere that hides something.
func loose(page string) (bad []string) {
	depth := 0
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return bad
		case html.StartTagToken:
			if name, _ := z.TagName(); string(name) == "code" || string(name) == "pre" || string(name) == "a" {
				depth++
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "code" || string(name) == "pre" || string(name) == "a" {
				depth--
			}
		case html.TextToken:
			text := z.Token().Data
			if depth == 0 && active.MatchString(text) {
				bad = append(bad, text)
			}
			if strings.ContainsAny(text, string(bidi)) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
				bad = append(bad, fmt.Sprintf("%q", text))
			}
		}
	}
}

// No string changes the tree of the page.
func TestInjection(t *testing.T) {
	want := shape(page(t, Comment(everywhere("harmless"), 1<<20)))
	for _, payload := range payloads {
		markdown := Comment(everywhere(payload), 1<<20)
		got := page(t, markdown)
		if diff := cmp.Diff(want, shape(got)); diff != "" {
			t.Errorf("%.40q changes the page:\n%.1500s", payload, diff)
		}
		if bad := loose(got); bad != nil {
			t.Errorf("%.40q is live in %.300q", payload, bad)
		}
	}
	if links := strings.Count(strings.Join(want, ""), "<a href"); links < 5 {
		t.Errorf("%d links: the test shows nothing", links)
	}
}

// An address is one of the web, or there is no link.
func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"https://github.com/o/r/commit/abc":   "[x](https://github.com/o/r/commit/abc)",
		"http://gitea.local:3000/o/r":         "[x](http://gitea.local:3000/o/r)",
		"https://h/a b(c)<d>[e]`f`|g\"h'":     "[x](https://h/a%20b%28c%29%3Cd%3E%5Be%5D%60f%60%7Cg%22h%27)",
		"https://h/#L1-L2?x=1&y=2":            "[x](https://h/#L1-L2?x=1&y=2)",
		"javascript:alert(1)":                 "x",
		"data:text/html,x":                    "x",
		"//evil.example":                      "x",
		"https://user:pass@evil.example/":     "x",
		"https://h/\n](javascript:alert(1))":  "x",
		"":                                    "x",
		"JaVaScRiPt://github.com/%0Aalert(1)": "x",
	} {
		if got := link("x", in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	for _, payload := range payloads {
		sections := everywhere("x")
		for i := range sections {
			fillStrings(reflect.ValueOf(&sections[i]).Elem(), func(field, _ string) (string, bool) {
				return "https://github.com/" + payload, strings.HasSuffix(field, "URL")
			})
		}
		for _, tag := range shape(page(t, Comment(sections, 1<<20))) {
			if strings.HasPrefix(tag, "<a ") && !strings.HasPrefix(tag, `<a href="https://github.com/`) || strings.HasPrefix(tag, "<img") || strings.HasPrefix(tag, "<script") {
				t.Errorf("%.40q: %s", payload, tag)
			}
		}
	}
}

func FuzzInjection(f *testing.F) {
	for _, p := range payloads {
		f.Add(p)
	}
	want := shape(page(f, Comment(everywhere("harmless"), 1<<20)))
	f.Fuzz(func(t *testing.T, payload string) {
		if payload == "" { // an empty value has no line
			return
		}
		got := page(t, Comment(everywhere(payload), 1<<20))
		if diff := cmp.Diff(want, shape(got)); diff != "" {
			t.Errorf("%q changes the page:\n%s", payload, diff)
		}
		if bad := loose(got); bad != nil {
			t.Errorf("%q is live in %q", payload, bad)
		}
	})
}
