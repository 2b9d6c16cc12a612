package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the findings for a person: a sign, the name, what was found,
// and below it what to do.
func Table(w io.Writer, findings []Finding, color bool) error {
	column := 0
	for _, f := range findings {
		column = max(column, len(f.Name))
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %-*s  %s\n", sign(f, color), column, f.Name, f.Detail)
		if f.Hint != "" {
			fmt.Fprintf(&b, "  %*s  %s\n", column, "", paint(color, "36", f.Hint))
		}
	}
	b.WriteString("\n" + verdict(findings) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func verdict(findings []Finding) string {
	var missing []string
	for _, f := range findings {
		if !f.OK && !f.Optional {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) == 0 {
		return "this machine can bake"
	}
	return "this machine cannot bake yet: see " + strings.Join(missing, ", ")
}

func sign(f Finding, color bool) string {
	switch {
	case f.OK && f.Hint != "":
		return paint(color, "33", "!")
	case f.OK:
		return paint(color, "32", "✓")
	case f.Optional:
		return paint(color, "33", "○")
	}
	return paint(color, "31", "✗")
}

func paint(color bool, attributes, text string) string {
	if !color {
		return text
	}
	return "\x1b[" + attributes + "m" + text + "\x1b[0m"
}
