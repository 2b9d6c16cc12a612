package archtest

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/imgbake/imgbake-action"

func load(t *testing.T) []Package {
	t.Helper()
	packages, err := Load(os.DirFS("../.."), module)
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 20 {
		t.Fatalf("found %d packages only", len(packages))
	}
	return packages
}

func TestImportRules(t *testing.T) {
	for _, fault := range Imports(load(t), Rules, Fences) {
		t.Error(fault)
	}
}

func TestHabits(t *testing.T) {
	for _, fault := range Habits(load(t)) {
		t.Error(fault)
	}
}

// The measures are a mirror to look into, not a gate: see them with -v.
func TestMeasures(t *testing.T) {
	packages := load(t)
	m := Measure(packages)
	over := len(m.Functions) - slices.IndexFunc(append(m.Functions, 1<<20), func(n int) bool { return n > 60 })
	t.Logf("functions: %d, p50 %d (goal 10), p90 %d (42), p99 %d (80), longest %d, over 60 lines %.1f %% (3)", len(m.Functions),
		m.Percentile(50), m.Percentile(90), m.Percentile(99), m.Percentile(100), 100*float64(over)/float64(len(m.Functions)))
	t.Logf("longest chain of imports: %s", strings.Join(Depth(packages), " > "))
	for name, n := range m.Interfaces {
		if n > 3 {
			t.Logf("%s has %d methods (goal 3)", name, n)
		}
	}
}

// source makes a module of files and checks it against all rules.
func source(t *testing.T, files map[string]string) []string {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	packages, err := Load(tree, module)
	if err != nil {
		t.Fatal(err)
	}
	return append(Imports(packages, Rules, Fences), Habits(packages)...)
}

// The rules can fail: each of these breaks one.
func TestWrongImportsAreFound(t *testing.T) {
	tests := map[string]struct{ path, imports, want string }{
		"upwards":           {"internal/bake", module + "/internal/run", "internal/bake imports internal/run"},
		"a sibling":         {"internal/builder/foo", module + "/internal/builder/docker", "internal/builder/foo imports internal/builder/docker"},
		"a component":       {"internal/cli", module + "/internal/builder/docker", "internal/cli imports internal/builder/docker"},
		"the catalog":       {"internal/cli", module + "/internal/catalog", "internal/cli imports internal/catalog"},
		"out of the bottom": {"internal/diag", module + "/internal/secret", "it may import nothing of this module only"},
		"a fenced module":   {"internal/run", "github.com/docker/docker/client", "stays inside builder/docker"},
		"a fenced package":  {"internal/store", "github.com/google/go-containerregistry/pkg/v1/remote", "stays inside registry"},
		"a banned module":   {"internal/run", "github.com/pkg/errors", "that stays inside"},
		"no place":          {"internal/newthing", "fmt", "internal/newthing: the rules have no place for it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := source(t, map[string]string{test.path + "/x.go": "// Package x is one.\npackage x\n\nimport _ \"" + test.imports + "\"\n"})
			if len(got) != 1 || !strings.Contains(got[0], test.want) {
				t.Errorf("got %q, want one fault with %q", got, test.want)
			}
		})
	}
}

func TestRightImportsAreNot(t *testing.T) {
	got := source(t, map[string]string{
		"internal/builder/docker/x.go": "// Package docker is one.\npackage docker\n\nimport (\n\t_ \"fmt\"\n\t_ \"github.com/docker/docker/client\"\n\t_ \"" +
			module + "/internal/guest\"\n\t_ \"" + module + "/internal/communicator/ssh\"\n)\n",
		"internal/builder/docker/x_test.go":     "package docker\n\nimport _ \"" + module + "/internal/run\"\n",
		"internal/builder/docker/testdata/x.go": "package broken",
		"cmd/imgbake/main.go":                   "// Command imgbake is one.\npackage main\n\nimport (\n\t\"os\"\n\n\t_ \"" + module + "/internal/cli\"\n)\n\nfunc main() { os.Exit(0) }\n",
	})
	if got != nil {
		t.Errorf("got %q", got)
	}
}

func TestBadHabitsAreFound(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"package comment": {"package diag", "no package comment"},
		"init":            {"func init() {}", "no init()"},
		"exit":            {"func f() { os.Exit(1) }", "os.Exit: only main"},
		"log":             {"func f() { log.Fatalf(`x`) }", "log.Fatalf"},
		"environment":     {"func f() { os.Getenv(`HOME`) }", "main passes the environment in"},
		"clock":           {"var now = time.Now", "main passes the clock in"},
		"function":        {"func F() {}", "F is exported and has no comment"},
		"method":          {"// T is one.\ntype T struct{}\n\nfunc (*T) F() {}", "F is exported"},
		"generic method":  {"// T is one.\ntype T[A any] struct{}\n\nfunc (T[A]) F() {}", "F is exported"},
		"type":            {"type T int", "T is exported"},
		"constant":        {"const C = 1", "C is exported"},
		"failed to":       {"var e = errors.New(`failed to open`)", "failed to"},
		"hidden cause":    {"func f(err error) error { return fmt.Errorf(`open: %v`, err) }", "use %w"},
		"long function":   {"func f() {" + strings.Repeat("\n", 101) + "}", "f has 102 lines"},
		"long file":       {strings.Repeat("\n", 601), "more than 600"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := test.text
			if !strings.HasPrefix(text, "package") {
				text = "// Package diag is one.\npackage diag\n\nimport (\n\t\"errors\"\n\t\"fmt\"\n\t\"log\"\n\t\"os\"\n\t\"time\"\n)\n\n" + text
			}
			got := source(t, map[string]string{"internal/diag/x.go": text})
			if len(got) != 1 || !strings.Contains(got[0], test.want) {
				t.Errorf("got %q, want one fault with %q", got, test.want)
			}
		})
	}
	if got := source(t, map[string]string{"internal/util/x.go": "// Package util is bad.\npackage util"}); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "says nothing") }) {
		t.Errorf("util: got %q", got)
	}
}

func TestGoodHabitsAreNot(t *testing.T) {
	got := source(t, map[string]string{"internal/diag/x.go": `// Package diag is one.
package diag

// The words.
const (
	A = 1
	B = 2
)

const C = 3 // has a comment

// T is one.
type T struct{ Field int }

// Do does.
func (T) Do() {}

type t struct{}

func (t) Do() {}

func f(err error) error { return fmt.Errorf("open: %w", err) }
`})
	if got != nil {
		t.Errorf("got %q", got)
	}
}

func TestDepthAndMeasures(t *testing.T) {
	packages := []Package{{Path: "a", Imports: []string{"b", "c", "fmt"}}, {Path: "b", Imports: []string{"c"}}, {Path: "c"}}
	if diff := cmp.Diff([]string{"a", "b", "c"}, Depth(packages)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	m := Measures{Functions: []int{1, 2, 3, 4, 100}}
	if m.Percentile(50) != 3 || m.Percentile(100) != 100 || (Measures{}).Percentile(50) != 0 {
		t.Errorf("got %d and %d", m.Percentile(50), m.Percentile(100))
	}
}
