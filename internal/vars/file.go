package vars

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// File is a variable file. The name's extension tells the format: .json,
// .yaml, .yml, .hcl.
type File struct {
	Name string // as problems and provenance show it
	Data []byte
	Auto bool // found in the template's folder, not named by the user
}

// autoPatterns are the names of files that are read without being asked for.
var autoPatterns = []string{
	"*.auto.imgbakevars.yaml", "*.auto.imgbakevars.yml", "*.auto.imgbakevars.json",
	"*.auto.pkrvars.hcl", "*.auto.pkrvars.json",
	"imgbake.vars.yaml", "imgbake.vars.yml", "imgbake.vars.json",
}

// Auto reads the variable files that apply by their name alone, in lexical
// order, from a template's folder. Dir is put before their names.
func Auto(folder fs.FS, dir string) ([]File, error) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, fmt.Errorf("template folder %q: %w", dir, err)
	}
	var files []File
	for _, e := range entries {
		matches := func(pattern string) bool { ok, _ := path.Match(pattern, e.Name()); return ok }
		if e.IsDir() || !slices.ContainsFunc(autoPatterns, matches) {
			continue
		}
		data, err := fs.ReadFile(folder, e.Name())
		if err != nil {
			return nil, fmt.Errorf("variable file %q: %w", e.Name(), err)
		}
		files = append(files, File{Name: path.Join(dir, e.Name()), Data: data, Auto: true})
	}
	return files, nil
}

// Bounds of what is parsed: the parsers recurse, and a stack that overflows
// cannot be recovered from. HCL nests by prefix operators too, hence its size.
const (
	maxSize  = 1 << 20
	maxHCL   = 1 << 17
	maxDepth = 200
)

func checkBounds[T string | []byte](data T, size int) error {
	if len(data) > size {
		return fmt.Errorf("larger than %d bytes", size)
	}
	depth := 0
	for i := range len(data) {
		switch data[i] {
		case '[', '{', '(':
			depth++
		case ']', '}', ')':
			depth = max(0, depth-1)
		}
		if depth > maxDepth {
			return fmt.Errorf("nested more than %d deep", maxDepth)
		}
	}
	return nil
}

// parse reads the file into an object. What is wrong in one place does not
// hide the rest.
func (f File) parse() (value.Object, diag.List) {
	var problems diag.List
	size := maxSize
	if path.Ext(f.Name) == ".hcl" {
		size = maxHCL
	}
	if err := checkBounds(f.Data, size); err != nil {
		problems.Add(diag.Pos{File: f.Name}, "", "variable file: %v", err)
		return nil, problems
	}
	switch path.Ext(f.Name) {
	case ".json":
		body, found := hcljson.Parse(f.Data, f.Name)
		return fromBody(body, found)
	case ".hcl":
		body, found := hclsyntax.ParseConfig(f.Data, f.Name, hcl.InitialPos)
		return fromBody(body, found)
	case ".yaml", ".yml":
		return parseYAML(f)
	}
	problems.Add(diag.Pos{File: f.Name}, "use .json, .yaml, .yml or .hcl", "variable file with an unknown extension %q", path.Ext(f.Name))
	return nil, problems
}

// fromBody reads attributes of literal values, from HCL or JSON.
func fromBody(file *hcl.File, found hcl.Diagnostics) (value.Object, diag.List) {
	var problems diag.List
	addHCL(&problems, found)
	if file == nil || file.Body == nil {
		return nil, problems
	}
	attributes, found := file.Body.JustAttributes()
	if !problems.HasErrors() {
		addHCL(&problems, found)
	}
	var out value.Object
	for _, a := range attributes {
		pos := posOf(a.Expr.Range())
		v, found := a.Expr.Value(nil)
		addHCL(&problems, found)
		if found.HasErrors() {
			continue
		}
		n, err := fromCty(pos, v)
		if err != nil {
			problems.Add(pos, "", "variable %q: %v", a.Name, err)
			continue
		}
		out = append(out, value.Member{Key: a.Name, KeyPos: posOf(a.NameRange), Node: n})
	}
	slices.SortFunc(out, func(a, b value.Member) int { return strings.Compare(a.Key, b.Key) })
	return out, problems
}

// addHCL adds the summaries. The details may quote what stands in the file,
// and that may be a secret.
func addHCL(problems *diag.List, found hcl.Diagnostics) {
	for _, d := range found {
		if d.Severity != hcl.DiagError {
			continue
		}
		var pos diag.Pos
		if d.Subject != nil {
			pos = posOf(*d.Subject)
		}
		problems.Add(pos, "a variable file holds literal values only", "%s", lowerFirst(d.Summary))
	}
}

func posOf(r hcl.Range) diag.Pos {
	return diag.Pos{File: r.Filename, Line: r.Start.Line, Column: r.Start.Column}
}
