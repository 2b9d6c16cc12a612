// Package archtest holds the rules of docs/architecture.md as a test: who may
// import whom, which third parties stay behind which package, and the habits
// of the house that a parser can see. It reads source text, so every build
// tag and platform is covered.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Package is what the rules look at of a package.
type Package struct {
	Path    string   // relative to the module: internal/bake
	Imports []string // of this module relative to it, of others in full; without tests
	Files   []File   // without tests
}

// File is one parsed file.
type File struct {
	Name string // with its folder
	Set  *token.FileSet
	AST  *ast.File
}

// Load parses every package below a folder that is the root of the module.
// Folders named testdata and hidden ones are left out, and so are tests.
func Load(root fs.FS, module string) ([]Package, error) {
	byPath := map[string]*Package{}
	set := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if byPath[dir] == nil {
			byPath[dir] = &Package{Path: dir}
		}
		byPath[dir].add(File{name, set, parsed}, module)
		return nil
	})
	var all []Package
	for _, p := range byPath {
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return all, err
}

func (p *Package) add(f File, module string) {
	p.Files = append(p.Files, f)
	for _, spec := range f.AST.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has seen to it
		}
		p.Imports = append(p.Imports, strings.TrimPrefix(imported, module+"/"))
	}
}

// Imports checks the packages against the rules and the fences.
func Imports(packages []Package, rules []Rule, fences []Fence) (faults []string) {
	for _, p := range packages {
		rule, ok := ruleFor(p.Path, rules)
		if !ok {
			faults = append(faults, fmt.Sprintf("%s: the rules have no place for it: add one", p.Path))
			continue
		}
		for _, imported := range p.Imports {
			switch {
			case own(imported):
				if !rule.allows(p.Path, imported) {
					faults = append(faults, fmt.Sprintf("%s imports %s: it may import %s only", p.Path, imported, rule.shown()))
				}
			case strings.Contains(imported, "."):
				if f := fenceOf(imported, fences); f != nil && !matchAny(f.Inside, p.Path) {
					faults = append(faults, fmt.Sprintf("%s imports %s: that stays inside %s", p.Path, imported, strings.Join(f.Inside, " and ")))
				}
			}
		}
	}
	return faults
}

func own(imported string) bool {
	return imported == "templates" || slices.ContainsFunc([]string{"internal/", "cmd/", "scripts/"}, func(top string) bool {
		return strings.HasPrefix(imported, top)
	})
}

func ruleFor(p string, rules []Rule) (Rule, bool) {
	i := slices.IndexFunc(rules, func(r Rule) bool { return match(r.Package, p) })
	if i < 0 {
		return Rule{}, false
	}
	return rules[i], true
}

func (r Rule) allows(p, imported string) bool {
	return strings.HasPrefix(imported, p+"/") || matchAny(strings.Fields(r.May), imported)
}

func (r Rule) shown() string {
	if r.May == "" {
		return "nothing of this module"
	}
	return strings.Join(strings.Fields(r.May), ", ")
}

func fenceOf(imported string, fences []Fence) *Fence {
	for i, f := range fences {
		if imported == f.Module || strings.HasPrefix(imported, f.Module+"/") {
			return &fences[i]
		}
	}
	return nil
}

func matchAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, p) })
}

// match compares a package with a pattern. Patterns stand for packages of
// internal unless they begin with cmd/ or scripts/ or are "templates"; "a/*"
// is every package directly below a, "a/**" all below it, "**" any.
func match(pattern, p string) bool {
	if pattern == "**" {
		return true
	}
	if !own(pattern) {
		pattern = "internal/" + pattern
	}
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		return strings.HasPrefix(p, dir+"/")
	}
	ok, err := path.Match(pattern, p)
	return ok && err == nil
}

// Depth is the longest chain of imports inside the module, as its packages.
func Depth(packages []Package) []string {
	imports := map[string][]string{}
	for _, p := range packages {
		imports[p.Path] = p.Imports
	}
	memo := map[string][]string{}
	var chain func(string) []string
	chain = func(p string) []string {
		if known, ok := memo[p]; ok {
			return known
		}
		memo[p] = []string{p} // also ends a cycle, which would not compile
		var longest []string
		for _, imported := range imports[p] {
			if _, known := imports[imported]; known {
				if c := chain(imported); len(c) > len(longest) {
					longest = c
				}
			}
		}
		memo[p] = append([]string{p}, longest...)
		return memo[p]
	}
	var longest []string
	for _, p := range packages {
		if c := chain(p.Path); len(c) > len(longest) {
			longest = c
		}
	}
	return longest
}
