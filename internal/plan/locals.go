package plan

import (
	"fmt"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// locals evaluates a template's locals in the order they need each other. What
// is made of a sensitive value is sensitive.
type locals struct {
	planner *planner
	byName  map[string]*local
	scope   value.Scope
	path    []*local // being evaluated
}

type local struct {
	template.Local
	visiting, done bool
}

func (p *planner) evalLocals(decls []template.Local) {
	ls := locals{planner: p, byName: map[string]*local{}, scope: p.full}
	var order []*local
	for _, d := range decls {
		if first, dup := ls.byName[d.Name]; dup {
			p.twice("local", d.Name, d.Pos, first.Pos)
			continue
		}
		l := &local{Local: d}
		ls.byName[d.Name] = l
		order = append(order, l)
	}
	for _, l := range order {
		ls.eval(l)
	}
	p.full = ls.scope
}

func (ls *locals) eval(l *local) {
	switch {
	case l.done:
		return
	case l.visiting:
		ls.cycle(l)
		return
	}
	l.visiting = true
	ls.path = append(ls.path, l)
	needs := l.Value.Needs()
	for _, name := range needs {
		if rest, ok := strings.CutPrefix(name, "local."); ok {
			rest, _, _ = strings.Cut(rest, ".")
			if other, known := ls.byName[rest]; known {
				ls.eval(other)
			}
		}
	}
	ls.scope = ls.scope.With(map[string]value.Entry{"local." + l.Name: ls.entry(l, needs)})
	ls.path = ls.path[:len(ls.path)-1]
	l.done = true
}

func (ls *locals) entry(l *local, needs []string) value.Entry {
	sensitive := ls.scope.Sensitive(needs)
	if len(needs) > 0 && perBake(l.Value) {
		ls.planner.problems.Add(l.Value.Pos, "use the expression where the bake is known: in a builder, provisioner or post-processor",
			"local %q reads facts of a bake, and locals are the same for all bakes", l.Name)
		return value.Entry{Sensitive: sensitive}
	}
	n, problems := value.Eval(l.Value, ls.scope)
	switch {
	case problems.HasErrors() && sensitive:
		ls.planner.problems.Add(l.Value.Pos, "the reason is not shown since it reads a sensitive value", "local %q cannot be evaluated", l.Name)
	case problems.HasErrors():
		ls.planner.problems.Append(problems)
	case len(n.Needs()) > 0:
		ls.planner.unknowable(n, ls.scope)
	default:
		return value.Entry{Value: n.Plain(), Known: true, Sensitive: sensitive}
	}
	return value.Entry{Sensitive: sensitive}
}

func (ls *locals) cycle(l *local) {
	start := 0
	for i, x := range ls.path {
		if x == l {
			start = i
		}
	}
	var names, places []string
	for _, x := range ls.path[start:] {
		names = append(names, x.Name)
		places = append(places, fmt.Sprintf("%s at %s", x.Name, x.Pos))
	}
	ls.planner.problems.Add(l.Pos, strings.Join(places, ", "), "locals go round in a circle: %s -> %s", strings.Join(names, " -> "), l.Name)
	ls.scope = ls.scope.With(map[string]value.Entry{"local." + l.Name: {}})
}

// twice reports a name given twice.
func (p *planner) twice(what, name string, pos, first diag.Pos) {
	p.problems.Add(pos, "the first one is at "+first.String(), "%s %q is declared twice", what, name)
}
