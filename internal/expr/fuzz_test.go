package expr_test

import (
	"testing"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/value"
)

// FuzzParse: no source panics, parsed or evaluated; every problem has a place
// and a text, and values hold no expression.
func FuzzParse(f *testing.F) {
	for call := range calls {
		f.Add("${" + call + "}")
	}
	for _, seed := range []string{
		"", "text", "$${a} %%{b}", "${", "%{", "${}", "%{ if var.flag }a%{ else }b%{ endif }", "%{~ for x in var.list ~}${x}%{ endfor }",
		"${[for k, v in var.db : {(k) = v}]}", "${var.list[*].a}", "${<<E\nx ${1}\nE\n}", "${\"a ${\"b\"}\"}", "${-!1 ? 2 : 3}", "${a.0.1}", "\xff${1}",
	} {
		f.Add(seed)
	}
	o := options()
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 200 {
			return // a long pow or range may take its time
		}
		node, problems := expr.Parse(src, start, o)
		check(t, problems)
		e, late := node.V.(value.Expr)
		if !late {
			return
		}
		out, err := e.Eval(scope())
		if err != nil {
			var list diag.List
			list.AppendErr(diag.Pos{}, err)
			return
		}
		if needs := out.Needs(); len(needs) > 0 {
			t.Errorf("a value with an expression in it: %v", needs)
		}
	})
}

func check(t *testing.T, problems diag.List) {
	t.Helper()
	for _, p := range problems {
		if p.Pos.Line < start.Line || p.Text == "" {
			t.Errorf("problem without a place or text: %+v", p)
		}
	}
}
