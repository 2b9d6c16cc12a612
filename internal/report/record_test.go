package report_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/report"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const canary = "canary-7f3a9c"

// needs is an expression that reads names and is never evaluated.
type needs []string

func (n needs) Source() string  { return "${" + strings.Join(n, "+") + "}" }
func (n needs) Needs() []string { return n }
func (n needs) Eval(value.Scope) (value.Node, error) {
	return value.Node{}, &value.UnknownError{Name: n[0]}
}

func digest(text string, err error) *plan.Digest {
	return plan.NewDigest(func() (string, error) { return text, err }, nil)
}

func input(t *testing.T) report.Input {
	redactor := &secret.Redactor{}
	if err := redactor.Add(canary); err != nil {
		t.Fatal(err)
	}
	started := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("CET", 3600))
	assets := baketest.Image(t, "assets")
	base := baketest.Image(t, "base", "local/base:1")
	base.Base = bake.Base{Name: "debian:bookworm-slim", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}}
	base.Removed, base.EngineID = []string{"/etc/ssh/ssh_host_rsa_key"}, "sha256:feed"
	failed := &run.StepError{Pos: diag.Pos{File: "imgbake.yaml", Line: 12, Column: 9}, Number: 2, Type: "shell", Err: errors.New("login with " + canary)}
	body := value.Node{V: needs{"build.ID", "var.api_key"}}
	return report.Input{
		Tool: report.Tool{Name: "imgbake", Version: "1.2.3"}, RunID: "run-1", Started: started, Seconds: 12.5, Digest: "sha256:0123",
		Redact: redactor.Redact,
		Sensible: func(names []string) []string { // those of var.*
			var out []string
			for _, name := range names {
				if strings.HasPrefix(name, "var.") {
					out = append(out, name)
				}
			}
			return out
		},
		Plan: plan.Plan{
			Template: "imgbake.yaml", Format: "imgbake",
			Variables: []plan.Variable{{Name: "suite", Source: "default", Value: "bookworm", Default: true}, {Name: "api_key", Source: "environment API_KEY", Sensitive: true}},
		},
		Results: []run.Result{
			{
				Bake: plan.Bake{
					Name: "base.docker", Image: "base", Builder: "docker", Type: "docker", After: []string{"assets.docker"},
					Publish: []plan.Target{{Repository: "ghcr.io/acme/base", Tags: []string{"1", "latest"}}},
					Steps:   []plan.Step{{Type: "file", Body: body, Inputs: []plan.Input{{Path: "dist", Digest: digest("sha256:4567", nil)}}}},
				},
				Started: started, Seconds: 10, Artifacts: []bake.Artifact{base}, Published: base.Refs, Tags: []string{"ghcr.io/acme/base:1", "ghcr.io/acme/base:latest"},
				Steps: []run.StepResult{{Title: "file: dist", Seconds: 0.5, Attempts: 1}},
			},
			{
				Bake:    plan.Bake{Name: "web.docker", Image: "web", Builder: "docker", Type: "docker", From: "base.docker", Pos: diag.Pos{File: "imgbake.yaml", Line: 8}},
				Started: started, Seconds: 2, Err: failed,
				Steps: []run.StepResult{{Title: "shell: echo " + canary, Seconds: 1, Attempts: 3, Err: failed}},
			},
			{Bake: plan.Bake{Name: "site.docker", Image: "site", Builder: "docker", Type: "docker", From: "web.docker"}, Skipped: "web.docker failed"},
			{Bake: plan.Bake{Name: "assets.docker", Image: "assets", Builder: "docker", Type: "docker"}, Started: started, Artifacts: []bake.Artifact{assets}},
		},
	}
}

func TestRecord(t *testing.T) {
	got, err := report.New(input(t)).JSON()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), canary) {
		t.Error("the secret is in the record")
	}
	const golden = "testdata/record.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got (-update rewrites it):\n%s", diff)
	}
}

// Of a bake that failed nothing is read for the record; a digest that cannot be had
// is not in it.
func TestDigestsOfMaterials(t *testing.T) {
	for name, test := range map[string]struct {
		res   run.Result
		asked bool
		err   error
		want  string
	}{
		"done":              {want: "sha256:1"},
		"changed":           {err: errors.New("f changed while it was baked")},
		"failed":            {res: run.Result{Err: errors.New("x")}},
		"failed, but known": {res: run.Result{Err: errors.New("x")}, asked: true, want: "sha256:1"},
		"failed and torn":   {res: run.Result{Err: errors.New("x")}, asked: true, err: errors.New("x")},
		"skipped":           {res: run.Result{Skipped: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := digest("sha256:1", test.err)
			if test.asked {
				_, _ = d.Get()
			}
			test.res.Bake.Steps = []plan.Step{{Inputs: []plan.Input{{Path: "f", Digest: d}}}}
			in := input(t)
			in.Results = []run.Result{test.res}
			if got := report.New(in).Bakes[0].Materials[0].Digest; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	in := input(t)
	in.Results = append(in.Results, run.Result{Bake: plan.Bake{Name: "other.docker", Pos: diag.Pos{File: "imgbake.yaml", Line: 30}}, Err: errors.New("docker builder: no engine")})
	want := diag.List{
		{Pos: diag.Pos{File: "imgbake.yaml", Line: 12, Column: 9}, Text: "web.docker: provisioner 2 (shell): login with ***"},
		{Pos: diag.Pos{File: "imgbake.yaml", Line: 30}, Text: "other.docker: docker builder: no engine"},
	}
	if diff := cmp.Diff(want, report.Problems(in.Results, in.Redact)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	for want, res := range map[string]run.Result{"done": {}, "failed": {Err: errors.New("x")}, "skipped": {Skipped: "x"}} {
		if got := report.Status(res); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
