package runner

import (
	"slices"
	"strings"
)

// Command is a command that the runner found in a step's log.
type Command struct {
	Name       string
	Properties map[string]string
	Data       string
}

// known are the commands that the runner acts upon.
var known = []string{
	"add-mask", "group", "endgroup", "debug", "notice", "warning", "error", "add-matcher", "remove-matcher",
	"echo", "stop-commands", "set-env", "add-path", "set-output", "save-state",
}

// ReadLog reads a log as ActionCommandManager.cs does: commands of both forms,
// :: at the start of a line and ##[ anywhere, those between stop-commands and
// its token left out. What is left is masked.
func ReadLog(raw string) (shown string, commands []Command, masks []string) {
	var b strings.Builder
	token := ""
	for line := range strings.Lines(strings.ReplaceAll(raw, "\r", "\n")) {
		line = strings.TrimSuffix(line, "\n")
		c, ok := parse(line)
		switch {
		case token != "" && ok && c.Name == token:
			token = ""
			continue
		case token != "" || !ok || !slices.Contains(known, c.Name):
			b.WriteString(masked(line, masks) + "\n")
			continue
		}
		switch c.Name {
		case "stop-commands":
			token = c.Data
		case "add-mask":
			masks = append(masks, c.Data)
		}
		commands = append(commands, c)
	}
	return b.String(), commands, masks
}

func masked(line string, masks []string) string {
	for _, m := range masks {
		for part := range strings.SplitSeq(m, "\n") {
			if part != "" {
				line = strings.ReplaceAll(line, part, "***")
			}
		}
	}
	return line
}

func parse(line string) (Command, bool) {
	if text, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "::"); ok {
		head, data, ok := strings.Cut(text, "::")
		return command(head, data, ",", ok)
	}
	if _, text, ok := strings.Cut(line, "##["); ok {
		head, data, ok := strings.Cut(text, "]")
		return command(head, data, ";", ok)
	}
	return Command{}, false
}

func command(head, data, separator string, ok bool) (Command, bool) {
	name, list, _ := strings.Cut(head, " ")
	c := Command{Name: name, Properties: map[string]string{}, Data: unescape(data)}
	for property := range strings.SplitSeq(list, separator) {
		if key, value, ok := strings.Cut(property, "="); ok {
			c.Properties[strings.TrimSpace(key)] = unescape(value)
		}
	}
	return c, ok && name != ""
}

func unescape(s string) string {
	return strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",").Replace(s)
}
