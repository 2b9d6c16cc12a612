package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/doctor"
	"github.com/imgbake/imgbake-action/internal/reference"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/scaffold"
)

func (a *App) initialise() *cobra.Command {
	var o scaffold.Options
	cmd := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Write a first template",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, kind := a.Dir, o.Kind
			if !cmd.Flags().Changed("template") {
				o.Kind = ""
			}
			if len(args) == 1 {
				dir = a.path(args[0])
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return &exitError{ExitFailed, err}
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				return &exitError{ExitFailed, err}
			}
			defer root.Close()
			written, err := scaffold.Write(root, o)
			if err != nil {
				return &exitError{ExitFailed, err}
			}
			for _, name := range written {
				fmt.Fprintln(a.Stdout, "wrote", name)
			}
			for _, k := range scaffold.Kinds() {
				if k.Name == kind && slices.Contains(written, k.Main) {
					fmt.Fprintln(a.Stdout, "\nnext:", k.Command)
				}
			}
			return nil
		},
	}
	var kinds []string
	for _, k := range scaffold.Kinds() {
		kinds = append(kinds, k.Name+": "+k.Doc)
	}
	cmd.Long = "Writes a first template into the folder, the working directory when not given.\n\n  " + strings.Join(kinds, "\n  ")
	cmd.Flags().StringVar(&o.Kind, "template", scaffold.Kinds()[0].Name, "which one")
	cmd.Flags().BoolVar(&o.Force, "force", false, "overwrite files that are there")
	cmd.Flags().BoolVar(&o.GitHub, "github", false, "also a workflow for GitHub Actions; a template that is there stays")
	cmd.Flags().StringVar(&o.Action, "action", scaffold.Action, "the action that the workflow uses, better by commit than by tag")
	return cmd
}

func (a *App) doctor() *cobra.Command {
	var asJSON bool
	var hosts []string
	var reg registries
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.cacheDir("")
			if err != nil {
				return err
			}
			client, err := reg.client(a, func(string) {}, nil)
			if err != nil {
				return err
			}
			defer client.Close()
			probes := doctor.Host(dir, a.Getenv)
			probes.Registries = hosts
			probes.Registry = func(ctx context.Context, host string) error { return answers(ctx, client, host) }
			engine := a.still().Engine
			probes.Engine = func(ctx context.Context) (string, error) { return engine(ctx) }
			findings := doctor.Run(cmd.Context(), probes)
			if asJSON {
				err = writeJSON(a.Stdout, findings)
			} else {
				err = doctor.Table(a.Stdout, findings, a.colour(a.Stdout))
			}
			if err == nil && !doctor.Healthy(findings) {
				err = &exitError{code: ExitFailed}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	reg.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&hosts, "registry", nil, "also ask whether this registry answers (repeat)")
	return cmd
}

// answers asks a registry for an image it need not have: that there is none, or
// that one must sign in, is an answer too.
func answers(ctx context.Context, client *registry.Client, host string) error {
	ref, err := name.ParseReference(host + "/imgbake/doctor:latest")
	if err != nil {
		return err
	}
	_, err = client.Head(ctx, ref, registry.Auth{})
	var answer *registry.Error
	if errors.As(err, &answer) && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}, answer.Status) {
		return nil
	}
	return err
}

// docs writes what is generated from the components: the reference and the schema.
func (a *App) docs() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "docs", Short: "Write the generated reference and JSON Schema", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			catalog := a.still()
			schema, err := reference.Schema(catalog)
			if err != nil {
				return err
			}
			for name, text := range map[string][]byte{
				"reference.md": reference.Markdown(catalog), "schema/imgbake.schema.json": schema,
			} {
				path := filepath.Join(a.path(dir), name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(path, text, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "docs", "folder to write to")
	return cmd
}

func (a *App) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.Stdout, "imgbake %s %s/%s\n", a.Version, runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// help explains a command, or a component: imgbake help builder docker.
func (a *App) help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | builder | provisioner | post-processor [NAME]]",
		Short: "Explain a command or a component",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				for _, group := range reference.Groups() {
					if args[0] == group {
						text, err := reference.Help(a.still(), group, strings.Join(args[1:], " "))
						if err != nil {
							return &exitError{ExitUsage, err}
						}
						return writeText(a.Stdout, text)
					}
				}
			}
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage("no help for %q: see imgbake help", strings.Join(args, " "))
			}
			return cmd.Help()
		},
	}
}
