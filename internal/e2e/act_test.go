//go:build engine

package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// runnerImage is what act takes for a runner's machine: a Debian with nothing
// more in it, since the documented workflows run nothing but the action.
const runnerImage = "imgbake-act-runner:test"

// actTemplate is baked by the workflows. Its step is a file, so that the base
// may be anything; commands are tried in many other tests.
const actTemplate = `images:
  web:
    platforms: [linux/amd64]
    builders:
      docker: { image: "REGISTRY/base:1" }
    provisioners:
      - file: { source: index.html, destination: /index.html }
    publish:
      - repository: REGISTRY/acme/web
        tags: [auto]
`

// TestAct runs the workflows that the documents show, as they are, with the
// action as its release makes it: program, image and commit. nektos/act plays
// GitHub's runner on a real engine; a checkout copies the working directory.
func TestAct(t *testing.T) {
	needTools(t, "git", "jq", "tar")
	if os.Getenv("IMGBAKE_TEST_ACT") == "" {
		missing(t, "no act: IMGBAKE_TEST_ACT=$(scripts/tool.sh act github.com/nektos/act VERSION)")
	}
	a := act{host: engineHost(t), action: releasedAction(t)}
	importRunner(t, a.host)
	t.Run("PullRequest", a.pullRequest)
	t.Run("Release", a.release)
	t.Run("Fork", a.fork)
	t.Run("Matrix", a.matrix)
	t.Run("Init", a.initialised)
	t.Run("ForkComment", a.forkComment)
}

// act runs workflows.
type act struct {
	host   string // DOCKER_HOST
	action string // folder with the action that imgbake/imgbake-action@v1 is
}

// job is one run of a workflow.
type job struct {
	dir            string // a working directory; a repository is made of it
	event, payload string
	runID          string
	env            []string
	stubs          map[string]string // folders with actions that stand for others
}

// run runs a workflow, which must succeed, and returns what act printed.
func (a act) run(t *testing.T, s actionSite, j job) string {
	t.Helper()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", "https://github.com/acme/web"}, {"add", "."}, {"commit", "-qm", "web"}} {
		git(t, j.dir, args...)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, []byte(j.payload), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{j.event, "--eventpath", file,
		"--pull=false", "--action-offline-mode", "--no-cache-server", "--container-daemon-socket", a.host,
		"--local-repository", "imgbake/imgbake-action@v1=" + a.action,
		"--platform", "ubuntu-24.04=" + runnerImage, "--platform", "ubuntu-24.04-arm=" + runnerImage,
		"--secret", "GITHUB_TOKEN=actions"}
	for action, dir := range j.stubs {
		args = append(args, "--local-repository", action+"="+dir)
	}
	for _, kv := range append(j.env, "GITHUB_API_URL="+s.api.URL, "GITHUB_GRAPHQL_URL="+s.api.GraphQLURL, "GITHUB_RUN_ID="+j.runID) {
		args = append(args, "--env", kv)
	}
	cmd := exec.CommandContext(t.Context(), os.Getenv("IMGBAKE_TEST_ACT"), args...)
	cmd.Dir = j.dir
	cmd.Env = append(gitEnv(), "DOCKER_HOST="+a.host, "HOME="+t.TempDir())
	t.Cleanup(func() { a.tidy(t, s.registry) })
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Job succeeded") {
		t.Fatalf("act: %v\n%s", err, out)
	}
	return string(out)
}

// bake runs a documented workflow on a template.
func (a act) bake(t *testing.T, s actionSite, workflow, template, event, payload, runID string) string {
	t.Helper()
	text, err := os.ReadFile("../../templates/github/" + workflow)
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{
		".github/workflows/images.yml": string(text),
		"imgbake.yaml":                 strings.ReplaceAll(template, "REGISTRY", s.registry),
		"index.html":                   "hello " + runID,
	})
	return a.run(t, s, job{dir: dir, event: event, payload: payload, runID: runID})
}

// tidy takes the images of a registry out of the engine.
func (a act) tidy(t *testing.T, registry string) {
	for id, i := range images(a.host) {
		if slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(ref string) bool { return strings.HasPrefix(ref, registry+"/") }) {
			if err := api(context.Background(), a.host, http.MethodDelete, "/images/"+id+"?force=1", nil, nil); err != nil {
				t.Log(err)
			}
		}
	}
}

func gitEnv() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Env = dir, gitEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// releasedAction does what the release workflow does: it builds the program,
// bakes and pushes the image, makes the commit, and returns a checkout of the
// tag v1.
func releasedAction(t *testing.T) (dir string) {
	t.Helper()
	s := newActionSite(t)
	script := func(name string, env []string, dir string, args ...string) string {
		path, err := filepath.Abs("../../scripts/" + name)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), path, args...)
		var out, told bytes.Buffer
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &told
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, told.String())
		}
		return strings.TrimSpace(out.String())
	}
	dist := t.TempDir()
	script("release-build.sh", append(os.Environ(), "SOURCE_DATE_EPOCH=1767225600"), "", "v1.2.3", dist, "linux/amd64")
	image := script("release-image.sh", os.Environ(), "", dist, s.registry+"/imgbake-action", "v1.2.3", "--platform", "linux/amd64")

	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	source := write(t, map[string]string{"action.yml": string(text)})
	remote := t.TempDir()
	git(t, remote, "init", "-q", "--bare")
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", remote}, {"add", "."}, {"commit", "-qm", "main"}} {
		git(t, source, args...)
	}
	commit := script("release-action.sh", gitEnv(), source, "v1.2.3", image)
	dir = t.TempDir()
	git(t, dir, "clone", "-q", "-b", "v1", remote, ".")
	if got := git(t, dir, "rev-parse", "HEAD"); got != commit {
		t.Fatalf("v1 is %s, the release %s", got, commit)
	}
	host := engineHost(t)
	t.Cleanup(func() { act{host: host}.tidy(t, s.registry) })
	return dir
}

// importRunner makes the runner's image of the small Debian.
func importRunner(t *testing.T, host string) {
	t.Helper()
	tar, err := os.Open(rootfs(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	if err := upload(t.Context(), host, "/images/create?fromSrc=-&repo="+url.QueryEscape("imgbake-act-runner")+"&tag=test", tar); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what act leaves in an engine that may be somebody's
		for _, path := range []string{"/images/" + runnerImage + "?force=1", "/volumes/act-toolcache"} {
			_ = api(context.Background(), host, http.MethodDelete, path, nil, nil)
		}
	})
}

// upload posts a stream to a Docker Engine.
func upload(ctx context.Context, host, path string, body io.Reader) error {
	network, address, _ := strings.Cut(host, "://")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+path, body)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, answer)
	}
	return err
}

// pullRequest opens one, adds a commit, and closes it.
func (a act) pullRequest(t *testing.T) {
	s := newActionSite(t)
	first, second := strings.Repeat("a1", 20), strings.Repeat("c2", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: first, BaseRef: "main", Author: "octocat"})
	bake := func(action, sha, runID string) string {
		_, payload := pull(action, sha, "acme/web")
		return a.bake(t, s, "images.yml", actTemplate, "pull_request", payload, runID)
	}

	out := bake("opened", first, "1001")
	if got, want := keys(s.tags()), []string{"pr-7", "pr-7-a1a1a1a"}; !slices.Equal(got, want) {
		t.Fatalf("tags %q, want %q\n%s", got, want, out)
	}
	comments := s.api.Comments("acme/web", 7)
	if digest := s.tags()["pr-7"]; len(comments) != 1 || !strings.Contains(comments[0].Body, digest[7:19]) {
		t.Fatalf("want one comment with %s, got %v\n%s", digest, comments, out)
	}

	out = bake("synchronize", second, "1002")
	after := s.api.Comments("acme/web", 7)
	if len(after) != 1 || after[0].ID != comments[0].ID || !strings.Contains(after[0].Body, "pr-7-c2c2c2c") {
		t.Fatalf("want the same comment with the new commit, got %v\n%s", after, out)
	}
	if got, want := keys(s.tags()), []string{"pr-7", "pr-7-a1a1a1a", "pr-7-c2c2c2c"}; !slices.Equal(got, want) {
		t.Fatalf("tags %q, want %q", got, want)
	}

	out = bake("closed", second, "1003")
	if got := keys(s.tags()); len(got) != 0 {
		t.Errorf("tags %q are left\n%s", got, out)
	}
	after = s.api.Comments("acme/web", 7)
	if len(after) != 1 || !strings.Contains(strings.ToLower(after[0].Body), "deleted") {
		t.Errorf("want the comment to say that the tags are deleted, got %v\n%s", after, out)
	}
}

// tagPush is the payload of the push of v1.2.3.
const tagPush = `{"ref": "refs/tags/v1.2.3", "repository": {"full_name": "acme/web", "default_branch": "main"}}`

// release pushes a tag: four tags on one digest.
func (a act) release(t *testing.T) {
	s := newActionSite(t)
	out := a.bake(t, s, "images.yml", actTemplate, "push", tagPush, "1001")
	wantRelease(t, s.tags(), out)
}

func wantRelease(t *testing.T, tags map[string]string, out string) {
	t.Helper()
	if got, want := keys(tags), []string{"1", "1.2", "1.2.3", "latest"}; !slices.Equal(got, want) {
		t.Fatalf("tags %q, want %q\n%s", got, want, out)
	}
	for tag, digest := range tags {
		if digest != tags["latest"] {
			t.Errorf("%s is %s, latest is %s", tag, digest, tags["latest"])
		}
	}
}

// fork is the pull request of a stranger: baked, and nothing is written.
func (a act) fork(t *testing.T) {
	s := newActionSite(t)
	_, payload := pull("opened", strings.Repeat("a1", 20), "stranger/web")
	out := a.bake(t, s, "images.yml", actTemplate, "pull_request", payload, "1001")
	if len(*s.writes) > 0 {
		t.Errorf("the registry was written to: %q\n%s", *s.writes, out)
	}
	for _, request := range s.api.Requests() {
		if !strings.HasPrefix(request, "GET ") {
			t.Errorf("API write: %s", request)
		}
	}
	if !strings.Contains(out, "web.docker: docker linux/amd64 sha256:") {
		t.Errorf("nothing was baked\n%s", out)
	}
}

// forBoth makes base:1 an index of images for two platforms.
func forBoth(t *testing.T, s actionSite) {
	t.Helper()
	ref, err := name.ParseReference(s.registry + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.Architecture = arch
		one, err := mutate.ConfigFile(img, config)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
}

// matrix plans, bakes each leg in a job of its own, and merges. Under act the
// outputs of the first leg are those of the job, and the other legs' are lost,
// so that merge is tried with one leg for both, and the comment with two.
func (a act) matrix(t *testing.T) {
	t.Run("Legs", func(t *testing.T) {
		s := newActionSite(t)
		sha := strings.Repeat("a1", 20)
		s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
		_, payload := pull("opened", sha, "acme/web")
		forBoth(t, s)
		template := strings.Replace(actTemplate, "[linux/amd64]", "[linux/amd64, linux/arm64]", 1)
		out := a.bake(t, s, "matrix.yml", template, "pull_request", payload, "1001")
		comments := s.api.Comments("acme/web", 7)
		if len(comments) != 1 || !strings.Contains(comments[0].Body, "linux/amd64") || !strings.Contains(comments[0].Body, "linux/arm64") {
			t.Fatalf("want one comment with both legs, got %v\n%s", comments, out)
		}
		_, payload = pull("closed", sha, "acme/web")
		out = a.bake(t, s, "matrix.yml", template, "pull_request", payload, "1002")
		if got := keys(s.tags()); len(got) != 0 {
			t.Errorf("tags %q are left\n%s", got, out)
		}
	})
	t.Run("Merge", func(t *testing.T) {
		s := newActionSite(t)
		out := a.bake(t, s, "matrix.yml", actTemplate, "push", tagPush, "1001")
		wantRelease(t, s.tags(), out)
	})
}

// initialised is the whole way of somebody new: `imgbake init --github`, a pull
// request, and the image is on ghcr.io.
func (a act) initialised(t *testing.T) {
	s, here := newActionSite(t), newSite(t)
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
	proxy, ca, plain := playGHCR(t)
	dir := t.TempDir()
	if r := here.run(t, dir, "init", "--github"); r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if err := copyFile(filepath.Join(dir, "ca.pem"), ca); err != nil {
		t.Fatal(err)
	}
	_, payload := pull("opened", sha, "acme/web")
	out := a.run(t, s, job{dir: dir, event: "pull_request", payload: payload, runID: "1001", env: []string{
		"IMGBAKE_VAR_base=" + pushTiny(t, here, s.registry), "HTTPS_PROXY=" + proxy, "SSL_CERT_FILE=" + filepath.Join(dir, "ca.pem"),
		// The action takes act for a laptop, and its token for nothing that opens ghcr.io.
		`DOCKER_AUTH_CONFIG={"auths":{"ghcr.io":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("octocat:actions")) + `"}}}`,
	}})
	t.Cleanup(func() {
		_ = api(context.Background(), a.host, http.MethodDelete, "/images/hello:latest?force=1", nil, nil)
	})
	if got, want := (actionSite{t: t, registry: plain}).tags(), []string{"pr-7", "pr-7-a1a1a1a"}; !slices.Equal(keys(got), want) {
		t.Errorf("tags %q, want %q\n%s", got, want, out)
	}
	if comments := s.api.Comments("acme/web", 7); len(comments) != 1 || !strings.Contains(comments[0].Body, "ghcr.io/acme/web:pr-7") {
		t.Errorf("comments %v\n%s", comments, out)
	}
}

// pushTiny bakes an image with a shell and nothing more, and returns its name.
func pushTiny(t *testing.T, s site, registry string) string {
	t.Helper()
	dir := write(t, map[string]string{
		"imgbake.yaml":  "images:\n  tiny:\n    builders: { docker: { rootfs: root.tar } }\n    publish: [{ repository: " + registry + "/tiny, tags: [\"1\"] }]\n",
		"sh.go":         shell,
		"root/tmp/keep": "", "root/etc/hostname": "tiny\n",
	})
	if err := goBuild(filepath.Join(dir, "root/bin/sh"), filepath.Join(dir, "sh.go")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Join(dir, "root"), "-cf", filepath.Join(dir, "root.tar"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.build(t, dir, "-load=false")
	return registry + "/tiny:1"
}

// playGHCR is a registry that is ghcr.io to those who go through a proxy, and
// lets in whoever has the workflow's token. It returns the proxy, the file with
// the authority to trust, and where the same registry answers everybody.
func playGHCR(t *testing.T) (proxy, ca, plain string) {
	t.Helper()
	registry, dir, trusted := newRegistry(t.TempDir()), filepath.Join(t.TempDir(), "tls"), newAuthority(t)
	trusted.issue(t, dir, "ghcr.io", trusted)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	secured := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "actions" {
			w.Header().Set("WWW-Authenticate", `Basic realm="GitHub Package Registry"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	secured.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	secured.StartTLS()
	t.Cleanup(secured.Close)
	open := httptest.NewServer(registry)
	t.Cleanup(open.Close)
	tunnel := httptest.NewServer(tunnelTo("ghcr.io:443", secured.Listener.Addr().String()))
	t.Cleanup(tunnel.Close)
	return tunnel.URL, filepath.Join(dir, "ca.pem"), strings.TrimPrefix(open.URL, "http://")
}

// tunnelTo is a proxy that connects to one name, which is elsewhere.
func tunnelTo(name, address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != name {
			http.Error(w, "no way to "+r.Host, http.StatusForbidden)
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		fmt.Fprint(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, buffered)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	}
}

// The artifact's way through GitHub, as two actions of which act has neither.
const (
	uploadStub   = "runs: { using: composite, steps: [{ shell: bash, run: 'echo record=$(base64 -w0 \"${{ inputs.path }}\")' }] }\n"
	downloadStub = "runs: { using: composite, steps: [{ shell: bash, run: 'echo \"$RECORD\" | base64 -d >imgbake-record.json' }] }\n"
)

var (
	handOn = regexp.MustCompile("(?s)```\n(      - id: imgbake\n.*?)```")
	pinned = regexp.MustCompile(`uses: (actions/(up|down)load-artifact@[0-9a-f]{40})`)
)

// forkComment takes the record of a stranger's run to the workflow that
// comments, both as the document shows them.
func (a act) forkComment(t *testing.T) {
	s := newActionSite(t)
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "stranger/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "stranger"})
	text := map[string]string{}
	for _, file := range []string{"templates/github/images.yml", "templates/github/comment.yml", "docs/howto-action.md"} {
		content, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		text[file] = string(content)
	}
	steps := handOn.FindStringSubmatch(text["docs/howto-action.md"])
	bake, _, ok := strings.Cut(text["templates/github/images.yml"], "      - uses: imgbake/imgbake-action@")
	if steps == nil || !ok {
		t.Fatal("the document does not show how to hand the record on")
	}
	stub := func(workflow, action string) map[string]string {
		return map[string]string{pinned.FindStringSubmatch(workflow)[1]: write(t, map[string]string{"action.yml": "name: stub\ninputs: { name: {}, path: {}, run-id: {}, github-token: {} }\n" + action})}
	}

	_, payload := pull("opened", sha, "stranger/web")
	out := a.run(t, s, job{event: "pull_request", payload: payload, runID: "1001", stubs: stub(steps[1], uploadStub), dir: write(t, map[string]string{
		".github/workflows/images.yml": bake + steps[1],
		"imgbake.yaml":                 strings.ReplaceAll(actTemplate, "REGISTRY", s.registry), "index.html": "hello",
	})})
	record := regexp.MustCompile(`\| record=(\S+)`).FindStringSubmatch(out)
	if record == nil || len(s.api.Comments("acme/web", 7)) != 0 {
		t.Fatalf("no record, or a comment already\n%s", out)
	}
	workflow := text["templates/github/comment.yml"]
	out = a.run(t, s, job{event: "workflow_run", runID: "1002", stubs: stub(workflow, downloadStub), env: []string{"RECORD=" + record[1]},
		dir: write(t, map[string]string{".github/workflows/comment.yml": workflow}),
		payload: fmt.Sprintf(`{"action": "completed", "repository": {"full_name": "acme/web", "default_branch": "main"}, "workflow_run": {"id": 1001, "event": "pull_request",
			"head_sha": %q, "head_branch": "topic", "head_repository": {"full_name": "stranger/web"}, "actor": {"login": "stranger"}, "pull_requests": []}}`, sha)})
	if comments := s.api.Comments("acme/web", 7); len(comments) != 1 || !strings.Contains(comments[0].Body, "web") {
		t.Errorf("comments %v\n%s", comments, out)
	}
}
