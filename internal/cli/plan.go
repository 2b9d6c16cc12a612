package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
)

// still is the catalog for commands that bake nothing.
func (a *App) still() bake.Catalog {
	return a.Catalog(nil, nil, a.Getenv, a.Now, bake.Choice{Engine: "auto"})
}

func (a *App) plan() *cobra.Command {
	var s selection
	var asJSON, asTree, matrix bool
	cmd := &cobra.Command{
		Use:   "plan [TEMPLATE]",
		Short: "Print what build would do, and do nothing",
		Long: `Prints what build would do: as a tree in a terminal, as JSON elsewhere. A secret
is never in it: what needs one stays an expression.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, problems, err := a.prepare(cmd.Context(), templateArg(args), s, a.still(), newRunID(), a.Now())
			if err != nil {
				return err
			}
			if err := problems.Err(); err != nil {
				return &exitError{ExitTemplate, err}
			}
			if len(problems) > 0 {
				a.show(problems)
			}
			return a.printPlan(p.plan, matrix, asJSON || !asTree && !isTerminal(a.Stdout))
		},
	}
	s.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON also in a terminal")
	cmd.Flags().BoolVar(&asTree, "tree", false, "the tree also where there is no terminal")
	cmd.Flags().BoolVar(&matrix, "matrix", false, "a matrix for GitHub Actions instead, one leg a bake")
	return cmd
}

func (a *App) printPlan(p plan.Plan, matrix, asJSON bool) error {
	switch {
	case matrix:
		text, err := plan.Matrix(p)
		if err != nil {
			return err
		}
		return writeText(a.Stdout, string(text)+"\n")
	case asJSON:
		if err := p.Read().Err(); err != nil {
			return &exitError{ExitTemplate, err}
		}
		return writeJSON(a.Stdout, p)
	}
	return writeText(a.Stdout, plan.Tree(p))
}

func (a *App) validate() *cobra.Command {
	var s selection
	var format string
	var syntaxOnly bool
	cmd := &cobra.Command{
		Use:   "validate [TEMPLATE]",
		Short: "Report every problem of a template",
		Long: `Reports every problem of a template and its variables at once: as text with the
line and a caret, as JSON, or as annotations of a GitHub workflow (the default
there).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice("format", format, "", "text", "json", "annotations"); err != nil {
				return err
			}
			var problems diag.List
			var err error
			if syntaxOnly {
				_, problems, err = a.open(templateArg(args))
				problems.Sort()
			} else {
				_, problems, err = a.prepare(cmd.Context(), templateArg(args), s, a.still(), newRunID(), a.Now())
			}
			if err != nil {
				return err
			}
			return a.report(problems, format)
		},
	}
	s.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "", "text, json or annotations")
	cmd.Flags().BoolVar(&syntaxOnly, "syntax-only", false, "look at the file only, not at variables and components")
	return cmd
}

// report prints problems, or that there is none.
func (a *App) report(problems diag.List, format string) error {
	if format == "" && a.Getenv("GITHUB_ACTIONS") == "true" {
		format = "annotations"
	}
	var err error
	switch {
	case format == "json":
		err = diag.JSON(a.Stdout, problems)
	case format == "annotations":
		err = diag.Annotations(a.Stdout, problems)
	case len(problems) == 0:
		err = writeText(a.Stdout, "the template is valid\n")
	default:
		err = diag.Text(a.Stderr, problems, diag.TextOptions{Source: a.source, Color: a.colour(a.Stderr)})
	}
	if err == nil && problems.HasErrors() {
		err = &exitError{code: ExitTemplate}
	}
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func writeText(w io.Writer, text string) error {
	_, err := fmt.Fprint(w, text)
	return err
}
