package bake

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// RenderFields fills a component's own {{.Name}} fields, as Packer's options
// have them, with data only the component knows. The text "{{" is left alone
// where no field is known under its name: that is an error.
func RenderFields(text string, data map[string]string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("%q: %s", text, strings.TrimPrefix(err.Error(), "template: :1: "))
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		names := make([]string, 0, len(data))
		for name := range data {
			names = append(names, "{{."+name+"}}")
		}
		return "", diag.Problem{Text: fmt.Sprintf("%q uses a field that is not known here", text), Hint: diag.Suggest("", names)}
	}
	return out.String(), nil
}
