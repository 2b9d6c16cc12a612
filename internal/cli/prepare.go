package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// prepared is a template resolved into a plan.
type prepared struct {
	opened
	resolved vars.Resolved
	plan     plan.Plan
	scope    value.Scope // with secrets
}

// prepare opens a template, resolves its variables and plans it. The list holds
// every problem of every stage that could be reached; with an error in it the
// plan must not be run.
func (a *App) prepare(ctx context.Context, name string, s selection, catalog bake.Catalog, runID string, started time.Time) (prepared, diag.List, error) {
	o, problems, err := a.open(name)
	if err != nil {
		return prepared{}, nil, err
	}
	p := prepared{opened: o}
	if err := s.given.addDestinations(&o.Template); err != nil {
		return p, nil, err
	}
	facts, err := a.facts(ctx, o, s, runID, started)
	if err != nil {
		return p, nil, err
	}
	files, err := a.varFiles(o, s.varFiles)
	if err != nil {
		return p, nil, err
	}
	var more diag.List
	p.resolved, more = vars.Resolve(o.Variables, vars.Sources{
		Flags: s.vars, Inputs: s.given.inputs, Secrets: s.given.secrets, Environ: a.Environ, Files: files, Facts: facts.Entries(), Withheld: s.given.withheld,
	})
	problems.Append(more)
	p.plan, p.scope, more = plan.Make(o.Template, p.resolved, catalog, facts, plan.Options{Only: s.only, Except: s.except, Platforms: s.platforms})
	problems.Append(more)
	problems.Sort()
	s.given.label(p.plan)
	return p, problems, nil
}

// redactor knows every secret of the run.
func (p prepared) redactor() *secret.Redactor {
	r := &secret.Redactor{}
	for _, text := range plan.Secrets(p.scope) {
		// Short ones were warned of by vars: masking them would shred the log.
		r.Add(text) //nolint:errcheck // refused when too short, see above
	}
	return r
}

// sensitive keeps the names that are secrets.
func (p prepared) sensitive(names []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, name := range names {
		if entry, e, ok := p.scope.Lookup(name); ok && e.Sensitive && !seen[entry] {
			seen[entry] = true
			out = append(out, entry)
		}
	}
	return out
}

// digest is that of the template's bytes.
func (p prepared) digest() string { return digestOf(p.src) }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// facts gathers what the plan may know of the world.
func (a *App) facts(ctx context.Context, o opened, s selection, runID string, started time.Time) (plan.Facts, error) {
	f := plan.Facts{
		Root: o.home, Cwd: a.Dir, Time: started, UUID: runID, Version: a.Version,
		CI: a.ci(), AllowHostExec: s.allowHostExec,
		Digest: func(in bake.Input) (plan.Content, error) { return newInput(o.dir, o.files, in) },
	}
	if text := a.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds < 0 {
			return f, usage("SOURCE_DATE_EPOCH=%q: want seconds since 1970", text)
		}
		epoch := time.Unix(seconds, 0).UTC()
		f.Epoch = &epoch
	}
	auto := bytes.Contains(o.src, []byte("auto"))
	if auto || bytes.Contains(o.src, []byte("git.")) { // else asking would only cost a process
		f.Git = s.given.git
		if f.Git == nil {
			f.Git = a.gitFacts(ctx, o.home)
		}
	}
	if f.Tags = s.given.tags; auto && f.Tags == nil {
		f.Tags = gitTags(f.Git, started)
	}
	return f, nil
}

// gitFacts asks git about the template's checkout. What git does not know, or
// where there is no git, stays unknown.
func (a *App) gitFacts(ctx context.Context, dir string) map[string]any {
	host := local.Host{Dir: dir, Env: a.Environ}
	ask := func(args ...string) (string, bool) {
		var out strings.Builder
		status, err := host.Exec(ctx, bake.Cmd{Args: append([]string{"git"}, args...), Stdout: &out})
		return strings.TrimSpace(out.String()), err == nil && status == 0
	}
	facts := map[string]any{}
	sha, ok := ask("rev-parse", "HEAD")
	if !ok {
		return facts
	}
	facts["sha"], facts["short_sha"] = sha, sha[:min(7, len(sha))]
	if branch, ok := ask("symbolic-ref", "--short", "-q", "HEAD"); ok {
		facts["branch"] = branch
	}
	if tag, ok := ask("describe", "--tags", "--exact-match", "HEAD"); ok {
		facts["tag"] = tag
	}
	if changes, ok := ask("status", "--porcelain"); ok {
		facts["dirty"] = changes != ""
	}
	return facts
}

// varFiles reads the files that apply by themselves and those named by flags.
func (a *App) varFiles(o opened, names []string) ([]vars.File, error) {
	shown := filepath.Dir(o.File)
	if shown == "." || o.File == "-" {
		shown = ""
	}
	home, err := os.OpenRoot(o.home)
	if err != nil {
		return nil, fmt.Errorf("template folder: %w", err)
	}
	defer home.Close()
	files, err := vars.Auto(home.FS(), shown)
	if err != nil {
		return nil, fmt.Errorf("variable files: %w", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(a.path(name))
		if err != nil {
			return nil, usage("-var-file %q: %w", name, cause(err))
		}
		files = append(files, vars.File{Name: name, Data: data})
	}
	return files, nil
}
