package e2e_test

import (
	"encoding/base64"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/imgbake/imgbake-action/internal/e2e/runner"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// effect is an input's value, and what comes of it.
type effect struct {
	inputs map[string]string
	event  string // opened if not given
	code   int
	want   func(s *watchedSite, r runner.Result) bool
}

// raw wants a text anywhere in the log or the summary.
func raw(part string) func(*watchedSite, runner.Result) bool {
	return func(_ *watchedSite, r runner.Result) bool { return strings.Contains(r.Raw+r.Summary, part) }
}

// commentInputs: every input that action.yml declares changes something.
func commentInputs(t *testing.T) {
	const varying = "variables:\n  v: { default: plain }\n  s: { sensitive: true, default: \"\" }\n"
	labelled := varying + strings.Replace(commentTemplate, "cmd: [serve]", `cmd: ["${var.v}"]`, 1)
	tls := httptest.NewTLSServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer tls.Close()
	secure := strings.TrimPrefix(tls.URL, "https://") // with a certificate that nobody knows
	noComment := func(s *watchedSite, _ runner.Result) bool { return len(s.api.Comments("acme/web", 7)) == 0 }
	effects := map[string]effect{
		"mode":                {inputs: map[string]string{"mode": "plan"}, want: func(_ *watchedSite, r runner.Result) bool { return r.Outputs["matrix"] != "" }},
		"template":            {inputs: map[string]string{"template": "gone.yaml"}, code: 2, want: raw("gone.yaml")},
		"only":                {inputs: map[string]string{"only": "gone"}, code: 3, want: raw("gone")},
		"except":              {inputs: map[string]string{"except": "web"}, code: 3, want: raw("nothing to bake")},
		"vars":                {inputs: map[string]string{"TEMPLATE": labelled, "vars": "v=other"}, want: raw("`v` = `other` (workflow input)")},
		"var-files":           {inputs: map[string]string{"TEMPLATE": labelled, "var-files": "in.json", "RECORD": `{"v": "filed"}`}, want: raw("`v` = `filed`")},
		"secrets":             {inputs: map[string]string{"TEMPLATE": labelled, "secrets": "s=hunter2hunter2"}, want: raw("::add-mask::hunter2hunter2")},
		"engine":              {inputs: map[string]string{"engine": "docker"}, code: 1, want: raw("no-engine.sock")},
		"push":                {inputs: map[string]string{"push": "false"}, want: func(s *watchedSite, _ runner.Result) bool { return len(*s.writes) == 0 }},
		"load":                {inputs: map[string]string{"load": "true"}, code: 1, want: raw("no-engine.sock")},
		"dry-run":             {inputs: map[string]string{"dry-run": "true"}, want: func(s *watchedSite, _ runner.Result) bool { return len(*s.writes) == 0 }},
		"tags":                {inputs: map[string]string{"tags": "type=raw,value=mine"}, want: raw("acme/web:mine")},
		"flavor":              {inputs: map[string]string{"flavor": "prefix=x-"}, want: raw("acme/web:x-pr-7")},
		"labels":              {inputs: map[string]string{"labels": "nonsense"}, want: raw(`label "nonsense"`)},
		"annotations":         {inputs: map[string]string{"annotations": "nonsense"}, code: 2, want: raw("input annotations")},
		"repositories":        {inputs: map[string]string{"repositories": "web=REGISTRY/Acme/Second"}, want: raw("acme/second:pr-7")},
		"registry-auth":       {inputs: map[string]string{"registry-auth": "nonsense"}, code: 2, want: raw("registry-auth")},
		"insecure-registries": {inputs: map[string]string{"insecure-registries": secure, "TEMPLATE": strings.Replace(commentTemplate, "REGISTRY/base", secure+"/gone", 1)}, code: 1, want: raw("404 not found")},
		"github-token":        {inputs: map[string]string{"github-token": ""}, want: noComment},
		"platforms":           {inputs: map[string]string{"platforms": "linux/s390x"}, code: 1, want: raw("linux/s390x")},
		"push-by-digest":      {inputs: map[string]string{"push-by-digest": "true"}, want: func(_ *watchedSite, r runner.Result) bool { return r.Outputs["tags"] == "" && r.Outputs["image"] != "" }},
		"digests":             {inputs: map[string]string{"mode": "merge", "digests": "web:tag"}, code: 2, want: raw("web:tag")},
		"cache-from":          {inputs: map[string]string{"cache-from": "type=gha"}, code: 2, want: raw("type=gha is not offered")},
		"cache-to":            {inputs: map[string]string{"cache-to": "type=gha"}, code: 2, want: raw("type=gha is not offered")},
		"cache-dir": {inputs: map[string]string{"cache-dir": "here"}, want: func(_ *watchedSite, r runner.Result) bool {
			_, err := os.Stat(filepath.Join(r.Workspace, "here", "oci-layout"))
			return err == nil
		}},
		"no-cache": {inputs: map[string]string{"no-cache": "perhaps"}, code: 2, want: raw("no-cache")},
		"comment":  {inputs: map[string]string{"comment": "false"}, want: noComment},
		"comment-key": {inputs: map[string]string{"comment-key": "another"}, want: func(s *watchedSite, _ runner.Result) bool {
			return strings.Contains(s.api.Comments("acme/web", 7)[0].Body, base64.StdEncoding.EncodeToString([]byte("another")))
		}},
		"summary":                  {inputs: map[string]string{"summary": "false"}, want: func(_ *watchedSite, r runner.Result) bool { return r.Summary == "" }},
		"fail-fast":                {inputs: map[string]string{"fail-fast": "perhaps"}, code: 2, want: raw("fail-fast")},
		"parallel":                 {inputs: map[string]string{"parallel": "-1"}, code: 2, want: raw("input parallel")},
		"runners":                  {inputs: map[string]string{"mode": "plan", "platforms": "linux/amd64", "runners": "linux/amd64=big"}, want: func(_ *watchedSite, r runner.Result) bool { return strings.Contains(r.Outputs["matrix"], `"big"`) }},
		"record":                   {inputs: map[string]string{"record": "r.json"}, want: func(_ *watchedSite, r runner.Result) bool { return r.Outputs["record"] == "r.json" }},
		"allow-host-exec":          {inputs: map[string]string{"allow-host-exec": "true", "TEMPLATE": commentTemplate + "    post_processors:\n      - shell-local: { inline: [\"true\"] }\n"}, want: raw("asks for")},
		"allow-untrusted-template": {inputs: map[string]string{"allow-untrusted-template": "true"}, event: "pull_request_target", want: raw("allow-untrusted-template lets it run")},
	}
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, inputs, _ := strings.Cut(string(text), "\ninputs:\n")
	inputs, _, _ = strings.Cut(inputs, "\noutputs:\n")
	var declared []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+):$`).FindAllStringSubmatch(inputs, -1) {
		declared = append(declared, m[1])
	}
	slices.Sort(declared)
	if got := keys(effects); !slices.Equal(got, declared) {
		t.Fatalf("declared %q, tried %q", declared, got)
	}
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	sha := strings.Repeat("a1", 20)
	for _, name := range declared {
		e := effects[name]
		t.Run(name, func(t *testing.T) {
			s.told(nil)
			s.api = githubtest.New(t)
			s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
			env, event := pull("opened", sha, "acme/web")
			if e.event != "" {
				env["GITHUB_EVENT_NAME"] = e.event
			}
			for k, v := range e.inputs {
				e.inputs[k] = strings.ReplaceAll(v, "REGISTRY", s.registry)
			}
			if e.inputs["TEMPLATE"] == "" {
				e.inputs["TEMPLATE"] = commentTemplate
			}
			r := s.run(env, e.inputs, event)
			if r.ExitCode != e.code || !e.want(s, r) {
				t.Errorf("exit code %d, want %d; outputs %v, writes %q\n%s", r.ExitCode, e.code, r.Outputs, *s.writes, r.Raw)
			}
		})
	}
}
