package main

import (
	"os"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The workflows in templates/github are the ones that documents show, and that
// TestAct runs.
func TestDocumentsShowTheTemplates(t *testing.T) {
	for template, documents := range map[string][]string{
		"images.yml":  {"README.md", "docs/howto-action.md"},
		"comment.yml": {"docs/howto-action.md"},
		"matrix.yml":  {"docs/howto-action.md"},
	} {
		want := "```yaml\n" + read(t, "templates/github/"+template) + "```\n"
		for _, document := range documents {
			if !strings.Contains(read(t, document), want) {
				t.Errorf("%s does not show templates/github/%s as it is", document, template)
			}
		}
	}
}

// `imgbake init --github` writes the documented workflow; a starter template
// adds inputs at its end.
func TestInitWritesTheTemplate(t *testing.T) {
	want := read(t, "templates/github/images.yml")
	all, err := scaffolded()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		added, ok := strings.CutPrefix(w.text, want)
		if !ok || added != "" && !strings.HasPrefix(added, "        with:\n") {
			t.Errorf("%s: a workflow of its own:\n%s", w.name, w.text)
		}
		if (added == "") != (w.name == "init --github") {
			t.Errorf("%s adds %q", w.name, added)
		}
	}
}

// Blocks of documents keep their line numbers; what is no workflow is left out.
func TestShown(t *testing.T) {
	all := shown("a.md", "# A\n\n```yaml\nimages: {}\n```\n\n```yaml\non: push\njobs: {}\n```\n\n```\njobs: {}\n```\n")
	if len(all) != 1 || all[0].name != "a.md:8" || all[0].text != "\n\n\n\n\n\n\non: push\njobs: {}\n" {
		t.Errorf("got %+v", all)
	}
}

func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	if err := writeAll(root, dir); err != nil {
		t.Fatal(err)
	}
	all, err := find(root)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != len(all) {
		t.Errorf("%d files for %d workflows, %v", len(files), len(all), err)
	}
}
