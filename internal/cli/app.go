// Package cli is the command line: one file a command. It fills the same
// options whatever the face, and knows no component.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/store"
)

// The exit codes, all of them.
const (
	ExitDone        = 0   // everything asked for was done
	ExitFailed      = 1   // a bake failed, or what was asked for could not be done
	ExitUsage       = 2   // wrong command, flag or argument
	ExitTemplate    = 3   // the template or a variable is wrong; nothing was started
	ExitInterrupted = 130 // ended by SIGINT or SIGTERM; everything was torn down
)

// App is the program with the outside world passed in.
type App struct {
	Version string
	// Catalog makes every component type. Its arguments may be nil where
	// nothing is baked.
	Catalog func(*store.Store, *registry.Client, func(string) string, func() time.Time, bake.Choice) bake.Catalog

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string // K=V
	Dir            string   // the working directory
	Now            func() time.Time

	piped []byte // the template that was read from standard input
}

// exitError ends the program with a code; its error, if any, is still to be shown.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs one command line and returns the exit code.
func (a *App) Main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(normalise(root, args))
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return ExitDone
	case !errors.As(err, &exit):
		exit = &exitError{ExitUsage, err}
	}
	if exit.err != nil {
		a.show(exit.err)
	}
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	return exit.code
}

// show prints an error: problems with their source lines, anything else on one line.
func (a *App) show(err error) {
	var list diag.List
	var one diag.Problem
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = diag.List{one}
	default:
		fmt.Fprintf(a.Stderr, "imgbake: %v\n", err)
		return
	}
	_ = diag.Text(a.Stderr, list, diag.TextOptions{Source: a.source, Color: a.colour(a.Stderr)})
}

// source reads a file that a problem points into.
func (a *App) source(file string) []byte {
	if file == "-" {
		return a.piped
	}
	data, _ := os.ReadFile(a.path(file))
	return data
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "imgbake",
		Short: "Bake immutable machine images, the same on a laptop and in CI",
		Long: `imgbake reads a template, resolves its variables and bakes the images it
describes: on several builders, in parallel, in stages. What it makes is the
same, byte for byte, wherever it is made.

Exit codes: 0 done; 1 a bake failed; 2 wrong use; 3 the template is wrong;
130 interrupted.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown("command", args[0], commandNames(cmd))
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.AddCommand(a.build(), a.merge(), a.action(), a.plan(), a.explain(), a.validate(), a.inspect(), a.initialise(), a.cache(), a.doctor(), a.docs(), a.version())
	root.SetHelpCommand(a.help(root))
	root.CompletionOptions.HiddenDefaultCmd = false
	return root
}

func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError says which flag is wrong, as the user wrote it, and which is near.
func flagError(cmd *cobra.Command, err error) error {
	name := ""
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		if name = missing.GetSpecifiedName(); missing.GetSpecifiedShortnames() != "" {
			name = missing.GetSpecifiedShortnames()
		}
		name, _, _ = strings.Cut(name, "=")
	}
	if name == "" {
		return &exitError{ExitUsage, err}
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return unknown("flag", "-"+name, known)
}

func unknown(what, name string, known []string) error {
	return usage("unknown %s %q (%s)", what, name, diag.Suggest(strings.TrimLeft(name, "-"), known))
}

// normalise lets the long flags be written with one dash, as Packer's users
// do: -only=docker, -var 'x=1', -on-error abort. As there, -machine-readable may
// stand in front of the command.
func normalise(root *cobra.Command, args []string) []string {
	if len(args) > 1 && strings.TrimLeft(args[0], "-") == "machine-readable" {
		args = append([]string{args[1], args[0]}, args[2:]...)
	}
	cmd, _, err := root.Find(args)
	if err != nil {
		cmd = root
	}
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = arg
		if arg == "--" {
			copy(out[i:], args[i:])
			break
		}
		if len(arg) < 3 || arg[0] != '-' || arg[1] == '-' {
			continue
		}
		name, _, _ := strings.Cut(arg[1:], "=")
		if cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil {
			out[i] = "-" + arg
		}
	}
	return out
}

// Getenv finds a variable in Environ; the last one wins.
func (a *App) Getenv(key string) string {
	for i := len(a.Environ) - 1; i >= 0; i-- {
		if k, v, _ := strings.Cut(a.Environ[i], "="); k == key {
			return v
		}
	}
	return ""
}

// ci reports whether this is a continuous-integration job.
func (a *App) ci() bool { return a.Getenv("CI") != "" && a.Getenv("CI") != "false" }

// colour reports whether colours suit a stream: a terminal, and nobody said no.
func (a *App) colour(w io.Writer) bool {
	return isTerminal(w) && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// usage marks an error as wrong use.
func usage(format string, args ...any) error {
	return &exitError{ExitUsage, fmt.Errorf(format, args...)}
}
