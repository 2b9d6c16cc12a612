// Package shellscript is what the components that run shell scripts share: the
// keys of their configs, and ways to hand a script to a machine or the host
// that show nothing of it, nor of its environment, in a process list.
package shellscript

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// DefaultShebang runs inline lines so that the first one that fails ends them.
const DefaultShebang = "/bin/sh -e"

// Config holds the keys that say which scripts to run.
type Config struct {
	Inline          []string `key:"inline" doc:"Commands, run as one script, in order. The first one that fails ends it." opt:"short"`
	Script          string   `key:"script" doc:"A script of the template's folder."`
	Scripts         []string `key:"scripts" doc:"Scripts of the template's folder, run in order."`
	EnvironmentVars []string `key:"environment_vars" doc:"Environment of the script, as a list of NAME=value. The common key env does the same as a mapping."`
	EnvVarFormat    string   `key:"env_var_format" doc:"How {{.Vars}} and the file {{.EnvVarFile}} write one variable, with %s for the name and for the value."`
	InlineShebang   string   `key:"inline_shebang" doc:"What runs the inline commands, as on the first line of a script." opt:"default=/bin/sh -e"`
	ValidExitCodes  []int    `key:"valid_exit_codes" doc:"The exit statuses that mean success." opt:"default=0"`
}

// Check reports what is wrong across keys.
func (c Config) Check(w value.Where) diag.List {
	var problems diag.List
	given := 0
	for _, key := range []string{"inline", "script", "scripts"} {
		if w.Given(key) {
			given++
		}
	}
	if given != 1 {
		problems.Add(w.At(), "", "one of inline, script and scripts is needed, found %d", given)
	}
	for i, kv := range c.EnvironmentVars {
		if w.Late("environment_vars", i) || w.Late("environment_vars") && kv == "" {
			continue
		}
		if name, _, ok := strings.Cut(kv, "="); !ok || !validName(name) {
			problems.Add(w.At("environment_vars", i), "write NAME=value", "environment variable %q has no name", kv)
		}
	}
	if c.EnvVarFormat != "" && (strings.Count(c.EnvVarFormat, "%s") != 2 || strings.Count(c.EnvVarFormat, "%") != 2) {
		problems.Add(w.At("env_var_format"), `such as "%s='%s' "`, "env_var_format %q needs %%s twice, for the name and the value", c.EnvVarFormat)
	}
	for i, code := range c.ValidExitCodes {
		if code < 0 || code > 255 {
			problems.Add(w.At("valid_exit_codes", i), "an exit status is a number from 0 to 255", "exit status %d", code)
		}
	}
	return problems
}

func validName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && !(r <= unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)))
	}) && !unicode.IsDigit(rune(name[0]))
}

// Files lists the scripts that are files.
func (c Config) Files() []string {
	if c.Script != "" {
		return []string{c.Script}
	}
	return c.Scripts
}

// Inputs lists the script files for the step's cache key.
func (c Config) Inputs(w value.Where) []bake.Input {
	if c.Script != "" {
		return []bake.Input{{Path: c.Script, Pos: w.At("script")}}
	}
	var inputs []bake.Input
	for i, s := range c.Scripts {
		if s != "" {
			inputs = append(inputs, bake.Input{Path: s, Pos: w.At("scripts", i)})
		}
	}
	return inputs
}

// Title is the script in a few words: its name, or the first line of the
// inline commands and how many more there are.
func (c Config) Title() string {
	if len(c.Inline) > 0 {
		return InlineTitle(c.Inline)
	}
	files := c.Files()
	switch len(files) {
	case 0:
		return "script"
	case 1:
		return oneLine(files[0])
	}
	return fmt.Sprintf("%s (+%d more)", oneLine(files[0]), len(files)-1)
}

// InlineTitle is the first command that says something and the number of
// others.
func InlineTitle(lines []string) string {
	var said []string
	for _, line := range strings.Split(strings.Join(lines, "\n"), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "set -") {
			said = append(said, line)
		}
	}
	switch len(said) {
	case 0:
		return "inline"
	case 1:
		return oneLine(said[0])
	}
	return fmt.Sprintf("%s (+%d more)", oneLine(said[0]), len(said)-1)
}

// titleLength is what of a command is shown.
const titleLength = 72

func oneLine(s string) string { return bake.OneLine(s, titleLength) }

// Accepts reports whether an exit status means success.
func (c Config) Accepts(status int) bool {
	if len(c.ValidExitCodes) == 0 {
		return status == 0
	}
	return slices.Contains(c.ValidExitCodes, status)
}

// Result turns what running the script gave into an error or nil.
func (c Config) Result(title string, status int, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", title, err)
	case !c.Accepts(status):
		return &bake.ExitError{Command: title, Status: status}
	}
	return nil
}

// Shebang is what runs the inline commands.
func (c Config) Shebang() string {
	if c.InlineShebang == "" {
		return DefaultShebang
	}
	return strings.TrimSpace(strings.TrimPrefix(c.InlineShebang, "#!"))
}

// InlineText is the inline commands as a script file.
func (c Config) InlineText() []byte {
	return []byte("#!" + c.Shebang() + "\n" + strings.Join(c.Inline, "\n") + "\n")
}

// Read reads a script. Line ends become those of Unix unless it is binary.
func Read(files fs.FS, path string, binary bool) ([]byte, error) {
	text, err := fs.ReadFile(files, path)
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	if !binary {
		text = []byte(strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
	return text, nil
}
