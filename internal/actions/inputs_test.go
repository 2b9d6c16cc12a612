package actions

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// env is an environment.
type env map[string]string

func (e env) get(name string) string { return e[name] }

func input(name, value string) Inputs {
	return NewInputs(env{InputVariable(name): value}.get)
}

func TestInputVariable(t *testing.T) {
	for name, want := range map[string]string{
		"cache-from": "INPUT_CACHE-FROM", "my input": "INPUT_MY_INPUT", "Var_Files": "INPUT_VAR_FILES",
	} {
		if got := InputVariable(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestBool(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{"true", true}, {"True", true}, {"TRUE", true}, {" true\n", true},
		{"false", false}, {"False", false}, {"FALSE", false}, {"", true},
	} {
		if got, err := input("push", c.text).Bool("push", true); err != nil || got != c.want {
			t.Errorf("%q: got %v, %v, want %v", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"yes", "1", "tRUE", "on"} {
		if _, err := input("push", text).Bool("push", true); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("input push: %q", text)) {
			t.Errorf("%q: got error %v", text, err)
		}
	}
}

func TestLists(t *testing.T) {
	text := " a, b\r\n# c\n\n\"d,e\",f\n  g # h\n\"i\nj\"\"k\n,"
	want := []string{"a", "b", "d,e", "f", "g # h", `"i`, `j""k`}
	if diff := cmp.Diff(want, input("only", text).List("only")); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	wantLines := []string{"a, b", `"d,e",f`, "g # h", `"i`, `j""k`, ","}
	if diff := cmp.Diff(wantLines, input("only", text).Lines("only")); diff != "" {
		t.Errorf("Lines (-want +got):\n%s", diff)
	}
	if got := input("only", "").List("only"); got != nil {
		t.Errorf("empty: got %q", got)
	}
}

func TestPairs(t *testing.T) {
	text := strings.Join([]string{
		"# comment", "", "token = abc=d<<e  ", "empty=", "csv=a,b \"c\"",
		`"quoted=first`, "  second, \"\"with quotes\"\"", `"`,
		"heredoc<<END", "  -----BEGIN KEY-----", "", "abc=", "END ", `"one=line"`, "with.dot-dash=1\r",
	}, "\n")
	want := []Pair{
		{"token", "abc=d<<e"}, {"empty", ""}, {"csv", `a,b "c"`},
		{"quoted", "first\n  second, \"with quotes\"\n"},
		{"heredoc", "  -----BEGIN KEY-----\n\nabc="}, {"one", "line"}, {"with.dot-dash", "1"},
	}
	got, err := input("secrets", text).Pairs("secrets")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is wrong is told by line and name, and never shows a value.
func TestPairsProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a=1\nhunter2canary", "line 2: not name=value"},
		{"KEY=-----BEGIN RSA hunter2canary-----\nabc", "line 1: the value of KEY seems to have several lines: write it as KEY<<END"},
		{"ok=1\nMIIhunter2canary+/=", "line 2: not name=value"},
		{"a=hunter2canary\nb=2\na=3", "line 3: a is already on line 1"},
		{"a<<END\nhunter2canary", "line 1: the value of a has no end: no line is END"},
		{"a<<\nhunter2canary", "line 1: not name=value"},
		{"\"a=hunter2canary\nb=2", "line 1: a value in quotes has no closing quote"},
		{`"a=x"hunter2canary`, `line 1: not "name=value"`},
		{`"hunter2canary"`, `line 1: not "name=value"`},
		{"=hunter2canary", "line 1: not name=value"},
	} {
		_, err := input("secrets", c.text).Pairs("secrets")
		if err == nil || !strings.HasPrefix(err.Error(), "input secrets: "+c.want) {
			t.Errorf("%q: got %v, want %q", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the value: %v", c.text, err)
		}
	}
}

func TestPairPrintsNoValue(t *testing.T) {
	p := Pair{"token", "hunter2"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(format, []Pair{p}); strings.Contains(got, "hunter2") {
			t.Errorf("%s shows the value: %s", format, got)
		}
	}
}

func FuzzPairs(f *testing.F) {
	f.Add("a=1\nb<<E\nx\nE\n\"c=\"\"d\"\"\n\"")
	f.Add("\"a=\n\"\"\"\n#\n<<\n=")
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := parsePairs(text)
		if err != nil && pairs != nil {
			t.Errorf("pairs %v beside the error %v", pairs, err)
		}
		for _, p := range pairs {
			if !pairName.MatchString(p.Name) || !strings.Contains(strings.ReplaceAll(text, "\r", ""), p.Name) {
				t.Errorf("name %q of %q", p.Name, text)
			}
		}
	})
}
