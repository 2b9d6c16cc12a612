package packerjson

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden parses every NAME.json in testdata/*/*.txt and compares with the
// NAME.want that follows it: in problems/ the problems, in templates/ the
// template too.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Base(filepath.Dir(file)) == "templates"
	wants := map[string]string{}
	for _, f := range archive.Files {
		wants[f.Name] = string(f.Data)
	}
	var renewed []txtar.File
	for _, f := range archive.Files {
		name, isJSON := strings.CutSuffix(f.Name, ".json")
		if !isJSON {
			continue
		}
		got := parseAndDump(f.Name, f.Data, whole)
		renewed = append(renewed, f, txtar.File{Name: name + ".want", Data: []byte(got)})
		if diff := cmp.Diff(wants[name+".want"], got); diff != "" && !*update {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if *update {
		archive.Files = renewed
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseAndDump(name string, src []byte, whole bool) string {
	tmpl, problems := Parse(name, src, Options{})
	out := dumper{}
	for _, p := range problems {
		severity := ""
		if p.Severity == diag.Warning {
			severity = "warning: "
		}
		out.line("%s: %s%s", strings.TrimPrefix(p.Pos.String(), name+":"), severity, p.Text)
		if p.Hint != "" {
			out.line("    %s", p.Hint)
		}
	}
	if whole {
		out.template(tmpl)
	}
	return out.String()
}

// dumper writes a template, one value a line, with places.
type dumper struct{ strings.Builder }

func (d *dumper) line(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	d.WriteString(strings.TrimRight(line, " ") + "\n")
}

func at(p diag.Pos) string { p.File = ""; return p.String() }

func (d *dumper) template(t template.Template) {
	d.line("format %s, description %q", t.Format, t.Description)
	d.node("min_packer_version", t.MinVersion)
	for _, v := range t.Variables {
		d.line("variable %s %s sensitive=%t @%s", v.Name, v.Type, v.Sensitive, at(v.Pos))
		if v.Default != nil {
			d.node("  default", *v.Default)
		}
	}
	for _, image := range t.Images {
		d.image(image)
	}
}

func (d *dumper) image(image template.Image) {
	d.node(fmt.Sprintf("image %q layers", image.Name), image.Layers)
	for _, b := range image.Builders {
		d.line("builder %q named @%s", b.Name, at(b.NamePos))
		if b.NameOf.V != nil {
			d.node("  name", b.NameOf)
		}
		d.component(b.Component)
	}
	for _, p := range image.Provisioners {
		d.line("provisioner")
		d.component(p.Component)
	}
	if image.Cleanup != nil {
		d.line("cleanup")
		d.component(image.Cleanup.Component)
	}
	for i, sequence := range image.Posts {
		for _, p := range sequence {
			d.line("post-processor in sequence %d", i+1)
			d.component(p.Component)
		}
	}
}

func (d *dumper) component(c template.Component) {
	d.line("  type %s @%s", c.Type, at(c.Pos))
	d.node("  common", c.Common)
	d.node("  body", c.Body)
}

func (d *dumper) node(path string, n value.Node) {
	switch v := n.V.(type) {
	case value.Object:
		for _, m := range v {
			d.node(fmt.Sprintf("%s %s@%s", path, m.Key, at(m.KeyPos)), m.Node)
		}
	case value.List:
		if len(v) == 0 {
			d.line("%s = [] @%s", path, at(n.Pos))
		}
		for i, item := range v {
			d.node(fmt.Sprintf("%s %d", path, i), item)
		}
	case value.Expr:
		d.line("%s = %s needs %s @%s", path, v.Source(), strings.Join(v.Needs(), " "), at(n.Pos))
	case value.Number:
		d.line("%s = %s @%s", path, v, at(n.Pos))
	case nil:
		if !n.Pos.IsZero() {
			d.line("%s = null @%s", path, at(n.Pos))
		}
	default:
		d.line("%s = %#v @%s", path, v, at(n.Pos))
	}
}
