package vars

import (
	"testing"

	"github.com/imgbake/imgbake-action/internal/template"
)

// TestSecrets: what comes as a secret is sensitive whatever the template says;
// where secrets are withheld, a sensitive variable may lack a value, and no other.
func TestSecrets(t *testing.T) {
	decls := []template.Variable{{Name: "token"}, {Name: "declared", Sensitive: true}}
	given, problems := Resolve(decls, Sources{Secrets: map[string]string{"token": "hunter2hunter2", "declared": "correct horse"}})
	if problems != nil || !given.Variables[0].Sensitive || given.Variables[0].Value != "hunter2hunter2" {
		t.Errorf("got %v, %v", given.Variables, problems)
	}
	withheld := Sources{Secrets: map[string]string{"token": ""}, Withheld: true}
	given, problems = Resolve(decls, withheld)
	if problems != nil || given.Variables[0].Known || given.Variables[1].Known {
		t.Errorf("withheld: got %v, %v", given.Variables, problems)
	}
	if _, problems = Resolve(append(decls, template.Variable{Name: "open"}), withheld); len(problems) != 1 {
		t.Errorf("a variable that is no secret: got %v, want one problem", problems)
	}
	if _, problems = Resolve(decls, Sources{}); len(problems) != 2 {
		t.Errorf("not withheld: got %v, want two problems", problems)
	}
}
