package cli

import (
	"regexp"
	"slices"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// advice is what to do about a problem, as flags say it and as a workflow does.
var advice = []struct {
	flags    *regexp.Regexp
	workflow string
}{
	{
		regexp.MustCompile(`no credentials for ghcr\.io: give --registry-auth \S+ or run docker login [^\s)]+`),
		"no credentials for ghcr.io: give the job packages: write and leave the input github-token as it is, or write ghcr.io=USER:TOKEN into the input registry-auth",
	},
	{
		regexp.MustCompile(`no credentials for (\S+): give --registry-auth (\S+) or run docker login [^\s)]+`),
		"no credentials for $1: write $2 into the input registry-auth; a docker login of an earlier step is not seen in the action's container",
	},
	{
		regexp.MustCompile(`(the credentials do not allow this: check the permissions on (ghcr\.io/[^\s)]+))`),
		"$1; a push wants packages: write, and that the package $2 lets this repository write",
	},
	{regexp.MustCompile(`with --insecure-registry ([^\s)]+)`), "with $1 in the input insecure-registries"},
	{regexp.MustCompile(`with --allow-host-exec`), "with the input allow-host-exec: true"},
}

// advise makes what a text says of flags right for a workflow.
func advise(text string) string {
	for _, a := range advice {
		text = a.flags.ReplaceAllString(text, a.workflow)
	}
	return text
}

// advised is what problems say in a workflow.
func advised(list diag.List) diag.List {
	list = slices.Clone(list)
	for i := range list {
		list[i].Text, list[i].Hint = advise(list[i].Text), advise(list[i].Hint)
	}
	return list
}
