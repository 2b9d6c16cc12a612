package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/stepcache"
)

func (a *App) explain() *cobra.Command {
	var f buildFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [TEMPLATE]",
		Short: "Say which steps are in the cache, and why others are not",
		Long: `Says for each step whether build would take it from the cache, and if not,
what it depends on that has changed since the last bake. Base images are looked
up as build does it. No machine is started, and nothing is baked. A secret is
never shown: steps depend on its name.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			told, err := a.explained(cmd.Context(), templateArg(args), f)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.Stdout, told)
			}
			return writeExplanations(a.Stdout, told)
		},
	}
	flags := cmd.Flags()
	f.selection.add(flags)
	f.registries.add(flags)
	f.addFrom(flags)
	flags.StringVar(&f.engine, "engine", "auto", "as in build")
	flags.StringVar(&f.cacheDir, "cache-dir", "", cacheDirHelp)
	flags.BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func (a *App) explained(ctx context.Context, name string, f buildFlags) ([]run.Explanation, error) {
	tools, err := a.tools(f)
	if err != nil {
		return nil, err
	}
	defer tools.close()
	if err := choice("engine", f.engine, "auto", "docker", "oci"); err != nil {
		return nil, err
	}
	catalog := a.Catalog(tools.store, tools.registry, a.Getenv, a.Now, bake.Choice{Engine: f.engine})
	id := newRunID()
	p, problems, err := a.prepare(ctx, name, f.selection, catalog, id, a.Now())
	if err != nil {
		return nil, err
	}
	problems.Append(p.plan.Read()) // what changed is told of all steps
	if err := problems.Err(); err != nil {
		return nil, &exitError{ExitTemplate, err}
	}
	redactor := p.redactor()
	tools.say = func(text string) { fmt.Fprintln(a.Stderr, redactor.Redact(text)) }
	local := stepcache.Local{Store: tools.store, Template: p.identity(), Notify: tools.say, ReadOnly: true}
	cache, err := f.caches.open(ctx, p.plan.Cache, local, tools.registry, true)
	if err != nil {
		return nil, err
	}
	return run.Explain(ctx, p.plan, run.Options{
		RunID: id, Catalog: catalog, Scope: p.scope, Redactor: redactor, Sink: silent{}, Images: outside{tools.registry},
		Cache: cache, Files: p.files, Dir: p.dir, OutDir: a.Dir, Now: a.Now,
	}, local.Last), nil
}

// silent is a Sink for what nobody asked about.
type silent struct{}

// Emit implements bake.Sink.
func (silent) Emit(bake.Event) {}

// writeExplanations writes a line for each step.
func writeExplanations(w io.Writer, told []run.Explanation) error {
	var problems []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		problems = append(problems, err)
	}
	for _, e := range told {
		line("%s", strings.TrimSpace(e.Bake+"  "+e.Why))
		for i, s := range e.Steps {
			word := "miss"
			if s.Hit {
				word = "hit "
			}
			line("  %2d  %s  %s", i+1, word, bake.OneLine(s.Title, 100))
			if s.Why != "" {
				line("            %s", s.Why)
			}
			for _, c := range s.Changed {
				line("            %s", changed(c))
			}
		}
	}
	return errors.Join(problems...)
}

func changed(c run.Change) string {
	before, now := shortened(c.Before), shortened(c.Now)
	switch {
	case before == "":
		return fmt.Sprintf("%s is new: %s", c.Input, now)
	case now == "":
		return fmt.Sprintf("%s is gone: %s", c.Input, before)
	case before == now: // they differ further on
		return c.Input + " changed"
	}
	return fmt.Sprintf("%s: %s -> %s", c.Input, before, now)
}

func shortened(text string) string {
	if digest, ok := strings.CutPrefix(text, "sha256:"); ok && len(digest) == 64 {
		return "sha256:" + digest[:12]
	}
	// As JSON is written for web pages, and not for people.
	text = strings.NewReplacer(`\u003e`, ">", `\u003c`, "<", `\u0026`, "&").Replace(text)
	return bake.OneLine(text, 60)
}
