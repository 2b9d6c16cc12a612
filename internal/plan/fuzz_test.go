package plan_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/imgbake/imgbake-action/internal/plan"
)

// FuzzPlan goes from bytes to a plan: no template makes it panic, a plan
// without errors can be printed, and no secret is in it.
func FuzzPlan(f *testing.F) {
	files, _ := filepath.Glob("../../testdata/plan/*.txt")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if ext := filepath.Ext(part.Name); ext == ".json" || ext == ".yaml" {
				f.Add(ext == ".json", part.Data)
			}
		}
	}
	f.Add(false, []byte(canaryTemplate))
	const canary = "canary-7f3a91"
	f.Fuzz(func(t *testing.T, isJSON bool, src []byte) {
		name := "t.yaml"
		if isJSON {
			name = "t.json"
		}
		c := settings("")
		for _, secret := range []string{"key", "secret", "api_key", "token"} {
			c.sources.Environ = append(c.sources.Environ, "PKR_VAR_"+secret+"="+canary)
		}
		tmpl, r, p, _, problems := c.plan(name, src)
		if problems.HasErrors() {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		shown := string(text) + plan.Tree(p)
		if _, err := json.Marshal(plan.Inspect(tmpl, r)); err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Variables {
			if !v.Sensitive && strings.Contains(v.String(), canary) {
				return // the template does not call it a secret
			}
		}
		if strings.Contains(shown, canary) && !strings.Contains(string(src), canary) {
			t.Errorf("the secret is in the plan: %s", shown)
		}
	})
}
