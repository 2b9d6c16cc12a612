package shellscript

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Marker stands for {{.Vars}} where the variables reach the script another way
// than on its command line: a harmless assignment, right in every position
// where a list of assignments is.
const Marker = "IMGBAKE=1"

// CommandData is what an execute_command can use.
type CommandData struct {
	Vars       string // the variables as a list of assignments
	Path       string // the script
	Script     string // the script, as shell-local calls it
	EnvVarFile string // a file that sets the variables
	Command    string // the inline command of shell-local
}

// Render fills in an execute_command.
func Render(command string, data CommandData) (string, error) {
	t, err := template.New("execute_command").Parse(command)
	if err != nil {
		return "", diag.Problem{Text: fmt.Sprintf("execute_command %q: %v", command, trim(err)), Hint: commandHint}
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return "", diag.Problem{Text: fmt.Sprintf("execute_command %q: %v", command, trim(err)), Hint: commandHint}
	}
	return out.String(), nil
}

const commandHint = "{{.Vars}}, {{.Path}} and {{.EnvVarFile}} are known here"

// trim drops the template package's own prefix.
func trim(err error) string {
	_, text, found := strings.Cut(err.Error(), "execute_command:")
	if !found {
		return err.Error()
	}
	return text
}

// Quote makes a word of the shell of s.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }

// Assignments writes variables in a format with two %s. The value's quotes are
// escaped for the single quotes that formats put around it.
func Assignments(vars []string, format string) string {
	var b strings.Builder
	for _, kv := range vars {
		name, v, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, format, name, strings.ReplaceAll(v, "'", `'"'"'`))
	}
	return b.String()
}
