// Package expr is the expression language of imgbake templates: HCL template
// expressions such as "debian:${var.suite}-slim", with one table of functions
// for every front end that speaks HCL.
//
// It is pure: files, the clock and the environment come in as Options, names
// come in as a value.Scope, and there is no network and no way to run a
// program. Parsing reports what can be known without a scope: bad syntax,
// unknown functions. Everything else is said by Eval.
package expr

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Options are what expressions may use of the outside world. A nil or empty
// field makes the functions that need it a problem.
type Options struct {
	// Files is the template's folder, for file, templatefile and so on. It
	// is the fence: give the FS of an os.Root.
	Files fs.FS
	// Dir is the same folder as an absolute path: paths below it are taken
	// as paths in Files, and abspath starts from it.
	Dir string
	// Home is what pathexpand puts for "~".
	Home string
	// Now is the clock of timestamp and its like.
	Now func() time.Time
	// Env looks up a variable for env().
	Env func(name string) (string, bool)
}

// Locator tells the place in the file of a byte of an expression's source.
type Locator func(offset int) diag.Pos

// Language is the expression language with a table of functions. It is
// immutable and safe for concurrent use.
type Language struct {
	functions map[string]function.Function
	refused   map[string]string // functions that exist but not here: why
}

// New makes the language that the options allow.
func New(o Options) *Language {
	functions, refused := table(o)
	return &Language{functions, refused}
}

// Parse is New(o).Parse for a source that stands in its file as it is.
func Parse(src string, pos diag.Pos, o Options) (value.Node, diag.List) {
	return New(o).Parse(src, At(src, pos))
}

// At is the Locator of a source that stands in its file as it is, from pos on.
func At(src string, pos diag.Pos) Locator {
	return func(offset int) diag.Pos {
		p := pos
		if p.Line == 0 {
			return p
		}
		for _, r := range src[:min(offset, len(src))] {
			p.Column++
			if r == '\n' {
				p.Line, p.Column = p.Line+1, 1
			}
		}
		return p
	}
}

// IsName reports whether expressions can refer to s as var.s.
func IsName(s string) bool { return hclsyntax.ValidIdentifier(s) }

// Refs lists the names that dotted names have in a group, in order, each once:
// of "local.a", "local.b.c" and "var.d" in the group "local", a and b. It
// serves to order locals by what they need.
func Refs(needs []string, group string) []string {
	var refs []string
	seen := map[string]bool{}
	for _, need := range needs {
		parts := strings.SplitN(need, ".", 3)
		if len(parts) > 1 && parts[0] == group && !seen[parts[1]] {
			seen[parts[1]] = true
			refs = append(refs, parts[1])
		}
	}
	return refs
}

// Parse reads a template string. Without "${" or "%{" it is a literal; "$${"
// and "%%{" stand for themselves. A string that is one "${…}" and nothing else
// has the type of what is inside; any other is a string. A node is returned
// even if there are problems: the source as a literal.
func (l *Language) Parse(src string, at Locator) (value.Node, diag.List) {
	literal := value.Node{Pos: at(0), V: src}
	if !strings.Contains(src, "${") && !strings.Contains(src, "%{") {
		return literal, nil
	}
	tree, problems := l.parseTemplate(src, at)
	if problems.HasErrors() {
		return literal, problems
	}
	if t, ok := tree.(*hclsyntax.TemplateExpr); ok && t.IsStringLiteral() {
		s, _ := t.Value(nil)
		return value.Node{Pos: at(0), V: s.AsString()}, problems
	}
	return value.Node{Pos: at(0), V: l.expression(src, tree, at)}, problems
}

// ParseBare reads an expression that stands without "${" and "}".
func (l *Language) ParseBare(src string, at Locator) (value.Node, diag.List) {
	literal := value.Node{Pos: at(0), V: src}
	if problems := tooLong(src, at, hclsyntax.LexExpression); problems.HasErrors() {
		return literal, problems
	}
	tree, diags := hclsyntax.ParseExpression([]byte(src), "", hcl.Pos{Line: 1, Column: 1})
	problems := syntaxProblems(diags, at, "")
	if problems.HasErrors() {
		return literal, problems
	}
	problems.Append(l.checkFunctions(tree, at))
	return value.Node{Pos: at(0), V: l.expression(src, tree, at)}, problems
}

func (l *Language) parseTemplate(src string, at Locator) (hclsyntax.Expression, diag.List) {
	if problems := tooLong(src, at, hclsyntax.LexTemplate); problems.HasErrors() {
		return nil, problems
	}
	tree, diags := hclsyntax.ParseTemplate([]byte(src), "", hcl.Pos{Line: 1, Column: 1})
	problems := syntaxProblems(diags, at, escapeHint(src))
	if problems.HasErrors() {
		return nil, problems
	}
	return tree, l.checkFunctions(tree, at)
}

// maxTokens bounds an expression: HCL's parser and evaluator recurse, and a
// stack overflow cannot be recovered from.
const maxTokens = 10_000

func tooLong(src string, at Locator, lex func([]byte, string, hcl.Pos) (hclsyntax.Tokens, hcl.Diagnostics)) (problems diag.List) {
	if len(src) <= maxTokens {
		return nil
	}
	tokens, _ := lex([]byte(src), "", hcl.Pos{Line: 1, Column: 1})
	count := 0
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenStringLit || t.Type == hclsyntax.TokenQuotedLit {
			continue
		}
		if count++; count > maxTokens {
			problems.Add(at(t.Range.Start.Byte), "split it up with locals", "expression is too long: more than %d symbols", maxTokens)
			return problems
		}
	}
	return nil
}

// checkFunctions finds calls of functions that are not there.
func (l *Language) checkFunctions(tree hclsyntax.Node, at Locator) (problems diag.List) {
	types := typeArguments(tree)
	_ = hclsyntax.VisitAll(tree, func(n hclsyntax.Node) hcl.Diagnostics {
		call, ok := n.(*hclsyntax.FunctionCallExpr)
		if !ok || within(types, call.NameRange) {
			return nil
		}
		pos := at(call.NameRange.Start.Byte)
		if _, known := l.functions[call.Name]; known {
			return nil
		}
		if why, refused := l.refused[call.Name]; refused {
			problems.Add(pos, why, "function %q is not supported here", call.Name)
		} else {
			problems.Add(pos, l.suggestFunction(call.Name), "unknown function %q", call.Name)
		}
		return nil
	})
	return problems
}

func (l *Language) suggestFunction(name string) string {
	names := make([]string, 0, len(l.functions))
	for known := range l.functions {
		names = append(names, known)
	}
	if hint := diag.Suggest(name, names); strings.HasPrefix(hint, "did you") {
		return hint
	}
	return "" // a hundred names help nobody
}

// expression implements value.Expr.
type expression struct {
	source string
	tree   hclsyntax.Expression
	at     Locator
	refs   []ref
	needs  []string
	lang   *Language
}

func (l *Language) expression(src string, tree hclsyntax.Expression, at Locator) *expression {
	e := &expression{source: src, tree: tree, at: at, lang: l, refs: references(tree)}
	e.needs = names(e.refs)
	return e
}

// Source is the string as the user wrote it.
func (e *expression) Source() string { return e.source }

// Needs lists the dotted names the expression reads.
func (e *expression) Needs() []string { return e.needs }

// Eval computes the value in a scope.
func (e *expression) Eval(s value.Scope) (value.Node, error) {
	variables, err := e.variables(s)
	if err != nil {
		return value.Node{}, err
	}
	result, diags := e.tree.Value(&hcl.EvalContext{Variables: variables, Functions: e.lang.functions})
	if problems := evalProblems(diags, e.at, s.Sensitive(e.needs)); problems.HasErrors() {
		return value.Node{}, problems
	}
	node, err := fromCty(e.at(0), result)
	if err != nil {
		return value.Node{}, diag.Problem{Pos: e.at(0), Text: err.Error()}
	}
	return node, nil
}

var errNoPlainValue = errors.New("the expression's value is no string, number, bool, list or mapping")
