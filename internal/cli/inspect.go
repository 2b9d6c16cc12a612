package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/vars"
)

func (a *App) inspect() *cobra.Command {
	var s selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [TEMPLATE]",
		Short: "Show a template's variables, where their values come from, and its images",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, problems, err := a.open(templateArg(args))
			if err != nil {
				return err
			}
			if err := problems.Err(); err != nil {
				return &exitError{ExitTemplate, err}
			}
			resolved, err := a.resolveOnly(cmd, o, s)
			if err != nil {
				return err
			}
			overview := plan.Inspect(o.Template, resolved)
			if asJSON {
				return writeJSON(a.Stdout, overview)
			}
			return printOverview(a.Stdout, overview)
		},
	}
	s.addVars(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// resolveOnly resolves variables; a missing or wrong value is no obstacle to
// looking at the template, it is told.
func (a *App) resolveOnly(cmd *cobra.Command, o opened, s selection) (vars.Resolved, error) {
	facts, err := a.facts(cmd.Context(), o, s, newRunID(), a.Now())
	if err != nil {
		return vars.Resolved{}, err
	}
	files, err := a.varFiles(o, s.varFiles)
	if err != nil {
		return vars.Resolved{}, err
	}
	resolved, problems := vars.Resolve(o.Variables, vars.Sources{Flags: s.vars, Environ: a.Environ, Files: files, Facts: facts.Entries()})
	if len(problems) > 0 {
		diag.Text(a.Stderr, problems, diag.TextOptions{Source: a.source, Color: a.colour(a.Stderr)}) //nolint:errcheck // the overview still follows
	}
	return resolved, nil
}

func printOverview(out io.Writer, o plan.Overview) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if o.Description != "" {
		fmt.Fprintf(w, "%s\n\n", o.Description)
	}
	fmt.Fprintln(w, "VARIABLE\tVALUE\tFROM\tDESCRIPTION")
	for _, v := range o.Variables {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Name, shownValue(v), shownSource(v), v.Description)
	}
	if len(o.Variables) == 0 {
		fmt.Fprintln(w, "none\t\t\t")
	}
	fmt.Fprintln(w)
	for _, image := range o.Images {
		printImage(w, image)
	}
	return w.Flush()
}

func shownValue(v plan.VariableOverview) string {
	switch {
	case !v.Set:
		return "-"
	case v.Sensitive:
		return secret.Mask
	}
	return oneLine(fmt.Sprint(v.Value))
}

func shownSource(v plan.VariableOverview) string {
	switch {
	case v.Set:
		return v.Source
	case v.Required:
		return "required, not set"
	}
	return "not set"
}

func printImage(w io.Writer, image plan.ImageOverview) {
	title := "builders"
	if image.Name != "" {
		title = "image " + image.Name
	}
	if image.From != "" {
		title += " (from " + image.From + ")"
	}
	fmt.Fprintln(w, title)
	if image.Description != "" {
		fmt.Fprintf(w, "  %s\n", image.Description)
	}
	line := func(name string, list []plan.ComponentSummary) {
		if len(list) > 0 {
			fmt.Fprintf(w, "  %s\t%s\n", name, names(list))
		}
	}
	line("builders", image.Builders)
	line("provisioners", image.Provisioners)
	if image.Cleanup != nil {
		line("on error", []plan.ComponentSummary{*image.Cleanup})
	}
	for _, sequence := range image.Posts {
		line("then", sequence)
	}
}

func names(list []plan.ComponentSummary) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.Type
		if c.Name != "" && c.Name != c.Type {
			out[i] = c.Name + " (" + c.Type + ")"
		}
	}
	return strings.Join(out, ", ")
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:59]) + "…"
	}
	return s
}
