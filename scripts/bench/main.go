// Bench measures imgbake beside public tools of the trade, all in one run and
// in turn, and prints ratios with the goals they are held to. It is started by
// scripts/bench.sh, which brings the tools, a Docker Engine and a registry, and
// is no part of the product.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

// options is what bench.sh says.
type options struct {
	Imgbake  string         // the program to measure
	Engines  bool           // whether it has --engine
	Buildx   string         // BuildKit's own client
	Registry string         // host:port, on loopback, anonymous, http
	Storage  string         // the registry's folder
	Rootfs   string         // tar of the base image
	Work     string         // folder for everything made here
	Memory   string         // folder in memory
	Runs     int            // per cell
	Select   *regexp.Regexp // which of "workload/tool" to run
	JSON     string         // file for the results; "": none
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = bench(ctx, o, os.Environ(), os.Stdout, os.Stderr) //nolint:forbidigo // this is main
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Imgbake, "imgbake", "bin/imgbake", "the program to measure")
	flags.StringVar(&o.Buildx, "buildx", "buildx", "the buildx program")
	flags.StringVar(&o.Registry, "registry", "", "host:port of an empty registry on loopback")
	flags.StringVar(&o.Storage, "storage", "", "the registry's folder; it is emptied")
	flags.StringVar(&o.Rootfs, "rootfs", "", "tar of a root file system for the base image")
	flags.StringVar(&o.Work, "work", "", "folder for everything made here")
	flags.StringVar(&o.Memory, "memory", "", "folder on tmpfs")
	flags.IntVar(&o.Runs, "runs", 5, "runs per cell")
	flags.StringVar(&o.JSON, "json", "", "write the results to this file, too")
	selected := flags.String("run", "", "only the cells, written workload/tool, that match this regular expression")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.Registry == "" || o.Storage == "" || o.Rootfs == "" || o.Work == "" || o.Memory == "" || o.Runs < 1 || flags.NArg() > 0 {
		return o, fmt.Errorf("bench is started by scripts/bench.sh")
	}
	var err error
	o.Select, err = regexp.Compile(*selected)
	return o, err
}

// bench does it all. It fails when something did not run, never for a ratio.
func bench(ctx context.Context, o options, env []string, stdout, stderr io.Writer) error {
	h := host{env: env, dir: o.Work, log: o.Work + "/last.log"}
	tools, err := versions(ctx, h, o)
	if err != nil {
		return err
	}
	help, err := h.output(ctx, o.Imgbake, "build", "--help")
	if err != nil {
		return err
	}
	o.Engines = strings.Contains(help, " --engine ")
	r := report{Machine: thisMachine(), Tools: tools, Runs: o.Runs}
	var errs []error
	for _, w := range workloads(h, o) {
		rows, err := measure(ctx, w, o.Runs, o.Select, stderr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.ID, err))
		}
		r.add(w, rows)
		if ctx.Err() != nil {
			break // what was measured before is shown all the same
		}
	}
	r.markdown(stdout)
	if o.JSON != "" {
		errs = append(errs, r.writeJSON(o.JSON))
	}
	return errors.Join(append(errs, r.failures())...)
}

// workloads are named as in the project's performance notes. Those that empty
// the registry come after those that start from an image in it.
func workloads(h host, o options) []workload {
	return []workload{
		hello(h, o), unchanged(h, o), helloProcesses(h, o), lastStep(h, o), parallel(h, o),
		push(h, o), pushZstd(h, o), pushBytes(h, o), manyFiles(h, o),
		planning(h, o), planningProcesses(h, o), version(h, o),
	}
}
