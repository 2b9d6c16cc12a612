package vars_test

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// fake is an expression of text with ${name} and ${base64(name)} in it.
type fake string

var hole = regexp.MustCompile(`\$\{(?:(\w+)\()?([\w.]+)\)?\}`)

func (f fake) Source() string { return string(f) }

func (f fake) Needs() []string {
	var names []string
	for _, m := range hole.FindAllStringSubmatch(string(f), -1) {
		names = append(names, m[2])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (f fake) Eval(s value.Scope) (value.Node, error) {
	var failed error
	out := hole.ReplaceAllStringFunc(string(f), func(ref string) string {
		m := hole.FindStringSubmatch(ref)
		_, e, ok := s.Lookup(m[2])
		switch {
		case !ok:
			failed = diag.Problem{Text: fmt.Sprintf("unknown name %q", m[2])}
		case !e.Known:
			failed = &value.UnknownError{Name: m[2]}
		case m[1] == "base64":
			return base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(e.Value)))
		case m[1] == "same":
			return fmt.Sprint(e.Value == "yes")
		case m[1] == "fail":
			failed = diag.Problem{Text: fmt.Sprintf("cannot use %v", e.Value)}
		}
		return fmt.Sprint(e.Value)
	})
	return value.Node{V: out}, failed
}

func lit(line int, v any) *value.Node {
	n := value.Of(diag.Pos{File: "t.yaml", Line: line, Column: 5}, v)
	return &n
}
