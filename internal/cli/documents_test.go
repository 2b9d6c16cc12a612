package cli_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/catalog"
	"github.com/imgbake/imgbake-action/internal/cli"
)

const root = "../.."

// TestTemplates plans every template in the folder templates.
func TestTemplates(t *testing.T) {
	planned := 0
	err := filepath.WalkDir(filepath.Join(root, "templates"), func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err != nil || d.IsDir() || name != "imgbake.yaml" && filepath.Ext(name) != ".json" {
			return err
		}
		planned++
		t.Run(strings.TrimPrefix(path, root+"/"), func(t *testing.T) { plans(t, filepath.Dir(path), name) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if planned < 3 {
		t.Errorf("only %d templates found", planned)
	}
}

// TestDocuments plans every template in README.md, in the other documents of
// the top folder and in docs. A block of variables alone is a template's first
// half; a workflow for GitHub is no template.
func TestDocuments(t *testing.T) {
	folder := documentFolder(t)
	for _, file := range documents(t) {
		if filepath.Base(file) == "reference.md" {
			continue // made of the components' examples: TestExamples
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks(string(text)) {
			t.Run(fmt.Sprintf("%s:%d", strings.TrimPrefix(file, root+"/"), b.line), func(t *testing.T) { b.plans(t, folder) })
		}
	}
}

// documents are README.md, the other documents of the top folder, and docs.
func documents(t *testing.T) []string {
	files, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	return append(files, more...)
}

// TestLinks follows the links of documents to files of this repository.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			linked, err := os.ReadFile(path)
			switch info, statErr := os.Stat(path); {
			case statErr != nil:
				t.Errorf("%s: %s: %v", file, m[1], statErr)
			case anchor != "" && !info.IsDir() && (err != nil || !anchors(string(linked))[anchor]):
				t.Errorf("%s: %s: no such heading", file, m[1])
			}
		}
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	noAnchor = regexp.MustCompile(`[^\pL\pN_-]`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$|<a id="([^"]+)">`)
)

// anchors are what links can point to: headings as GitHub names them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		out[noAnchor.ReplaceAllString(name, "")+m[2]] = true
	}
	return out
}

// TestGenerated holds the generated documents to what the program says now.
func TestGenerated(t *testing.T) {
	dir := filepath.Join(root, "docs")
	if !*update {
		dir = t.TempDir()
	}
	app := cli.App{Version: "test", Catalog: catalog.All, Stdout: os.Stdout, Stderr: os.Stderr, Dir: ".", Now: time.Now}
	if code := app.Main(t.Context(), []string{"docs", "--dir", dir}); code != cli.ExitDone {
		t.Fatalf("exit code %d", code)
	}
	for _, name := range []string{"reference.md", "schema/imgbake.schema.json"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the components say (%v): run make docs", name, err)
		}
	}
}

// TestStatus holds README's table of what is finished to the catalog.
func TestStatus(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := catalog.All(nil, nil, func(string) string { return "" }, time.Now, bake.Choice{Engine: "auto"})
	for row, want := range map[string][]string{"provisioners": names(all.Provisioners), "post-processors": names(all.Posts)} {
		m := regexp.MustCompile(`(?m)^\| ` + row + ` \| ([^|]*) \|`).FindSubmatch(text)
		if m == nil {
			t.Errorf("README.md has no row %s", row)
			continue
		}
		got := strings.Split(string(m[1]), ", ")
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("README.md, %s (-catalog +table):\n%s", row, diff)
		}
	}
}

func names[T any](kinds []bake.Kind[T]) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.Name)
	}
	slices.Sort(out)
	return out
}

// TestExamples plans the example of every component.
func TestExamples(t *testing.T) {
	all := catalog.All(nil, nil, func(string) string { return "" }, time.Now, bake.Choice{Engine: "auto"})
	folder := documentFolder(t)
	for _, k := range all.Builders {
		text := indent(k.Example, "      ")
		if _, rest, ok := strings.Cut(k.Example, "builders:"); ok {
			text = indent(rest, "      ")
		}
		example(t, folder, "builder "+k.Name, "images:\n  a:\n    builders:\n"+text)
	}
	for _, k := range all.Provisioners {
		example(t, folder, "provisioner "+k.Name, "images:\n  assets: { builders: { docker: { image: debian } } }\n  a:\n    from: assets\n    provisioners:\n"+indent(k.Example, "      "))
	}
	for _, k := range all.Posts {
		example(t, folder, "post-processor "+k.Name, "images:\n  a:\n    builders: { docker: { image: debian } }\n    post_processors:\n"+indent(k.Example, "      "))
	}
}

func example(t *testing.T, folder, name, text string) {
	t.Run(name, func(t *testing.T) {
		block{text: "variables: { motd: hello }\n" + text, language: "yaml"}.plans(t, folder)
	})
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by) + "\n"
}

// block is a fenced code block of a document.
type block struct {
	line     int
	language string
	text     string
}

var fence = regexp.MustCompile("(?ms)^```(yaml|json)\n(.*?)^```$")

func blocks(text string) []block {
	var out []block
	for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
		out = append(out, block{strings.Count(text[:m[0]], "\n") + 1, text[m[2]:m[3]], text[m[4]:m[5]]})
	}
	return out
}

func (b block) has(key string) bool {
	return regexp.MustCompile(`(?m)^` + key).MatchString(b.text)
}

// plans plans the block in a folder that has the files documents speak of.
func (b block) plans(t *testing.T, folder string) {
	name := "imgbake.yaml"
	switch {
	case b.language == "json" && strings.Contains(b.text, `"builders"`):
		name = "template.json"
	case b.language == "json" || b.has("jobs:"):
		t.Skip("no template")
	case b.has("# yaml-language-server") && !b.has("[a-z]"):
		t.Skip("a comment")
	case b.has("variables:") && !b.has("images:"):
		b.text += "images: { none: { builders: [\"null\"] } }\n"
	case !b.has("images:"):
		t.Fatalf("neither a template nor its variables nor a workflow:\n%s", b.text)
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(b.text), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	plans(t, folder, name)
}

// documentFolder is a folder with the files that templates in documents read.
func documentFolder(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{
		"scripts/harden.sh", "scripts/install.sh", "dist/index.html", "app/index.html", "frontend/package.json",
		"rootfs.tar", "Dockerfile", "nginx.conf",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plans runs `imgbake plan`, with a value for the variables that documents leave open.
func plans(t *testing.T, dir, name string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app := cli.App{
		Version: "test", Catalog: catalog.All,
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Dir: dir, Now: time.Now,
		Environ: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
			"PKR_VAR_token=a-secret", "PKR_VAR_password=a-secret", "PKR_VAR_api_key=a-secret", "PKR_VAR_version=1.0",
		},
	}
	if code := app.Main(t.Context(), []string{"plan", name}); code != cli.ExitDone || stderr.Len() > 0 {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
}
