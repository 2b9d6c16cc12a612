package scaffold

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
)

func newRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func read(t *testing.T, root *os.Root, name string) string {
	t.Helper()
	content, err := root.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestWriteEveryKind(t *testing.T) {
	want := map[string][]string{
		"":      {"imgbake.yaml"},
		"hello": {"imgbake.yaml"},
		"web": {"app/cgi-bin/status", "app/index.html", "imgbake.yaml", "scripts/harden.sh",
			"worker/worker.sh"},
		"packer": {"base-image.json"},
	}
	for kind, files := range want {
		t.Run(kind, func(t *testing.T) {
			root := newRoot(t)
			got, err := Write(root, Options{Kind: kind})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(files, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, name := range got {
				if read(t, root, name) == "" {
					t.Errorf("%s is empty", name)
				}
			}
		})
	}
}

func TestKindsHaveTheirMainFile(t *testing.T) {
	for _, k := range Kinds() {
		root := newRoot(t)
		if _, err := Write(root, Options{Kind: k.Name}); err != nil {
			t.Fatal(err)
		}
		if _, err := root.Stat(k.Main); err != nil || k.Doc == "" || k.Command == "" {
			t.Errorf("%+v: %v", k, err)
		}
	}
}

func TestScriptsCanBeRun(t *testing.T) {
	root := newRoot(t)
	files, err := Write(root, Options{Kind: "web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		info, err := root.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		script := strings.HasPrefix(read(t, root, name), "#!")
		if executable := info.Mode()&0o100 != 0; executable != script {
			t.Errorf("%s: a script %t, executable %t", name, script, executable)
		}
	}
}

func TestWriteGitHub(t *testing.T) {
	for kind, main := range map[string]string{"web": "imgbake.yaml", "packer": "base-image.json"} {
		root := newRoot(t)
		if _, err := Write(root, Options{Kind: kind, GitHub: true}); err != nil {
			t.Fatal(err)
		}
		workflow := read(t, root, ".github/workflows/bake.yml")
		if !strings.Contains(workflow, "TEMPLATE: "+main+"\n") {
			t.Errorf("%s: the workflow bakes another template", kind)
		}
		checkWorkflow(t, workflow)
	}
}

// checkWorkflow holds the workflow to the rules for ours: every action by
// commit, no expression inside a script, no rights by default.
func checkWorkflow(t *testing.T, workflow string) {
	t.Helper()
	if !strings.Contains(workflow, "\npermissions: {}\n") || !strings.Contains(workflow, "persist-credentials: false") {
		t.Error("the workflow has more rights than it needs")
	}
	script := -1 // indentation of the run key we are in
	for line := range strings.Lines(workflow) {
		indent := len(line) - len(strings.TrimLeft(line, " -"))
		text := strings.TrimLeft(line, " -")
		if _, ref, ok := strings.Cut(text, "uses: "); ok {
			_, commit, _ := strings.Cut(strings.Fields(ref)[0], "@")
			if len(commit) != 40 {
				t.Errorf("not pinned to a commit: %s", line)
			}
		}
		if strings.HasPrefix(text, "run:") {
			script = indent
		} else if indent <= script {
			script = -1
		}
		if script >= 0 && strings.Contains(line, "${{") {
			t.Errorf("an expression inside a script: %s", line)
		}
	}
}

func TestWriteRefusesToOverwrite(t *testing.T) {
	root := newRoot(t)
	for _, name := range []string{"imgbake.yaml", "app/index.html"} {
		if err := root.MkdirAll("app", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := root.WriteFile(name, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	names, err := Write(root, Options{Kind: "web"})
	var problem diag.Problem
	if !errors.As(err, &problem) || problem.Text != "already here: app/index.html, imgbake.yaml" {
		t.Errorf("got %v, %v", names, err)
	}
	if _, err := root.Stat("scripts"); err == nil {
		t.Error("something was written all the same")
	}
	if got := read(t, root, "imgbake.yaml"); got != "mine" {
		t.Errorf("it is overwritten with %q", got)
	}
	if _, err := Write(root, Options{Kind: "web", Force: true}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, "imgbake.yaml"); got == "mine" {
		t.Error("it is not overwritten with force")
	}
}

func TestUnknownKind(t *testing.T) {
	_, err := Write(newRoot(t), Options{Kind: "helo"})
	var problem diag.Problem
	if !errors.As(err, &problem) || problem.Hint != `did you mean "hello"?` {
		t.Errorf("got %v", err)
	}
}

func TestWriteStaysInTheFolder(t *testing.T) {
	root := newRoot(t)
	outside := t.TempDir()
	if err := root.Symlink(outside, "app"); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(root, Options{Kind: "web", Force: true}); err == nil {
		t.Error("it followed a link out of the folder")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}
