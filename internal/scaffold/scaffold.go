// Package scaffold writes a first template for people to start from: what
// `imgbake init` does. The templates themselves are in the folder templates.
package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/templates"
)

// Kind is a starter template.
type Kind struct {
	Name    string
	Doc     string
	Main    string // the template's file
	Command string // what to do next
}

// Kinds are the starter templates, the simplest first.
func Kinds() []Kind {
	return []Kind{
		{"hello", "one image in 15 lines", "imgbake.yaml", "imgbake build && docker run --rm hello"},
		{"web", "a web service and its worker in stages, with publishing", "imgbake.yaml", "imgbake plan"},
		{"packer", "a Packer JSON template", "base-image.json", "imgbake build base-image.json"},
	}
}

// Options say what to write.
type Options struct {
	Kind   string // of Kinds; "" is hello
	Force  bool   // overwrite files that are there
	GitHub bool   // also a workflow for GitHub Actions
}

// Write writes the starter template into a folder and returns the files' names
// in order. If one of them is there already nothing is written, unless forced.
func Write(root *os.Root, o Options) ([]string, error) {
	kind, err := find(o.Kind)
	if err != nil {
		return nil, err
	}
	files, err := collect(kind, o.GitHub)
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
func collect(kind Kind, github bool) ([]file, error) {
	var files []file
	err := fs.WalkDir(templates.FS, kind.Name, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := templates.FS.ReadFile(name)
		files = append(files, file{strings.TrimPrefix(name, kind.Name+"/"), content})
		return err
	})
	if err == nil && github {
		var content []byte
		content, err = templates.FS.ReadFile("github/bake.yml")
		content = bytes.ReplaceAll(content, []byte("TEMPLATE: imgbake.yaml"), []byte("TEMPLATE: "+kind.Main))
		files = append(files, file{".github/workflows/bake.yml", content})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, err
}

// refuse reports every file that is in the way.
func refuse(root *os.Root, files []file) error {
	var there []string
	for _, f := range files {
		_, err := root.Lstat(f.name)
		switch {
		case err == nil:
			there = append(there, f.name)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if len(there) == 0 {
		return nil
	}
	return diag.Problem{Text: "already here: " + strings.Join(there, ", "), Hint: "overwrite with --force"}
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
