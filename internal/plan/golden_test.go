package plan_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/template/packerjson"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden plans every template NAME.yaml or NAME.json of testdata/plan/*.txt
// and compares with NAME.want. The lines before the first file are settings for
// all of them, "key: value": only, except, platform, var, env, git, ci, allow, and show
// (json, tree, matrix, inspect or problems). Files under files/ are the
// template's folder.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../../testdata/plan/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := settings(string(archive.Comment))
	wants := map[string]string{}
	for _, f := range archive.Files {
		wants[f.Name] = string(f.Data)
		if name, ok := strings.CutPrefix(f.Name, "files/"); ok {
			c.folder[name] = &fstest.MapFile{Data: f.Data}
		}
	}
	var renewed []txtar.File
	for _, f := range archive.Files {
		name, isTemplate := strings.CutSuffix(strings.TrimSuffix(f.Name, ".yaml"), ".json")
		isTemplate = isTemplate || strings.HasSuffix(f.Name, ".yaml")
		switch {
		case strings.HasPrefix(f.Name, "files/"):
			renewed = append(renewed, f)
		case isTemplate:
			got := c.run(f.Name, f.Data)
			renewed = append(renewed, f, txtar.File{Name: name + ".want", Data: []byte(got)})
			if diff := cmp.Diff(wants[name+".want"], got); diff != "" && !*update {
				t.Errorf("%s (-want +got):\n%s", f.Name, diff)
			}
		}
	}
	if *update {
		archive.Files = renewed
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// planCase is everything but the template.
type planCase struct {
	sources vars.Sources
	facts   plan.Facts
	options plan.Options
	folder  fstest.MapFS
	show    string
}

// settings reads "key: value" lines.
func settings(text string) planCase {
	c := planCase{folder: fstest.MapFS{}, show: "problems", facts: plan.Facts{
		Root: "/src/app", Cwd: "/src", Time: time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC), UUID: "run-1", Version: "0.1.0",
		Git: map[string]any{},
	}}
	for line := range strings.Lines(text) {
		key, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "only":
			c.options.Only = strings.Split(v, ",")
		case "except":
			c.options.Except = strings.Split(v, ",")
		case "platform":
			c.options.Platforms = strings.Split(v, ",")
		case "var":
			c.sources.Flags = append(c.sources.Flags, v)
		case "env":
			c.sources.Environ = append(c.sources.Environ, v)
		case "git":
			name, fact, _ := strings.Cut(v, "=")
			c.facts.Git[name] = fact
		case "ci":
			c.facts.CI = true
		case "allow":
			c.facts.AllowHostExec = true
		case "show":
			c.show = v
		}
	}
	c.facts.Digest = c.digest
	return c
}

func (c planCase) digest(in bake.Input) (plan.Content, error) {
	data, err := fs.ReadFile(c.folder, in.Path)
	return content(func() (string, error) { return fmt.Sprintf("sha256:%.4x", sha256.Sum256(data)), nil }), err
}

func parse(name string, src []byte) (template.Template, diag.List) {
	if strings.HasSuffix(name, ".json") {
		return packerjson.Parse(name, src, packerjson.Options{})
	}
	return yaml.Parse(name, src, expr.Options{})
}

// plan goes all the way from bytes to a plan.
func (c planCase) plan(name string, src []byte) (template.Template, vars.Resolved, plan.Plan, value.Scope, diag.List) {
	t, problems := parse(name, src)
	c.sources.Facts = c.facts.Entries()
	files, err := vars.Auto(c.folder, "")
	problems.AppendErr(diag.Pos{}, err)
	c.sources.Files = files
	r, found := vars.Resolve(t.Variables, c.sources)
	problems.Append(found)
	p, scope, found := plan.Make(t, r, catalog(), c.facts, c.options)
	problems.Append(found)
	problems.Sort()
	return t, r, p, scope, problems
}

// run renders what the show setting asks for, or the problems.
func (c planCase) run(name string, src []byte) string {
	t, r, p, _, problems := c.plan(name, src)
	var out strings.Builder
	if c.show != "inspect" {
		for _, problem := range problems {
			fmt.Fprintf(&out, "%s: %v\n", problem.Severity, problem)
		}
	}
	show := c.show
	if problems.HasErrors() && show != "inspect" {
		show = "problems"
	}
	switch show {
	case "json":
		out.WriteString(indent(p))
	case "tree":
		out.WriteString(plan.Tree(p))
	case "inspect":
		out.WriteString(indent(plan.Inspect(t, r)))
	case "matrix":
		matrix, err := plan.Matrix(p)
		fmt.Fprintln(&out, string(matrix), err)
	default:
		if out.Len() == 0 {
			out.WriteString("no problem\n")
		}
	}
	return out.String()
}

func indent(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error() + "\n"
	}
	return string(text) + "\n"
}
