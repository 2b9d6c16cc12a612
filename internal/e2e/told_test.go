package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/e2e/runner"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// commentMerge: the job that moves the tags has its section too.
func commentMerge(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	env, event := pull("opened", strings.Repeat("a1", 20), "acme/web")
	leg, _ := s.opened("base:1", map[string]string{"push-by-digest": "true"})
	wantExit(t, leg, 0)
	env["GITHUB_JOB"] = "merge"
	r := s.run(env, map[string]string{"mode": "merge", "digests": leg.Outputs["image"], "record": "merged.json"}, event)
	wantExit(t, r, 0)
	comments := s.api.Comments("acme/web", 7)
	if len(comments) != 1 || r.Outputs["comment-url"] == "" {
		t.Fatalf("%d comments:\n%s", len(comments), r.Raw)
	}
	wantIn(t, comments[0].Body, s.registry+"/acme/web:pr-7-a1a1a1a", "2 images baked", "docker pull "+r.Outputs["image"])
	wantIn(t, r.Summary, "linux/amd64", s.registry+"/acme/web:pr-7")
	if _, err := os.Stat(filepath.Join(r.Workspace, r.Outputs["record"])); err != nil || r.Outputs["record"] != "merged.json" {
		t.Errorf("record %q: %v", r.Outputs["record"], err)
	}

	s.told(func(r *http.Request) int {
		if r.Method == http.MethodPut {
			return http.StatusInternalServerError
		}
		return 0
	})
	env["GITHUB_RUN_ID"] = "1002"
	r = s.run(env, map[string]string{"mode": "merge", "digests": s.registry + "/acme/gone@sha256:" + strings.Repeat("0", 64)}, event)
	wantExit(t, r, 1)
	wantIn(t, r.Summary, "1 failed", "acme/gone")
	wantIn(t, s.api.Comments("acme/web", 7)[0].Body, "1 failed")
}

// commentUnauthorized: a registry that wants credentials is told of with the
// inputs that give them, in the log, the annotation and the comment.
func commentUnauthorized(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	s.told(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/uploads") || r.URL.Path == "/v2/" {
			return http.StatusUnauthorized
		}
		return 0
	})
	r, body := s.opened("base:1", nil)
	wantExit(t, r, 1)
	var annotations []string
	for _, c := range r.Commands {
		if c.Name == "error" {
			annotations = append(annotations, c.Data)
		}
	}
	if len(annotations) != 1 || !strings.Contains(annotations[0], "input registry-auth") {
		t.Errorf("annotations %q", annotations)
	}
	wantIn(t, r.Log, "input registry-auth")
	wantIn(t, strings.ReplaceAll(body, "&#45;", "-"), "input registry-auth")
	if strings.Contains(r.Log, "--registry-auth") {
		t.Errorf("a flag in a workflow's log:\n%s", r.Log)
	}
}

// commentFailed: one annotation a failed bake at its line; the summary tells of
// what was baked all the same, and has room for much.
func commentFailed(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	template := commentTemplate + `  bad:
    builders:
      docker: { image: "REGISTRY/no-such:1", platform: linux/amd64 }
  worse:
    builders:
      docker: { image: "REGISTRY/no-such:2", platform: linux/amd64 }
`
	r, body := s.opened("", map[string]string{"TEMPLATE": template})
	wantExit(t, r, 1)
	lines := map[string]int{}
	for _, c := range r.Commands {
		if c.Name == "error" {
			lines[c.Properties["file"]+":"+c.Properties["line"]]++
		}
	}
	if len(lines) != 2 || lines["imgbake.yaml:11"] != 1 || lines["imgbake.yaml:14"] != 1 {
		t.Errorf("errors at %v:\n%s", lines, r.Raw)
	}
	for _, text := range []string{body, r.Summary} {
		wantIn(t, text, "1 image baked, 2 failed", "pr-7-a1a1a1a", "[`imgbake.yaml:11:", "imgbake.yaml#L11")
	}
	if len(r.Summary) > 1<<20 {
		t.Errorf("summary of %d bytes", len(r.Summary))
	}

	r, body = s.opened("", map[string]string{"TEMPLATE": "images:\n  web: { nonsense: 1 }\n"})
	wantExit(t, r, 3)
	wantIn(t, body, "❌ Nothing was baked", "imgbake.yaml:2")
}

// commentWarnings: what is odd about a template is an annotation at its place,
// and in the comment.
func commentWarnings(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	r, body := s.opened("base:1", map[string]string{"var-files": "in.json", "RECORD": `{"nobody_declared": 1}`})
	wantExit(t, r, 0)
	if !slices.ContainsFunc(r.Commands, func(c runner.Command) bool {
		return c.Name == "warning" && strings.Contains(c.Data, "nobody_declared")
	}) {
		t.Errorf("no warning:\n%s", r.Raw)
	}
	wantIn(t, body, "[!WARNING]", "nobody&#95;declared")
}

// commentMasked: the runner drops an output that holds a secret, so that is
// told.
func commentMasked(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	template := "variables:\n  name: { sensitive: true }\n" + strings.Replace(commentTemplate, "web:", "hunter2hunter2:", 1)
	r, _ := s.opened("", map[string]string{"TEMPLATE": template, "secrets": "name=hunter2hunter2"})
	wantExit(t, r, 0)
	if !slices.ContainsFunc(r.Commands, func(c runner.Command) bool {
		return c.Name == "warning" && strings.Contains(c.Data, `"artifacts"`)
	}) {
		t.Errorf("no warning:\n%s", r.Raw)
	}
}

// commentAsked: what a template asks for beyond containers of its own.
func commentAsked(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	template := commentTemplate + "    post_processors:\n      - shell-local: { inline: [\"true\"] }\n"
	r, body := s.opened("", map[string]string{"TEMPLATE": template, "allow-host-exec": "true"})
	wantExit(t, r, 0)
	wantIn(t, body, "**The template asks for** `commands of shell-local (web.docker)`")
	r, body = s.opened("", map[string]string{"TEMPLATE": template})
	wantExit(t, r, 3)
	wantIn(t, strings.ReplaceAll(body, "&#45;", "-"), "allow-host-exec&#58; true")
}

// commentOutputs: the outputs that action.yml declares are those that are
// written, one way or another.
func commentOutputs(t *testing.T) {
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, outputs, _ := strings.Cut(string(text), "\noutputs:\n")
	outputs, _, _ = strings.Cut(outputs, "\nruns:\n")
	var declared []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+):`).FindAllStringSubmatch(outputs, -1) {
		declared = append(declared, m[1])
	}
	slices.Sort(declared)

	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	written := map[string]string{}
	r, _ := s.opened("base:1", map[string]string{"record": "record.json"})
	for name, value := range r.Outputs {
		written[name] = value
	}
	env, event := pull("opened", strings.Repeat("a1", 20), "acme/web")
	for _, mode := range []map[string]string{{"mode": "plan", "TEMPLATE": commentTemplate}, {"mode": "merge", "digests": r.Outputs["image"]}, {"mode": "prune", "dry-run": "true", "TEMPLATE": commentTemplate}} {
		again := s.run(env, mode, event)
		wantExit(t, again, 0)
		for name, value := range again.Outputs {
			written[name] = value
		}
	}
	if got := keys(written); !slices.Equal(got, declared) {
		t.Errorf("written %q, declared %q", got, declared)
	}
}

// commentOnComment: an issue_comment tells the number of the pull request only.
// Whose commit is checked out is asked, and nothing is taken for granted.
func commentOnComment(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	head := strings.Repeat("a1", 20)
	for _, c := range []struct {
		name, checkout, headRepo, allow string
		code                            int
		commit                          string
		secret                          bool
	}{
		{"refused", head, "acme/web", "false", 1, "", false},
		{"ours", head, "acme/web", "true", 0, head, true},
		{"a fork's", head, "stranger/web", "true", 0, head, false},
		{"another commit", strings.Repeat("c3", 20), "acme/web", "true", 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.api = githubtest.New(t)
			s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: c.headRepo, HeadRef: "topic", HeadSHA: head, BaseRef: "main", Author: "octocat"})
			template := "variables:\n  token: { sensitive: true, default: \"\" }\n" + strings.ReplaceAll(commentTemplate, "REGISTRY", s.registry)
			r, err := runner.Step{
				Program: []string{actionProgram, "action"}, Dir: t.TempDir(),
				Inputs: map[string]string{"github-token": "actions", "engine": "oci", "load": "false", "allow-untrusted-template": c.allow, "secrets": "token=hunter2hunter2"},
				Env:    map[string]string{"GITHUB_API_URL": s.api.URL, "GITHUB_GRAPHQL_URL": s.api.GraphQLURL, "GITHUB_EVENT_NAME": "issue_comment", "GITHUB_REF": "refs/heads/main", "GITHUB_SHA": strings.Repeat("b", 40)},
				Event:  []byte(`{"action": "created", "issue": {"number": 7, "pull_request": {}}, "repository": {"full_name": "acme/web", "default_branch": "main"}}`),
				Files:  map[string]string{"imgbake.yaml": template, ".git/HEAD": c.checkout + "\n"},
			}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantExit(t, r, c.code)
			if c.code != 0 {
				return
			}
			comments := s.api.Comments("acme/web", 7)
			if len(comments) != 1 {
				t.Fatalf("%d comments\n%s", len(comments), r.Raw)
			}
			if got := strings.Contains(comments[0].Body, "/commit/"+head); got != (c.commit == head) {
				t.Errorf("the head is the commit: %v\n%s", got, comments[0].Body)
			}
			if withheld := strings.Contains(r.Raw, "no secret of the template is resolved"); withheld == c.secret {
				t.Errorf("secrets are withheld: %v\n%s", withheld, r.Raw)
			}
		})
	}
}

// commentOutput: what a failed step said last is there, and is no Markdown, no
// command and no secret.
func commentOutput(t *testing.T) {
	s := newWatchedSite(t)
	template := `variables:
  token: { sensitive: true }
images:
  web:
    builders: { none: { type: "null" } }
    provisioners:
      - shell-local:
          inline: ["echo '</details> ` + "```" + ` ::error::forged'", "echo the token is $TOKEN", "echo E: no such package; exit 3"]
          env: { TOKEN: "${var.token}" }
`
	r, body := s.opened("", map[string]string{"TEMPLATE": template, "allow-host-exec": "true", "secrets": "token=hunter2hunter2"})
	wantExit(t, r, 1)
	for _, text := range []string{body, r.Summary} {
		wantIn(t, text, "what it said last", "````text\n", "E: no such package", "the token is ***")
		if strings.Contains(text, "hunter2") {
			t.Errorf("a secret:\n%s", text)
		}
	}
	for _, c := range r.Commands {
		if c.Data == "forged" {
			t.Errorf("a command was forged:\n%s", r.Raw)
		}
	}
}
