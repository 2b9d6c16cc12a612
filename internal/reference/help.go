package reference

import (
	"fmt"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Groups are the sorts of components that Help knows.
func Groups() []string { return []string{"builder", "provisioner", "post-processor"} }

// Help is the help text of a component: `imgbake help builder docker`. Without
// a name it lists the group, and without a group all of them. The error of an
// unknown name is a diag.Problem that names the known ones.
func Help(c bake.Catalog, kind, name string) (string, error) {
	var b strings.Builder
	if kind == "" {
		for _, g := range groups(c) {
			g.list(&b)
			b.WriteString("\n")
		}
		return b.String(), nil
	}
	g, err := findGroup(c, kind)
	if err != nil {
		return "", err
	}
	if name == "" {
		g.list(&b)
		return b.String(), nil
	}
	one, err := g.find(name)
	if err != nil {
		return "", err
	}
	one.help(&b, g)
	return b.String(), nil
}

func findGroup(c bake.Catalog, kind string) (group, error) {
	wanted := strings.TrimSuffix(strings.ReplaceAll(kind, "_", "-"), "s")
	if wanted == "post" {
		wanted = "post-processor"
	}
	for _, g := range groups(c) {
		if g.name == wanted {
			return g, nil
		}
	}
	return group{}, diag.Problem{Text: fmt.Sprintf("unknown sort of component %q", kind), Hint: diag.Suggest(kind, Groups())}
}

func (g group) find(name string) (component, error) {
	var names []string
	for _, one := range g.components {
		if one.name == name {
			return one, nil
		}
		names = append(names, one.name)
	}
	return component{}, diag.Problem{Text: fmt.Sprintf("unknown %s type %q", g.name, name), Hint: diag.Suggest(name, names)}
}

func (g group) list(b *strings.Builder) {
	column := 0
	for _, one := range g.components {
		column = max(column, len(one.name))
	}
	b.WriteString(g.title + "\n")
	for _, one := range g.components {
		b.WriteString(hanging(fmt.Sprintf("  %-*s  ", column, one.name), summary(one.doc)))
	}
}

// lineWidth is how long a line of help gets.
const lineWidth = 80

func (c component) help(b *strings.Builder, g group) {
	fmt.Fprintf(b, "%s %s\n\n", g.name, c.name)
	for _, paragraph := range append(strings.Split(strings.TrimSpace(c.doc), "\n\n"), c.facts...) {
		b.WriteString(hanging("  ", plain(paragraph)) + "\n")
	}
	if c.example != "" {
		b.WriteString("Example\n\n")
		for line := range strings.Lines(strings.TrimSpace(c.example) + "\n") {
			b.WriteString(strings.TrimRight("  "+line, " \n") + "\n")
		}
		b.WriteString("\n")
	}
	if len(c.fields) > 0 {
		b.WriteString("Keys\n\n")
		keysHelp(b, "  ", c.fields)
	}
	if len(g.common) > 0 {
		fmt.Fprintf(b, "Keys of every %s\n\n", g.name)
		keysHelp(b, "  ", g.common)
	}
}

func keysHelp(b *strings.Builder, margin string, keys []value.Field) {
	for _, f := range keys {
		line := margin + f.Key + "  (" + f.Type
		if f.Required {
			line += ", required"
		}
		if f.Default != "" {
			line += ", default " + f.Default
		}
		b.WriteString(line + ")\n")
		text := plain(f.Doc)
		if len(f.Enum) > 0 {
			text += " One of " + strings.Join(f.Enum, ", ") + "."
		}
		if len(f.Aliases) > 0 {
			text += " Also written " + strings.Join(f.Aliases, ", ") + "."
		}
		b.WriteString(hanging(margin+"    ", text) + "\n")
		if len(f.Fields) > 0 {
			keysHelp(b, margin+"    ", f.Fields)
		}
	}
}

// plain takes the marks of code and emphasis out of Markdown.
func plain(markdown string) string {
	return strings.NewReplacer("`", "", "**", "").Replace(markdown)
}

// hanging breaks text into lines; the first starts with lead, the others with
// as much space.
func hanging(lead, text string) string {
	var b strings.Builder
	b.WriteString(lead)
	at, margin := len(lead), strings.Repeat(" ", len(lead))
	for i, word := range strings.Fields(text) {
		if i > 0 && at+1+len(word) > lineWidth {
			b.WriteString("\n" + margin)
			at = len(margin)
		} else if i > 0 {
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	b.WriteString("\n")
	return b.String()
}
