package vars

import (
	"slices"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// choose checks a value, or every item of a list, against the choices.
func (r *resolver) choose(v *variable, n value.Node) {
	if len(v.decl.Choices) == 0 || n.V == nil {
		return
	}
	items, isList := n.V.(value.List)
	if !isList {
		items = value.List{n}
	}
	for _, item := range items {
		text, ok := value.Text(item)
		switch {
		case ok && slices.Contains(v.decl.Choices, text):
			continue
		case v.Sensitive:
			r.problems.Add(v.Pos, diag.Suggest("", v.decl.Choices), "variable %q (%s) is none of the values allowed", v.Name, v.Source)
		default:
			r.problems.Add(v.Pos, diag.Suggest(text, v.decl.Choices), "variable %q (%s): %s is none of the values allowed", v.Name, v.Source, value.Describe(item))
		}
		v.Known = false
	}
}

// validate evaluates the rules of a variable that has a value. The scope holds
// all of them, so that a rule may compare two.
func (r *resolver) validate(v *variable, scope value.Scope) {
	if !v.Known {
		return
	}
	for _, rule := range v.decl.Validations {
		n, problems := value.Eval(rule.Condition, scope)
		if problems.HasErrors() && (v.Sensitive || scope.Sensitive(rule.Condition.Needs())) {
			r.problems.Add(rule.Pos, "the reason is not shown since the variable is sensitive", "the validation of variable %q cannot be evaluated", v.Name)
			continue
		}
		r.problems.Append(problems)
		if problems.HasErrors() || len(n.Needs()) > 0 {
			continue
		}
		passed, isBool := asBool(n)
		switch {
		case !isBool:
			r.problems.Add(rule.Pos, "", "the validation of variable %q must give true or false, not %s", v.Name, hidden(v, n))
		case !passed:
			r.problems.Add(v.Pos, "set by "+v.Source, "variable %q: %s", v.Name, message(rule.Message))
		}
	}
}

func asBool(n value.Node) (b, ok bool) {
	text, isText := value.Text(n)
	return text == "true", isText && (text == "true" || text == "false")
}

func hidden(v *variable, n value.Node) string {
	if v.Sensitive {
		return "another value"
	}
	return value.Describe(n)
}

func message(text string) string {
	if text == "" {
		return "the value breaks a validation rule"
	}
	return text
}
