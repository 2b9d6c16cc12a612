// Command imgbake bakes immutable machine images.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/imgbake/imgbake-action/internal/catalog"
	"github.com/imgbake/imgbake-action/internal/cli"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

var version = "dev" // set by the linker

func main() {
	if guest.Is(os.Args) {
		os.Exit(guest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if sandbox.Is(os.Args) {
		os.Exit(sandbox.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, _ := os.Getwd()
	app := cli.App{
		Version: version, Catalog: catalog.All,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), Dir: dir, Now: time.Now,
	}
	os.Exit(app.Main(ctx, os.Args[1:]))
}
