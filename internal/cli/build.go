package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/publish"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/report"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/stepcache"
	"github.com/imgbake/imgbake-action/internal/store"
)

// buildFlags are the flags of build that no other command has.
type buildFlags struct {
	selection
	registries
	faces
	caches
	onError       string
	parallel      bool
	parallelBakes int
	force, debug  bool
	failFast      bool
	dryRun        bool
	load          string
	engine        string
	isolation     string
	squashOwners  bool
	record        string
	output        []string
	cacheDir      string
	noCache       bool
	noCacheFrom   string
}

func (a *App) build() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use: "build [TEMPLATE]", Aliases: []string{"bake"},
		Short: "Bake the images of a template",
		Long: `Bakes every image of the template, or those that -only and -except leave:
independent ones in parallel, staged ones in order. TEMPLATE is a file, a folder
that holds imgbake.yaml, or - for standard input; imgbake.yaml when not given.`,
		Example: `  imgbake build
  imgbake build -var version=1.2.3 -only 'web.*'
  imgbake build -only=docker base-image.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runBuild(cmd.Context(), templateArg(args), f)
		},
	}
	flags := cmd.Flags()
	f.selection.add(flags)
	f.registries.add(flags)
	f.faces.add(flags)
	f.caches.add(flags)
	flags.StringVar(&f.onError, "on-error", "cleanup", "what to do with a machine whose provisioning failed: cleanup, abort (leave it), ask, run-cleanup-provisioner")
	flags.BoolVar(&f.parallel, "parallel", true, "bake in parallel; -parallel=false is -parallel-builds=1")
	flags.IntVar(&f.parallelBakes, "parallel-builds", 0, "how many bakes at once; 0: no limit")
	flags.BoolVar(&f.force, "force", false, "overwrite files that are in the way")
	flags.BoolVar(&f.debug, "debug", false, "one bake at a time, pausing after each step when somebody is there to answer")
	flags.BoolVar(&f.failFast, "fail-fast", false, "end the other bakes when one fails")
	flags.BoolVar(&f.dryRun, "dry-run", false, "bake, but publish nothing")
	flags.StringVar(&f.load, "load", "auto", "put the images into the local engine, under their tags: true, false, or auto (if one answers)")
	flags.Lookup("load").NoOptDefVal = "true"
	flags.StringVar(&f.isolation, "isolation", "", "without an engine: namespaces or chroot (default: the strongest this machine allows)")
	flags.BoolVar(&f.squashOwners, "squash-ownership", false, "without an engine, as an ordinary user without subordinate ids: all files get one owner")
	flags.StringVar(&f.engine, "engine", "auto", "where docker builders are carried out: docker (on the engine), oci (without any), or auto (without, unless an option or this machine asks for one)")
	flags.StringVar(&f.record, "record", "", "write what was done, made and read to this JSON file")
	flags.StringArrayVar(&f.output, "output", nil, "write the images, whole: to a folder as an OCI image layout, or type=oci|docker,dest=PATH; an archive when PATH ends in .tar or is - (repeat)")
	flags.BoolVar(&f.noCache, "no-cache", false, "run every step, whatever earlier bakes have done")
	flags.StringVar(&f.noCacheFrom, "no-cache-from", "", "run this step, by its name or number, and all that follow")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "folder for layers and caches (default: imgbake in the user's cache folder)")
	return cmd
}

func templateArg(args []string) string {
	if len(args) == 0 {
		return DefaultTemplate
	}
	return args[0]
}

// baked is a plan that was carried out.
type baked struct {
	prepared
	warnings diag.List // of the template
	redactor *secret.Redactor
	results  []run.Result
	record   report.Record
	lines    io.Writer // where lines are told: standard output, unless an image goes there
}

// runBuild is the command: bake, and tell.
func (a *App) runBuild(ctx context.Context, name string, f buildFlags) error {
	done, err := a.bake(ctx, name, f)
	if err != nil && done.results == nil {
		return err
	}
	if a.Getenv("GITHUB_ACTIONS") == "true" && !f.json && !f.machineReadable {
		err = errors.Join(err, diag.Annotations(done.lines, report.Problems(done.results, done.redactor.Redact)))
	}
	return a.outcome(ctx, done.results, err)
}

// bake opens, resolves, plans, runs and records. The error is of what is no
// bake's own.
func (a *App) bake(ctx context.Context, name string, f buildFlags) (done baked, err error) {
	started := a.Now()
	if err := choice("on-error", f.onError, "cleanup", "abort", "ask", "run-cleanup-provisioner"); err != nil {
		return done, err
	}
	if err := errors.Join(choice("load", f.load, "auto", "true", "false"), choice("engine", f.engine, "auto", "docker", "oci"), choice("isolation", f.isolation, "", "namespaces", "chroot")); err != nil {
		return done, err
	}
	outputs, err := a.outputs(f.output)
	if err != nil {
		return done, err
	}
	if streamed(outputs) {
		told := *a
		told.Stdout, a = a.Stderr, &told
	}
	tools, err := a.tools(f)
	if err != nil {
		return done, err
	}
	defer tools.close()
	catalog := a.Catalog(tools.store, tools.registry, a.Getenv, a.Now, bake.Choice{Engine: f.engine, Isolation: f.isolation, SquashOwners: f.squashOwners})
	runID := newRunID()
	p, problems, err := a.prepare(ctx, name, f.selection, catalog, runID, started)
	done.prepared = p
	if err != nil {
		return done, err
	}
	if err := problems.Err(); err != nil {
		return done, &exitError{ExitTemplate, err}
	}
	redactor := p.redactor()
	face := f.given.face(p, redactor)
	if face.sink == nil {
		face = a.face(f.faces, redactor)
	}
	defer face.close()
	tools.say = func(text string) {
		face.sink.Emit(bake.Event{Time: a.Now(), Type: bake.Note, Text: text})
	}
	for _, problem := range problems {
		face.sink.Emit(bake.Event{Time: a.Now(), Type: bake.Warned, Text: problem.Error()})
	}

	local := stepcache.Local{Store: tools.store, Template: p.identity(), Notify: tools.say}
	cache, err := f.caches.open(ctx, p.plan.Cache, local, tools.registry, f.dryRun)
	if err != nil {
		return done, err
	}
	options := run.Options{
		RunID: runID, Catalog: catalog, Scope: p.scope, Redactor: redactor, Sink: face.sink,
		Publisher: tools.publisher(f.dryRun), Images: outside{tools.registry},
		Host: a.host(p, f.selection), Ask: a.asker(face), Files: p.files, Dir: p.dir, OutDir: a.Dir,
		Vars: a.proxies(), Agent: a.Getenv("SSH_AUTH_SOCK"), Now: a.Now, Parallel: f.parallelBakes, OnError: run.OnError(f.onError),
		Cache: cache, NoCache: f.noCache, NoCacheFrom: f.noCacheFrom,
		FailFast: f.failFast, Debug: f.debug, Force: f.force,
	}
	options.Loader = loader(catalog, f.load)
	if f.debug || !f.parallel {
		options.Parallel = 1
	}
	results := run.Run(ctx, p.plan, options)
	face.close()

	done = baked{prepared: p, warnings: problems, redactor: redactor, results: results, lines: a.Stdout, record: report.New(report.Input{
		Tool: report.Tool{Name: "imgbake", Version: a.Version}, RunID: runID,
		Started: started, Seconds: a.Now().Sub(started).Seconds(), Digest: p.digest(),
		Plan: p.plan, Results: results, Redact: redactor.Redact, Sensible: p.sensitive,
	})}
	if len(outputs) > 0 {
		err = write(ctx, outputs, results)
	}
	if f.record != "" {
		err = errors.Join(err, writeRecord(a.path(f.record), done.record))
	}
	f.caches.limit(tools.store, a.Now())
	return done, err
}

// loader is the engine, if images shall be loaded into one.
func loader(c bake.Catalog, when string) bake.Loader {
	switch when {
	case "true":
		return c.Loader
	case "auto":
		return &ifThere{Loader: c.Loader, engine: c.Engine}
	}
	return nil
}

// ifThere loads into an engine that answers; else it does nothing.
type ifThere struct {
	bake.Loader
	engine func(context.Context) (string, error)
	once   sync.Once
	there  bool
}

// Load implements bake.Loader.
func (l *ifThere) Load(ctx context.Context, a bake.Artifact) (bake.Artifact, error) {
	l.once.Do(func() {
		_, err := l.engine(ctx)
		l.there = err == nil
	})
	if !l.there {
		return a, nil
	}
	return l.Loader.Load(ctx, a)
}

// outcome turns results into the command's error. What went wrong has been
// shown by the sink already.
func (a *App) outcome(ctx context.Context, results []run.Result, err error) error {
	if err != nil {
		return &exitError{ExitFailed, err}
	}
	if ctx.Err() != nil {
		return &exitError{code: ExitInterrupted}
	}
	for _, res := range results {
		if res.Err != nil || res.Skipped != "" {
			return &exitError{code: ExitFailed}
		}
	}
	return nil
}

// tools are what reaches outside: the layer store and the registries. They
// speak to the user through say, once there is a face.
type tools struct {
	store    *store.Store
	registry *registry.Client
	say      func(string)
}

func (a *App) tools(f buildFlags) (*tools, error) {
	dir, err := a.cacheDir(f.cacheDir)
	if err != nil {
		return nil, err
	}
	t := &tools{say: func(string) {}}
	if t.store, err = store.Open(dir); err != nil {
		return nil, &exitError{ExitFailed, err}
	}
	if t.registry, err = f.registries.client(a, func(text string) { t.say(text) }, t.store); err != nil {
		t.store.Close()
		return nil, err
	}
	return t, nil
}

func (t *tools) close() {
	t.registry.Close()
	t.store.Close()
}

func (t *tools) publisher(dryRun bool) bake.Publisher {
	if dryRun {
		return publish.Nowhere{Notify: t.say}
	}
	return publish.Registry{Client: t.registry}
}

// cacheDir is the flag, IMGBAKE_CACHE_DIR, or imgbake in the user's cache folder.
func (a *App) cacheDir(flag string) (string, error) {
	if flag == "" {
		flag = a.Getenv("IMGBAKE_CACHE_DIR")
	}
	if flag != "" {
		return a.path(flag), nil
	}
	if base := a.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "imgbake"), nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", usage("no cache folder: %w (give --cache-dir)", err)
	}
	return filepath.Join(base, "imgbake"), nil
}

// host runs commands on this machine, where that is allowed.
func (a *App) host(p prepared, s selection) bake.Executor {
	if a.ci() && !s.allowHostExec {
		return nil
	}
	return local.Host{Dir: p.dir, Env: a.Environ}
}

// proxies are the proxy variables of this process, for the steps' commands only.
func (a *App) proxies() []string {
	var vars []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY",
		"http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy"} {
		if v := a.Getenv(name); v != "" {
			vars = append(vars, name+"="+v)
		}
	}
	return vars
}

func newRunID() string {
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// writeRecord replaces the file in one go, so that no half of a record is seen.
func writeRecord(path string, r report.Record) error {
	text, err := r.JSON()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := os.WriteFile(path+".tmp", text, 0o644); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return os.Rename(path+".tmp", path)
}

// outside reads files out of images in registries.
type outside struct{ registry *registry.Client }

// Digest implements bake.ImageReader.
func (o outside) Digest(ctx context.Context, ref string) (string, error) {
	named, err := name.ParseReference(ref)
	if err != nil {
		return "", fmt.Errorf("image %q is neither in the template nor a reference: %w", ref, err)
	}
	desc, err := o.registry.Head(ctx, named, registry.Auth{})
	return desc.Digest.String(), err
}

// Files implements bake.ImageReader.
func (o outside) Files(ctx context.Context, ref, path string) (io.ReadCloser, error) {
	named, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("image %q is neither in the template nor a reference: %w", ref, err)
	}
	img, _, err := o.registry.Image(ctx, named, v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, registry.Auth{})
	if err != nil {
		return nil, err
	}
	return store.Files(ctx, img, path)
}
