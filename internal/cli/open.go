package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/template/packerjson"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
)

// DefaultTemplate is the file that is meant when none is named.
const DefaultTemplate = "imgbake.yaml"

// maxTemplate bounds a template's size in bytes.
const maxTemplate = 16 << 20

// opened is a template with the folder it may read.
type opened struct {
	template.Template
	home  string  // the template's folder, absolute
	dir   string  // the folder its relative paths start from, absolute
	files *folder // that folder, fenced: no link leads out of it
	src   []byte
}

// open reads and parses a template: a file, a folder that holds imgbake.yaml,
// or "-" for standard input, which belongs to the working directory.
func (a *App) open(name string) (opened, diag.List, error) {
	o, err := a.locate(name)
	if err != nil {
		return o, nil, err
	}
	parse, packer, err := frontEnd(o.File, o.src)
	if err != nil {
		return o, nil, err
	}
	if o.dir = o.home; packer && below(a.Dir, o.home) {
		o.dir = a.Dir // Packer's paths start from where it is run
	}
	if o.files, err = openFolder(o.dir); err != nil {
		return o, nil, fmt.Errorf("template folder: %w", err)
	}
	var problems diag.List
	o.Template, problems = parse(a, o)
	return o, problems, nil
}

func (a *App) locate(name string) (opened, error) {
	if name == "-" {
		src, err := readAll(a.Stdin)
		a.piped = src
		return opened{Template: template.Template{File: "-"}, home: a.Dir, src: src}, err
	}
	path := a.path(name)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		name, path = filepath.Join(name, DefaultTemplate), filepath.Join(path, DefaultTemplate)
	}
	f, err := os.Open(path)
	if err != nil {
		return opened{}, usage("template %q: %w (`imgbake init` writes a first one)", name, cause(err))
	}
	defer f.Close()
	src, err := readAll(f)
	return opened{Template: template.Template{File: name}, home: filepath.Dir(path), src: src}, err
}

func readAll(r io.Reader) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, maxTemplate+1))
	if err == nil && len(src) > maxTemplate {
		err = fmt.Errorf("template is larger than %d MiB", maxTemplate>>20)
	}
	return src, err
}

type parser func(*App, opened) (template.Template, diag.List)

// frontEnd chooses the template's language by the file's name, and by its
// content on standard input.
func frontEnd(name string, src []byte) (parse parser, packer bool, err error) {
	switch {
	case strings.HasSuffix(name, ".pkr.hcl"), strings.HasSuffix(name, ".pkr.json"):
		return nil, false, usage("template %q: Packer HCL2 templates are not supported yet; Packer JSON ones and %s are", name, DefaultTemplate)
	case strings.HasSuffix(name, ".json"), packerjson.IsPacker(src):
		return parsePacker, true, nil
	}
	return parseYAML, false, nil
}

func parsePacker(a *App, o opened) (template.Template, diag.List) {
	return packerjson.Parse(o.File, o.src, packerjson.Options{})
}

func parseYAML(a *App, o opened) (template.Template, diag.List) {
	return yaml.Parse(o.File, o.src, expr.Options{
		Files: o.files, Dir: o.dir, Home: a.Getenv("HOME"), Now: a.Now,
		Env: func(name string) (string, bool) { v := a.Getenv(name); return v, v != "" },
	})
}

// below reports whether dir is the folder, or inside it.
func below(folder, dir string) bool {
	rel, err := filepath.Rel(folder, dir)
	return err == nil && filepath.IsLocal(rel)
}

// path makes a name the user gave absolute.
func (a *App) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.Dir, name)
}

// cause is the error without the operation and path it repeats.
func cause(err error) error {
	if pathErr, ok := err.(*fs.PathError); ok {
		return pathErr.Err
	}
	return err
}
