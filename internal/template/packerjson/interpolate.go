package packerjson

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template/parse"
	"time"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// maxTemplate bounds a string with actions, in bytes: nested blocks are read
// by a recursive parser.
const maxTemplate = 256 << 10

// escapeHint is for braces that are not meant for Packer.
const escapeHint = "to keep the braces as they are, write {{`{{`}}"

// interpolate replaces the strings of a tree by literals and expressions.
func (p *parser) interpolate(n value.Node, where place) value.Node {
	return mapTexts(n, func(n value.Node, t text) value.Node {
		if !strings.Contains(t.s, "{{") {
			return value.Node{Pos: n.Pos, V: t.s}
		}
		c := compiler{expr: expr{text: t, pos: n.Pos}, where: where, variables: p.variables}
		out := c.compile()
		p.problems.Append(c.problems)
		return value.Node{Pos: n.Pos, V: out}
	})
}

// compiler reads one string with actions.
type compiler struct {
	expr
	where     place
	variables []string
	problems  diag.List
}

// compile returns an expr, or a string where everything is known already: what
// is written when there is nothing to evaluate but for components.
func (c *compiler) compile() any {
	if len(c.s) > maxTemplate {
		c.add(0, "", "a string with template actions is longer than %d bytes", maxTemplate)
		return c.s
	}
	if !c.parse() {
		return c.s
	}
	c.check()
	now := c.survey()
	if len(c.problems) > 0 || !now && len(c.refs) == 0 {
		return c.s
	}
	e := c.expr
	if len(e.needs) > 0 {
		return &e
	}
	n, err := e.Eval(value.Scope{})
	if err != nil {
		c.problems.AppendErr(c.pos, err)
		return c.s
	}
	return n.V
}

func (c *compiler) add(offset int, hint, format string, args ...any) {
	c.problems.Add(c.at(c.pos, offset), hint, format, args...)
}

func (c *compiler) parse() bool {
	trees, err := parseText(c.s)
	if err != nil {
		c.add(faultyAction(c.s, err), parseHint(err), "bad template: %s", parseMessage(err))
		return false
	}
	for name, tree := range trees {
		if name != treeName {
			c.add(int(tree.Root.Pos), "write the text where it is used", "define and block are not supported")
			return false
		}
	}
	c.tree = trees[treeName]
	return c.tree != nil
}

// treeName cannot be the name of a {{define}}.
const treeName = "\x00"

func parseText(s string) (map[string]*parse.Tree, error) {
	trees := map[string]*parse.Tree{}
	tree := parse.New(treeName)
	tree.Mode = parse.SkipFuncCheck
	_, err := tree.Parse(s, "", "", trees)
	if _, ok := trees[treeName]; !ok {
		trees[treeName] = tree // it holds nothing but white space
	}
	return trees, err
}

var parsePrefix = regexp.MustCompile(`^template: \x00:\d+: `)

func parseMessage(err error) string { return parsePrefix.ReplaceAllString(err.Error(), "") }

func parseHint(err error) string {
	if strings.HasSuffix(err.Error(), "unexpected EOF") {
		return "close the block by {{end}}"
	}
	return escapeHint
}

// faultyAction is where the action starts that makes the parser report err,
// which names the line only: the first one after which nothing but err comes.
func faultyAction(s string, err error) int {
	const maxActions = 200
	var starts []int
	for i := 0; i < len(s); i += 2 {
		next := strings.Index(s[i:], "{{")
		if next < 0 {
			break
		}
		i += next
		starts = append(starts, i)
	}
	if len(starts) > maxActions {
		return starts[0]
	}
	for n := len(starts) - 1; n > 0; n-- {
		if _, before := parseText(s[:starts[n]]); before == nil || parseMessage(before) != parseMessage(err) {
			return starts[n]
		}
	}
	return starts[0]
}

// check looks at every function call and notes what it needs.
func (c *compiler) check() {
	walk(c.tree.Root, func(n parse.Node) {
		switch n := n.(type) {
		case *parse.TemplateNode:
			c.add(int(n.Pos), "write the text where it is used", "template is not supported")
		case *parse.PipeNode:
			for i, command := range n.Cmds {
				c.checkCommand(command, i > 0)
			}
		}
	})
	for _, ref := range c.refs {
		if ref.need != "" {
			c.needs = append(c.needs, ref.need)
		}
	}
	slices.Sort(c.needs)
	c.needs = slices.Compact(c.needs)
}

func (c *compiler) checkCommand(command *parse.CommandNode, piped bool) {
	for i, arg := range command.Args {
		if chain, ok := arg.(*parse.ChainNode); ok {
			arg = chain.Node
		}
		function, ok := arg.(*parse.IdentifierNode)
		switch {
		case !ok:
		case i == 0:
			c.checkCall(function, command.Args[1:], piped)
		default:
			c.checkCall(function, nil, false)
		}
	}
}

func (c *compiler) checkCall(function *parse.IdentifierNode, args []parse.Node, piped bool) {
	name, at := function.Ident, int(function.Pos)
	fact, isFact := facts[name]
	hint, isRefused := refused[name]
	switch {
	case isRefused:
		c.add(at, hint, "the template function %s is not supported", name)
	case isFact && !slices.Contains(fact.allowed, c.where):
		c.add(at, fact.elsewhere, "%s cannot be used here", name)
	case isFact:
		c.checkFact(function, fact, args, piped)
	case slices.Contains(c.variables, name):
		c.add(at, fmt.Sprintf("write {{user `%s`}}", name), "unknown template function %q", name)
	case pure[name] == nil && !slices.Contains(builtins, name):
		c.add(at, unknownFunction(name), "unknown template function %q", name)
	}
}

func (c *compiler) checkFact(function *parse.IdentifierNode, f fact, args []parse.Node, piped bool) {
	name, at := function.Ident, int(function.Pos)
	r := ref{at: at}
	switch {
	case f.arg == "" && (len(args) > 0 || piped):
		c.add(at, "", "%s takes no argument", name)
		return
	case f.arg == "" || f.optional && len(args) == 0 && !piped:
	case len(args) == 1 && !piped && args[0].Type() == parse.NodeString:
		literal := args[0].(*parse.StringNode)
		r.arg, r.at = literal.Text, int(literal.Pos)
	default:
		c.add(at, fmt.Sprintf("write {{%s `...`}}", name), "%s takes the %s in quotes", name, f.arg)
		return
	}
	if name == "user" && !slices.Contains(c.variables, r.arg) {
		c.add(r.at, suggestVariable(r.arg, c.variables), "unknown variable %q", r.arg)
		return
	}
	if f.reads == runTime {
		if _, err := f.value(call{read: time.Time{}.Format(time.RFC3339), arg: r.arg}); err != nil {
			c.add(r.at, "", "%s: %v", name, err)
		}
	}
	r.need = f.need(r.arg)
	c.refs = append(c.refs, r)
}

// suggestVariable is the hint for a variable that is not declared.
func suggestVariable(name string, known []string) string {
	if len(known) == 0 {
		return `declare it in "variables"`
	}
	return diag.Suggest(name, known)
}

// survey finds out what is left to components and whether anything is not.
func (c *compiler) survey() (now bool) {
	c.late = c.reads(c.tree.Root, false)
	c.settle(c.tree.Copy().Root, false, func(n parse.Node) parse.Node { return n }, func(n parse.Node) {
		now = true
		if n.Type() == parse.NodeRange {
			c.add(int(n.Position()), "", "range has nothing to go over: template functions give texts")
		}
	})
	return now
}

// walk visits a node and all below it.
func walk(n parse.Node, visit func(parse.Node)) {
	visit(n)
	for _, child := range children(n) {
		walk(child, visit)
	}
}

func children(n parse.Node) []parse.Node {
	switch n := n.(type) {
	case *parse.ListNode:
		return n.Nodes
	case *parse.ActionNode:
		return []parse.Node{n.Pipe}
	case *parse.PipeNode:
		var out []parse.Node
		for _, v := range n.Decl {
			out = append(out, v)
		}
		for _, command := range n.Cmds {
			out = append(out, command)
		}
		return out
	case *parse.CommandNode:
		return n.Args
	case *parse.ChainNode:
		return []parse.Node{n.Node}
	case *parse.IfNode:
		return branches(&n.BranchNode)
	case *parse.RangeNode:
		return branches(&n.BranchNode)
	case *parse.WithNode:
		return branches(&n.BranchNode)
	}
	return nil
}

func branches(n *parse.BranchNode) []parse.Node {
	out := []parse.Node{n.Pipe, n.List}
	if n.ElseList != nil {
		out = append(out, n.ElseList)
	}
	return out
}
