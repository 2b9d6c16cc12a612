// Package scaffold writes a first template for people to start from: what
// `imgbake init` does. The templates themselves are in the folder templates.
package scaffold

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/templates"
)

// Workflow is where the workflow for GitHub Actions is written.
const Workflow = ".github/workflows/images.yml"

// Action is the action that workflows use unless another is asked for. Its tag
// moves; the page of a release names the commit to use in its place.
const Action = "imgbake/imgbake-action@v1"

// Kind is a starter template.
type Kind struct {
	Name    string
	Doc     string
	Main    string // the template's file
	Command string // what to do next

	inputs []string // of the action, in the workflow
}

// Kinds are the starter templates, the simplest first.
func Kinds() []Kind {
	return []Kind{
		{"hello", "one image in 15 lines", "imgbake.yaml", "imgbake build && docker run --rm hello",
			[]string{"repositories: ghcr.io/${{ github.repository }}"}},
		{"web", "a web service and its worker in stages, with publishing", "imgbake.yaml", "imgbake plan",
			[]string{"vars: registry=ghcr.io/${{ github.repository_owner }}"}},
		{"packer", "a Packer JSON template", "base-image.json", "imgbake build base-image.json",
			[]string{"template: base-image.json", "repositories: ghcr.io/${{ github.repository }}"}},
	}
}

// Options say what to write.
type Options struct {
	Kind   string // of Kinds; "" is hello, or none if the folder has a template and a workflow is asked for
	Force  bool   // overwrite files that are there
	GitHub bool   // also a workflow for GitHub Actions
	Action string // what the workflow uses; "" is Action
}

// Write writes the starter template into a folder and returns the files' names
// in order. If one of them is there already nothing is written, unless forced.
func Write(root *os.Root, o Options) ([]string, error) {
	kind, err := find(o.Kind)
	if err != nil {
		return nil, err
	}
	if o.Kind == "" && o.GitHub && there(root, kind.Main) {
		kind = Kind{} // what is there says what to publish, and where
	}
	files, err := collect(kind)
	if err == nil && o.GitHub {
		files, err = forGitHub(files, kind, cmp.Or(o.Action, Action))
	}
	if err != nil {
		return nil, err
	}
	if !o.Force {
		if err := refuse(root, files); err != nil {
			return nil, err
		}
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
		if err := f.write(root); err != nil {
			return names[:i], err
		}
	}
	return names, nil
}

func find(name string) (Kind, error) {
	kinds := Kinds()
	if name == "" {
		return kinds[0], nil
	}
	var names []string
	for _, k := range kinds {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, diag.Problem{Text: fmt.Sprintf("unknown template %q", name), Hint: diag.Suggest(name, names)}
}

type file struct {
	name    string
	content []byte
}

// collect reads a kind's files, sorted by name.
func collect(kind Kind) ([]file, error) {
	if kind.Name == "" {
		return nil, nil
	}
	var files []file
	err := fs.WalkDir(templates.FS, kind.Name, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := templates.FS.ReadFile(name)
		files = append(files, file{strings.TrimPrefix(name, kind.Name+"/"), content})
		return err
	})
	return files, err
}

var (
	actionRef  = regexp.MustCompile(`^[A-Za-z0-9.][A-Za-z0-9._:/-]*@[A-Za-z0-9._:/-]+$`)
	actionLine = regexp.MustCompile(`(?m)uses: ` + regexp.QuoteMeta(Action) + `.*$`)
)

// forGitHub adds the workflow. The tags of what it publishes are up to the
// event: a preview must not move `latest`.
func forGitHub(files []file, kind Kind, action string) ([]file, error) {
	if !actionRef.MatchString(action) {
		return nil, diag.Problem{Text: fmt.Sprintf("action %q", action), Hint: "such as " + Action + ", better with a commit than a tag"}
	}
	workflow, err := templates.FS.ReadFile("github/images.yml")
	if err != nil {
		return nil, err
	}
	if action != Action {
		workflow = actionLine.ReplaceAllLiteral(workflow, []byte("uses: "+action))
	}
	if len(kind.inputs) > 0 {
		workflow = append(workflow, "        with:\n          "+strings.Join(kind.inputs, "\n          ")+"\n"...)
	}
	for i, f := range files {
		files[i].content = bytes.ReplaceAll(f.content, []byte(`tags: ["${var.version}", latest]`), []byte("tags: [auto]"))
	}
	files = append(files, file{Workflow, workflow})
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

func there(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return err == nil
}

// refuse reports every file that is in the way.
func refuse(root *os.Root, files []file) error {
	var inTheWay []string
	for _, f := range files {
		_, err := root.Lstat(f.name)
		switch {
		case err == nil:
			inTheWay = append(inTheWay, f.name)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if len(inTheWay) == 0 {
		return nil
	}
	return diag.Problem{Text: "already here: " + strings.Join(inTheWay, ", "), Hint: "overwrite with --force"}
}

// write puts the file there; one that starts with #! can be run.
func (f file) write(root *os.Root) error {
	if err := root.MkdirAll(path.Dir(f.name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(f.content, []byte("#!")) {
		mode = 0o755
	}
	return root.WriteFile(f.name, f.content, mode)
}
