package yaml_test

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
)

// FuzzParse: no input panics, and every problem has a place in the file.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/problems/*.txt")
	for _, file := range append(files, "testdata/template.txt") {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, seed := range a.Files {
			if strings.HasSuffix(seed.Name, ".yaml") && seed.Name != "bomb.yaml" {
				f.Add(seed.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		tmpl, problems := yaml.Parse("f", src, expr.Options{})
		for _, p := range problems {
			checkPlace(t, p, src)
		}
		if !problems.HasErrors() && len(tmpl.Images) == 0 {
			t.Error("a template without images has no problem")
		}
	})
}

func checkPlace(t *testing.T, p diag.Problem, src []byte) {
	t.Helper()
	if p.Pos.File != "f" || p.Text == "" {
		t.Errorf("problem without a file or text: %v", p)
	}
	if p.Pos.Line == 0 {
		return
	}
	lines := strings.Split(strings.TrimPrefix(string(src), "\ufeff"), "\n")
	if p.Pos.Line > len(lines) {
		t.Fatalf("line %d of %d: %v", p.Pos.Line, len(lines), p)
	}
	if length := utf8.RuneCountInString(lines[p.Pos.Line-1]); p.Pos.Column < 1 || p.Pos.Column > length+1 {
		t.Errorf("column %d of %d in line %d: %v", p.Pos.Column, length, p.Pos.Line, p)
	}
}
