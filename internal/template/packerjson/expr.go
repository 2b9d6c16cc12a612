package packerjson

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// maxOutput bounds what a template expands to, in bytes.
const maxOutput = 4 << 20

// expr is a string with template actions, a value.Expr.
//
// Actions that read data (.Path) belong to the component the string is for:
// Eval leaves them in its result, with the facts they mention filled in.
type expr struct {
	text
	pos   diag.Pos // of the opening quote
	tree  *parse.Tree
	refs  []ref
	needs []string
	late  bool // some action reads data
}

// ref is a call of a fact in an expr.
type ref struct {
	need string // the name in the scope, may be empty
	arg  string
	at   int // byte in the text
}

// Source is the string as the template has it, escapes decoded.
func (e *expr) Source() string { return e.s }

// Needs lists the names in the scope that the string reads.
func (e *expr) Needs() []string { return e.needs }

// Eval returns a string.
func (e *expr) Eval(scope value.Scope) (value.Node, error) {
	values, err := e.lookup(scope)
	if err != nil {
		return value.Node{}, err
	}
	v := evaluation{expr: e, values: values}
	if text, ok := v.simple(); ok {
		return value.Node{Pos: e.pos, V: text}, nil
	}
	tree := e.tree
	if e.late {
		tree = tree.Copy()
		e.settle(tree.Root, false, v.fill, v.escape)
	}
	if v.err != nil {
		return value.Node{}, e.problem(0, v.err.Error())
	}
	t, err := template.New(treeName).Funcs(v.funcs()).Funcs(pure).AddParseTree(treeName, tree)
	if err != nil {
		return value.Node{}, e.problem(0, err.Error())
	}
	out := limited{left: maxOutput}
	if err := t.Execute(&out, nil); err != nil {
		return value.Node{}, e.executionProblem(err)
	}
	return value.Node{Pos: e.pos, V: out.String()}, nil
}

func (e *expr) problem(offset int, text string) error {
	return diag.Problem{Pos: e.at(e.pos, offset), Text: text}
}

// lookup reads everything the string needs from the scope, as texts.
func (e *expr) lookup(scope value.Scope) (map[string]string, error) {
	values := make(map[string]string, len(e.needs))
	var problems diag.List
	var unknown error
	for _, r := range e.refs {
		if r.need == "" {
			continue
		}
		entry, ok := find(scope, r.need)
		switch text, isText := value.Text(value.Of(e.pos, entry.Value)); {
		case !ok:
			problems.Add(e.at(e.pos, r.at), suggestName(scope, r.need), "%s", missing(r))
		case !entry.Known:
			unknown = &value.UnknownError{Name: r.need}
		case !isText:
			problems.Add(e.at(e.pos, r.at), "", "%s is a list or a mapping, not a text", r.need)
		default:
			values[r.need] = text
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return values, unknown
}

// find looks a name up. An environment variable that is not set is empty.
func find(scope value.Scope, name string) (value.Entry, bool) {
	found, entry, ok := scope.Lookup(name)
	switch members := entry.Value.(type) {
	case map[string]string:
		entry.Value, ok = members[strings.TrimPrefix(name, found+".")]
	case map[string]any:
		entry.Value, ok = members[strings.TrimPrefix(name, found+".")]
	default:
		ok = ok && (found == name || !entry.Known)
	}
	if !ok && strings.HasPrefix(name, "env.") {
		return value.Known(""), true
	}
	return entry, ok
}

// missing says what the scope does not have.
func missing(r ref) string {
	switch kind, _, _ := strings.Cut(r.need, "."); kind {
	case "var":
		return fmt.Sprintf("unknown variable %q", r.arg)
	case "build":
		return fmt.Sprintf("this build has no %q", strings.TrimPrefix(r.need, "build."))
	}
	return r.need + " is not known here"
}

func suggestName(scope value.Scope, name string) string {
	prefix, rest, _ := strings.Cut(name, ".")
	var known []string
	for _, n := range scope.Names() {
		if short, ok := strings.CutPrefix(n, prefix+"."); ok {
			known = append(known, short)
		}
	}
	return diag.Suggest(rest, known)
}

var executionPrefix = regexp.MustCompile(`^template: \x00:(\d+):(\d+): executing "[^"]*" at <`)

// executionProblem finds the place in an error of text/template. The excerpt
// of the template that it contains is left out.
func (e *expr) executionProblem(err error) error {
	message, offset := err.Error(), 0
	if m := executionPrefix.FindStringSubmatch(message); m != nil {
		line, _ := strconv.Atoi(m[1])
		column, _ := strconv.Atoi(m[2])
		for ; line > 1; line-- {
			offset += strings.IndexByte(e.s[offset:], '\n') + 1
		}
		offset += column
		message = message[strings.LastIndex(message, ">: ")+len(">: "):]
	}
	if inner := errors.Unwrap(errors.Unwrap(err)); inner != nil {
		message = inner.Error()
	}
	return e.problem(offset, message)
}

// settle goes through the statements of a list and decides on each: what reads
// data is replaced by late, the rest is shown to now. bound says that the dot
// is something known, as in {{with user `x`}}.
func (e *expr) settle(list *parse.ListNode, bound bool, late func(parse.Node) parse.Node, now func(parse.Node)) {
	if list == nil {
		return
	}
	for i, n := range list.Nodes {
		if n.Type() == parse.NodeText {
			continue
		}
		if whole := statement(n); e.reads(whole, bound) {
			list.Nodes[i] = late(n)
			continue
		}
		now(n)
		switch n := n.(type) {
		case *parse.IfNode:
			e.settle(n.List, bound, late, now)
			e.settle(n.ElseList, bound, late, now)
		case *parse.WithNode:
			e.settle(n.List, true, late, now)
			e.settle(n.ElseList, bound, late, now)
		}
	}
}

// statement is the part of a node that decides when it is evaluated: of
// {{if}}, the condition.
func statement(n parse.Node) parse.Node {
	if branch, ok := n.(*parse.IfNode); ok {
		return branch.Pipe
	}
	return n
}

// reads reports whether a node reads data, or a variable in a template that
// reads data somewhere: such a variable has to be where the data is.
func (e *expr) reads(n parse.Node, bound bool) bool {
	switch n := n.(type) {
	case *parse.DotNode, *parse.FieldNode:
		return !bound
	case *parse.VariableNode:
		return n.Ident[0] == "$" || e.late
	case *parse.WithNode:
		return e.readsBranch(&n.BranchNode, bound)
	case *parse.RangeNode:
		return e.readsBranch(&n.BranchNode, bound)
	}
	for _, child := range children(n) {
		if e.reads(child, bound) {
			return true
		}
	}
	return false
}

func (e *expr) readsBranch(n *parse.BranchNode, bound bool) bool {
	return e.reads(n.Pipe, bound) || e.reads(n.List, true) || n.ElseList != nil && e.reads(n.ElseList, bound)
}

// evaluation is one Eval.
type evaluation struct {
	*expr
	values map[string]string
	calls  int
	err    error // of filling in
}

func (v *evaluation) call(name, arg string) (string, error) {
	f := facts[name]
	v.calls++
	return f.value(call{read: v.values[f.need(arg)], arg: arg, at: v.pos, nth: v.calls})
}

// simple evaluates what most strings are: text and facts in it. It saves the
// preparation of text/template, which costs more than all the rest.
func (v *evaluation) simple() (string, bool) {
	var out strings.Builder
	for _, n := range v.tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			out.Write(n.Text)
		case *parse.ActionNode:
			if len(n.Pipe.Cmds) != 1 || len(n.Pipe.Decl) > 0 || !isFact(n.Pipe.Cmds[0].Args[0]) {
				return "", false
			}
			result, err := v.callNode(n.Pipe.Cmds[0])
			if err != nil {
				return "", false
			}
			out.WriteString(result)
		default:
			return "", false
		}
	}
	return out.String(), out.Len() <= maxOutput
}

func isFact(n parse.Node) bool {
	function, ok := n.(*parse.IdentifierNode)
	return ok && facts[function.Ident].value != nil
}

// callNode evaluates a command that is the call of a fact.
func (v *evaluation) callNode(command *parse.CommandNode) (string, error) {
	arg := ""
	if literal, ok := command.Args[len(command.Args)-1].(*parse.StringNode); ok {
		arg = literal.Text
	}
	return v.call(command.Args[0].(*parse.IdentifierNode).Ident, arg)
}

func (v *evaluation) funcs() template.FuncMap {
	funcs := template.FuncMap{escapeName: escapeBraces}
	for name := range facts {
		funcs[name] = func(args ...string) (string, error) { return v.call(name, strings.Join(args, "")) }
	}
	return funcs
}

// escapeName is the function that keeps braces in an evaluated text from being
// taken for actions when the component renders the rest.
const escapeName = "escape_braces"

func escapeBraces(v any) string {
	return strings.ReplaceAll(fmt.Sprint(v), "{{", "{{`{{`}}")
}

func (v *evaluation) escape(n parse.Node) {
	action, ok := n.(*parse.ActionNode)
	if !ok {
		return
	}
	escape := parse.NewIdentifier(escapeName).SetPos(action.Pos).SetTree(v.tree)
	action.Pipe.Cmds = append(action.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: action.Pos, Args: []parse.Node{escape}})
}

// fill makes a text of a statement that reads data, with each fact replaced by
// its value: the component knows nothing of them.
func (v *evaluation) fill(n parse.Node) parse.Node {
	walk(n, func(n parse.Node) {
		if command, ok := n.(*parse.CommandNode); ok {
			v.fillCommand(command)
		}
	})
	return &parse.TextNode{NodeType: parse.NodeText, Pos: n.Position(), Text: []byte(n.String())}
}

func (v *evaluation) fillCommand(command *parse.CommandNode) {
	if isFact(command.Args[0]) {
		result, err := v.callNode(command)
		v.err = errors.Join(v.err, err)
		command.Args = []parse.Node{literal(command.Pos, result)}
		return
	}
	for i, arg := range command.Args {
		if isFact(arg) { // one without an argument
			result, err := v.call(arg.(*parse.IdentifierNode).Ident, "")
			v.err = errors.Join(v.err, err)
			command.Args[i] = literal(arg.Position(), result)
		}
	}
}

func literal(pos parse.Pos, s string) *parse.StringNode {
	return &parse.StringNode{NodeType: parse.NodeString, Pos: pos, Quoted: strconv.Quote(s), Text: s}
}

// limited is a buffer that refuses to grow without end.
type limited struct {
	strings.Builder
	left int
}

// Write keeps p, or ends the execution.
func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("the template expands to more than %d bytes", maxOutput)
	}
	return l.Builder.Write(p)
}
