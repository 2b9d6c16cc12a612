package actions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// runnerFiles is an environment with every file, as the runner makes it.
func runnerFiles(t testing.TB) env {
	t.Helper()
	dir := t.TempDir()
	e := env{}
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STATE", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS"} {
		e[name] = filepath.Join(dir, strings.ToLower(name))
		if err := os.WriteFile(e[name], nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func content(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// readCommands reads a file of names and values by the runner's rules
// (FileCommandManager.cs): whichever of = and << comes first decides, lines
// end at a line feed only, and the last value of a name counts.
func readCommands(text string) (map[string]string, error) {
	values := map[string]string{}
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			values[line[:equals]] = line[equals+1:]
		case heredoc >= 0:
			name, end, _ := strings.Cut(line, "<<")
			var lines []string
			for {
				if text == "" {
					return nil, fmt.Errorf("no line %q", end)
				}
				line, text, _ = strings.Cut(text, "\n")
				if line == end {
					break
				}
				lines = append(lines, line)
			}
			values[name] = strings.Join(lines, "\n")
		default:
			return nil, fmt.Errorf("line %q", line)
		}
	}
	return values, nil
}

func TestFilesRoundTrip(t *testing.T) {
	e := runnerFiles(t)
	f := NewFiles(e.get, Disk{})
	values := map[string]string{
		"plain": "x", "empty": "", "lines": "a\n\nb\n", "return": "a\rb\r\nc", "json": `{"a": "b<<c"}`,
		"forged": "x\nghadelimiter_\nimage=evil\nother<<EOF", "spaces": "  x  ", "unicode": "é\u2028\U0001F600",
	}
	for name, value := range values {
		for _, set := range []func(string, string) error{f.Output, f.Env, f.State} {
			if err := set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STATE"} {
		got, err := readCommands(content(t, e[file]))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if diff := cmp.Diff(values, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestFilesRefuse(t *testing.T) {
	e := runnerFiles(t)
	f := NewFiles(e.get, Disk{})
	f.delimiter = func() string { return "KNOWN" }
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"value with the delimiter", f.Output("a", "x\nKNOWN\nb=c"), "contains the delimiter"},
		{"name with the delimiter", f.Output("aKNOWN", "x"), "contains the delimiter"},
		{"name with =", f.Output("a=b", "x"), "cannot hold"},
		{"name with <<", f.Env("a<<b", "x"), "cannot hold"},
		{"name with a line feed", f.State("a\nb", "x"), "cannot hold"},
		{"empty name", f.Output("", "x"), "cannot hold"},
		{"name with blanks", f.Output(" a", "x"), "cannot hold"},
		{"NODE_OPTIONS", f.Env("node_options", "x"), "does not allow"},
		{"path of two lines", f.Path("/a\n/b"), "not one line"},
		{"too large", f.Output("a", strings.Repeat("x", MaxOutputs/2)), "larger than"},
		{"artifact by tag", f.Artifact("ghcr.io/o/app:1"), "not name@sha256"},
		{"artifact with =", f.Artifact("a=b@sha256:" + strings.Repeat("0", 64)), "not name@sha256"},
		{"artifact of two lines", f.Artifact("a\nb@sha256:" + strings.Repeat("0", 64)), "not name@sha256"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.what, c.err, c.want)
		}
	}
	for name, path := range e {
		if got := content(t, path); got != "" {
			t.Errorf("%s: got %q, want nothing", name, got)
		}
	}
}

// All outputs together count, as UTF-16.
func TestOutputsTogether(t *testing.T) {
	f := NewFiles(runnerFiles(t).get, Disk{})
	if err := f.Output("a", strings.Repeat("x", MaxOutputs/4)); err != nil {
		t.Fatal(err)
	}
	if err := f.Output("b", strings.Repeat("x", MaxOutputs/4)); err == nil {
		t.Error("no error for more than the job may have")
	}
	if err := f.Output("c", "still"); err != nil {
		t.Error(err)
	}
}

func TestPathAndArtifacts(t *testing.T) {
	e := runnerFiles(t)
	f := NewFiles(e.get, Disk{})
	ref := "ghcr.io/o/app@sha256:" + strings.Repeat("a", 64)
	if err := errors.Join(f.Path("/opt/a"), f.Path("/opt/b c"), f.Artifact(ref)); err != nil {
		t.Fatal(err)
	}
	if got, want := content(t, e["GITHUB_PATH"]), "/opt/a\n/opt/b c\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := content(t, e["GITHUB_ARTIFACTS"]), "oci://"+ref+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range MaxSubjects {
		if err := f.Artifact(ref); err != nil {
			return
		}
	}
	t.Error("no error for more artifacts than a job may name")
}

func TestFilesUnavailable(t *testing.T) {
	f := NewFiles(env{}.get, Disk{})
	_, summary := f.Summary("x")
	for _, err := range []error{f.Output("a", "b"), f.Env("a", "b"), f.State("a", "b"), f.Path("a"), summary, f.Artifact("a@sha256:" + strings.Repeat("0", 64))} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
}

func TestFilesErrorsAreReturned(t *testing.T) {
	f := NewFiles(env{"GITHUB_OUTPUT": filepath.Join(t.TempDir(), "no", "such")}.get, Disk{})
	if err := f.Output("a", "b"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

func TestSummary(t *testing.T) {
	e := runnerFiles(t)
	f := NewFiles(e.get, Disk{})
	if cut, err := f.Summary("# One"); cut || err != nil {
		t.Fatal(cut, err)
	}
	big := strings.Repeat("é a row\n", MaxSummary/9)
	if cut, err := f.Summary(big); !cut || err != nil {
		t.Fatalf("cut %v, error %v, want it cut", cut, err)
	}
	if cut, err := f.Summary("more"); !cut || err != nil {
		t.Errorf("cut %v, error %v, want it cut", cut, err)
	}
	got := content(t, e["GITHUB_STEP_SUMMARY"])
	if len(got) > MaxSummary || !strings.HasPrefix(got, "# One\né a row\n") || !utf8.ValidString(got) {
		t.Errorf("%d bytes, begins %q", len(got), got[:20])
	}
	if lines := strings.Split(strings.TrimSpace(got), "\n"); !strings.Contains(lines[len(lines)-1], "left out") {
		t.Errorf("last line %q does not say that something is left out", lines[len(lines)-1])
	}
}

func TestCutMarkdown(t *testing.T) {
	const note = "_cut_"
	for _, c := range []struct {
		name, text string
		limit      int
		want       string
	}{
		{"fits", "abc", 3, "abc"},
		{"at a line", "one\ntwo\nthree\n", 12, "one\n\n_cut_\n"},
		{"code is closed", "a\n```sh\n" + strings.Repeat("x\n", 50), 24, "a\n```sh\nx\nx\n```\n\n_cut_\n"},
		{"details are closed", "<details><table>\n" + strings.Repeat("x\n", 50), 60, "<details><table>\nx\nx\nx\nx\nx\nx\nx\n\n</table>\n\n</details>\n\n_cut_\n"},
		{"tags in code are text", "```\n<details>\n```\n" + strings.Repeat("x\n", 50), 30, "```\n<details>\n```\nx\nx\n\n_cut_\n"},
		{"one long line", strings.Repeat("x", 100), 10, "\n_cut_\n"},
		{"only the note", strings.Repeat("x", 100), 6, "_cut_\n"},
		{"not even the note", strings.Repeat("x", 100), 3, ""},
	} {
		got, _ := CutMarkdown(c.text, c.limit, note)
		if got != c.want || len(got) > c.limit {
			t.Errorf("%s: got %q (%d bytes), want %q", c.name, got, len(got), c.want)
		}
	}
}

// A value reads back as it is, and forges no other name.
func FuzzOutput(f *testing.F) {
	f.Add("image", "x\nghadelimiter_X\nimage=evil\n")
	f.Add("a<<b", "\r\n")
	f.Add("a<", "x")
	f.Fuzz(func(t *testing.T, name, value string) {
		e := runnerFiles(t)
		err := NewFiles(e.get, Disk{}).Output(name, value)
		got, parseErr := readCommands(content(t, e["GITHUB_OUTPUT"]))
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		want := map[string]string{name: value}
		if err != nil {
			want = map[string]string{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWorkspaceOwner(t *testing.T) {
	dir := t.TempDir()
	got, err := WorkspaceOwner(env{"GITHUB_WORKSPACE": dir}.get, Disk{})
	if want := (Owner{os.Getuid(), os.Getgid()}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := WorkspaceOwner(env{}.get, Disk{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
