package expr

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// escapeHint tells how to write what looks like an expression and is none.
func escapeHint(src string) string {
	if strings.Contains(src, "${") {
		return "for a literal ${ write $${"
	}
	return "for a literal %{ write %%{"
}

// syntaxProblems are what the parser found: the first one, as the rest tend to
// follow from it.
func syntaxProblems(diags hcl.Diagnostics, at Locator, hint string) diag.List {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		p := problem(d, at)
		if hint != "" {
			p.Hint = hint // HCL's own speak of files and nesting
		}
		return diag.List{p}
	}
	return nil
}

// evalProblems are what evaluation found. HCL's details may quote values:
// they are left out where one of the values is sensitive.
func evalProblems(diags hcl.Diagnostics, at Locator, sensitive bool) diag.List {
	var problems diag.List
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		p := problem(d, at)
		if sensitive {
			p.Text, p.Hint = lower(d.Summary), "details are not shown: the expression uses a sensitive value"
		}
		problems = append(problems, p)
	}
	return problems
}

// problem puts HCL's diagnostic in the house's words: the first sentence of
// the detail names what is wrong, the others tell what to do.
func problem(d *hcl.Diagnostic, at Locator) diag.Problem {
	detail := ranges.ReplaceAllString(strings.Join(strings.Fields(d.Detail), " "), "")
	text, hint, _ := strings.Cut(detail, ". ")
	if text == "" {
		text = d.Summary
	}
	p := diag.Problem{Pos: at(0), Text: lower(text), Hint: lower(hint)}
	if d.Subject != nil {
		p.Pos = at(d.Subject.Start.Byte)
	}
	return p
}

// ranges are places in HCL's own notation, in a file that has no name here.
var ranges = regexp.MustCompile(` at :\d+,[\d,-]+`)

// lower makes a sentence a problem's text: lower case, no full stop.
func lower(sentence string) string {
	sentence = strings.TrimSuffix(strings.TrimSpace(sentence), ".")
	first, size := utf8.DecodeRuneInString(sentence)
	if size == 0 {
		return ""
	}
	return string(unicode.ToLower(first)) + sentence[size:]
}
