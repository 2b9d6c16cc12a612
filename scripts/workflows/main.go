// Command workflows writes every workflow of this repository into a folder, for
// actionlint: those in .github, the templates, those that documents show, and
// those that `imgbake init --github` writes. Its tests hold them to the house's
// rules.
//
//	go run ./scripts/workflows FOLDER
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/imgbake/imgbake-action/internal/scaffold"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workflows:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("one folder is wanted")
	}
	return writeAll(".", args[0])
}

func writeAll(root, dir string) error {
	all, err := find(root)
	if err != nil {
		return err
	}
	for _, w := range all {
		name := strings.NewReplacer("/", "-", ":", "-", " ", "-").Replace(strings.TrimPrefix(w.name, "."))
		if err := os.WriteFile(filepath.Join(dir, name+".yml"), []byte(w.text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// workflow is one, and what it is called in messages.
type workflow struct{ name, text string }

// find finds every workflow of the repository at root.
func find(root string) (all []workflow, err error) {
	for _, pattern := range []string{".github/workflows/*.yml", "templates/github/*.yml", "*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			name := filepath.ToSlash(strings.TrimPrefix(file, filepath.Clean(root)+string(filepath.Separator)))
			if filepath.Ext(file) == ".md" {
				all = append(all, shown(name, string(text))...)
				continue
			}
			all = append(all, workflow{name, string(text)})
		}
	}
	scaffolded, err := scaffolded()
	return append(all, scaffolded...), err
}

var (
	fence = regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```$")
	jobs  = regexp.MustCompile(`(?m)^jobs:`)
)

// shown are the workflows in a document. Empty lines in front keep the line
// numbers of the document.
func shown(name, text string) (all []workflow) {
	for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
		if block := text[m[2]:m[3]]; jobs.MatchString(block) {
			line := strings.Count(text[:m[2]], "\n")
			all = append(all, workflow{fmt.Sprintf("%s:%d", name, line+1), strings.Repeat("\n", line) + block})
		}
	}
	return all
}

// scaffolded are what `imgbake init --github` writes, for each starter template
// and beside a template that is there.
func scaffolded() (all []workflow, err error) {
	names := []string{""}
	for _, k := range scaffold.Kinds() {
		names = append(names, k.Name)
	}
	for _, kind := range names {
		text, err := scaffoldedFor(kind)
		if err != nil {
			return nil, err
		}
		all = append(all, workflow{strings.TrimSpace("init --github " + kind), text})
	}
	return all, nil
}

func scaffoldedFor(kind string) (string, error) {
	dir, err := os.MkdirTemp("", "imgbake-workflows-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if kind == "" {
		if err := root.WriteFile("imgbake.yaml", nil, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := scaffold.Write(root, scaffold.Options{Kind: kind, GitHub: true}); err != nil {
		return "", err
	}
	text, err := root.ReadFile(scaffold.Workflow)
	return string(text), err
}
