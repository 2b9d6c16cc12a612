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

// How the workflow goes on after the line with the action. That it is the one in
// the documents, and safe, is tested in scripts/workflows.
func TestWriteGitHub(t *testing.T) {
	for kind, want := range map[string]string{
		"hello":  "        with:\n          repositories: ghcr.io/${{ github.repository }}\n",
		"web":    "        with:\n          vars: registry=ghcr.io/${{ github.repository_owner }}\n",
		"packer": "        with:\n          template: base-image.json\n          repositories: ghcr.io/${{ github.repository }}\n",
	} {
		root := newRoot(t)
		if _, err := Write(root, Options{Kind: kind, GitHub: true}); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(read(t, root, Workflow), "uses: "+Action)
		if _, got, _ = strings.Cut(got, "\n"); got != want {
			t.Errorf("%s: after the action comes %q, want %q", kind, got, want)
		}
	}
}

// A preview must not move latest.
func TestWriteGitHubTags(t *testing.T) {
	root := newRoot(t)
	if _, err := Write(root, Options{Kind: "web", GitHub: true}); err != nil {
		t.Fatal(err)
	}
	text := read(t, root, "imgbake.yaml")
	if n := strings.Count(text, "tags: [auto]"); n != 2 || strings.Contains(text, "latest") {
		t.Errorf("%d targets have automatic tags:\n%s", n, text)
	}
}

func TestWriteGitHubBesideATemplate(t *testing.T) {
	root := newRoot(t)
	if err := root.WriteFile("imgbake.yaml", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Write(root, Options{GitHub: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{Workflow}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if text := read(t, root, Workflow); read(t, root, "imgbake.yaml") != "mine" || !strings.Contains(text, "uses: "+Action) || strings.Contains(text, "repositories:") {
		t.Errorf("the workflow does not leave the template alone:\n%s", text)
	}
	var problem diag.Problem
	if _, err := Write(root, Options{GitHub: true}); !errors.As(err, &problem) || problem.Text != "already here: "+Workflow {
		t.Errorf("again: %v", err)
	}
	if _, err := Write(root, Options{Kind: "hello", GitHub: true}); !errors.As(err, &problem) {
		t.Errorf("a starter that was asked for: %v", err)
	}
}

func TestWriteGitHubAction(t *testing.T) {
	for action, good := range map[string]bool{
		"acme/imgbake-action@0123456789012345678901234567890123456789":   true,
		"https://code.example.com/acme/imgbake-action@v1":                true,
		"docker://ghcr.io/acme/imgbake-action@sha256:0123456789abcdef01": true,
		"imgbake/imgbake-action":                                         false,
		"a/b@v1\n      - run: evil":                                      false,
		"a/b@${{ github.ref }}":                                          false,
	} {
		root := newRoot(t)
		_, err := Write(root, Options{GitHub: true, Action: action})
		if (err == nil) != good {
			t.Errorf("%s: %v", action, err)
		}
		if good && !strings.Contains(read(t, root, Workflow), "      - uses: "+action+"\n        with:\n") {
			t.Errorf("%s is not what the workflow uses:\n%s", action, read(t, root, Workflow))
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
