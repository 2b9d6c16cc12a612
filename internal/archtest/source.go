package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// Habits checks what a parser can see of the house rules.
func Habits(packages []Package) (faults []string) {
	for _, p := range packages {
		if !slices.ContainsFunc(p.Files, func(f File) bool { return f.AST.Doc != nil }) {
			faults = append(faults, p.Path+": no package comment")
		}
		if base := path.Base(p.Path); slices.Contains([]string{"util", "utils", "common", "misc", "helpers"}, base) {
			faults = append(faults, fmt.Sprintf("%s: %q says nothing of what is in it", p.Path, base))
		}
		for _, f := range p.Files {
			h := habits{File: f, pkg: p.Path, main: f.AST.Name.Name == "main"}
			h.check()
			faults = append(faults, h.faults...)
		}
	}
	return faults
}

type habits struct {
	File
	pkg    string
	main   bool
	faults []string
}

func (h *habits) fault(at ast.Node, format string, args ...any) {
	pos := h.Set.Position(at.Pos())
	h.faults = append(h.faults, fmt.Sprintf("%s:%d: %s", h.Name, pos.Line, fmt.Sprintf(format, args...)))
}

func (h *habits) check() {
	if lines := h.lines(h.AST.FileStart, h.AST.FileEnd); lines > maxFile {
		h.fault(h.AST, "the file has %d lines, more than %d", lines, maxFile)
	}
	for _, decl := range h.AST.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			h.function(d)
		case *ast.GenDecl:
			h.group(d)
		}
	}
	ast.Inspect(h.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			h.reach(n)
		case *ast.CallExpr:
			h.errorText(n)
		}
		return true
	})
}

func (h *habits) lines(from, to token.Pos) int {
	return h.Set.Position(to).Line - h.Set.Position(from).Line + 1
}

func (h *habits) function(d *ast.FuncDecl) {
	name := d.Name.Name
	if name == "init" && d.Recv == nil {
		h.fault(d, "no init(): make it in main, or where it is used")
	}
	if lines := h.lines(d.Pos(), d.End()); lines > maxFunction {
		h.fault(d, "%s has %d lines, more than %d", name, lines, maxFunction)
	}
	if ast.IsExported(name) && d.Doc == nil && ast.IsExported(receiver(d)) {
		h.fault(d, "%s is exported and has no comment", name)
	}
}

// receiver is the name of the method's type; a function counts as exported.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return "Function"
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// group looks at a declaration of types, constants or variables. A comment on
// the group counts for all of it.
func (h *habits) group(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
				h.fault(s, "%s is exported and has no comment", s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					h.fault(s, "%s is exported and has no comment", name)
				}
			}
		}
	}
}

// reach reports the use of what main passes in.
func (h *habits) reach(n *ast.SelectorExpr) {
	x, ok := n.X.(*ast.Ident)
	if !ok || h.main {
		return
	}
	name := x.Name + "." + n.Sel.Name
	if why := outsideWorld[name]; why != "" && !slices.Contains(mayReachOut[h.pkg], name) {
		h.fault(n, "%s: %s", name, why)
	}
}

// errorText reports errors that say only that something failed, or that hide
// their cause from errors.Is.
func (h *habits) errorText(n *ast.CallExpr) {
	called, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || len(n.Args) == 0 || called.Sel.Name != "Errorf" && called.Sel.Name != "New" {
		return
	}
	pkg, ok := called.X.(*ast.Ident)
	text, isText := n.Args[0].(*ast.BasicLit)
	if !ok || !isText || pkg.Name != "fmt" && pkg.Name != "errors" {
		return
	}
	format := strings.Trim(text.Value, "\"`")
	if strings.HasPrefix(strings.ToLower(format), "failed to") {
		h.fault(n, `an error that begins with "failed to": say what was being done`)
	}
	last, ok := n.Args[len(n.Args)-1].(*ast.Ident)
	if ok && last.Name == "err" && strings.HasSuffix(format, "%v") && !strings.Contains(format, "%w") {
		h.fault(n, "an error wrapped with %%v: use %%w")
	}
}

// Measures are the lengths of functions, and of interfaces, for the record.
type Measures struct {
	Functions  []int // lines, ascending
	Interfaces map[string]int
}

// Measure measures.
func Measure(packages []Package) Measures {
	m := Measures{Interfaces: map[string]int{}}
	for _, p := range packages {
		for _, f := range p.Files {
			h := habits{File: f}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					m.Functions = append(m.Functions, h.lines(n.Pos(), n.End()))
				case *ast.TypeSpec:
					if t, ok := n.Type.(*ast.InterfaceType); ok {
						m.Interfaces[p.Path+"."+n.Name.Name] = ownMethods(t)
					}
				}
				return true
			})
		}
	}
	slices.Sort(m.Functions)
	return m
}

func ownMethods(t *ast.InterfaceType) (n int) {
	for _, field := range t.Methods.List {
		n += len(field.Names) // an embedded interface has none
	}
	return n
}

// Percentile is the length that so many per cent of the functions do not exceed.
func (m Measures) Percentile(p int) int {
	if len(m.Functions) == 0 {
		return 0
	}
	return m.Functions[min(len(m.Functions)-1, len(m.Functions)*p/100)]
}
