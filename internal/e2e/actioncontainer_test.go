//go:build engine

package e2e_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/e2e/runner"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// TestActionContainer runs the action as GitHub's runner does: its image, in a
// container with the engine's default rights.
func TestActionContainer(t *testing.T) {
	e := newActionEngine(t)
	for _, engine := range []string{"docker", "oci"} {
		for name, test := range map[string]func(*testing.T, sites){
			"PullRequest": actionPullRequest,
			"Release":     actionRelease,
			"Fork":        actionFork,
			"Refuses":     actionRefuses,
			"Merge":       actionMerge,
			"Owner":       actionOwner,
			"Stopped":     e.stopped,
			"Cancelled":   e.cancelled,
		} {
			t.Run(engine+"/"+name, func(t *testing.T) {
				test(t, func(t *testing.T) actionSite { return e.site(t, engine) })
				if left := labelled(t, e.host()); len(left) > 0 {
					t.Errorf("left in the engine: %q", left)
				}
			})
		}
	}
	t.Run("auto", func(t *testing.T) { actionAuto(t, e.site(t, "auto")) })
}

// actionAuto: a container action may make no namespaces, and a chroot is poorer
// than the engine that the runner gives.
func actionAuto(t *testing.T, s actionSite) {
	r := s.run(onMain(), nil, onMainEvent)
	wantExit(t, r, 0)
	if !strings.Contains(r.Log, "using the Docker Engine") || len(s.tags()) == 0 {
		t.Errorf("tags %v\n%s", s.tags(), r.Log)
	}
}

// runnerUser is who GitHub's runner runs as.
const runnerUser = 1001

// actionEngine is a Docker Engine with the action's image in it.
type actionEngine struct {
	*daemon
	address string // of this machine, as its containers see it
	image   string // the action's
	base    v1.Layer
}

// newActionEngine starts an engine, bakes the action's image with imgbake and
// loads it.
func newActionEngine(t *testing.T) actionEngine {
	t.Helper()
	needTools(t, "docker")
	tinyFrom = rootfs(t)
	base, err := tinyLayer()
	if err != nil {
		t.Fatal(err)
	}
	e := actionEngine{daemon: startDaemon(t, t.TempDir(), "--insecure-registry", "10.0.0.0/8"), base: base}
	var network struct {
		IPAM struct{ Config []struct{ Gateway string } }
	}
	if err := api(t.Context(), e.host(), http.MethodGet, "/networks/bridge", nil, &network); err != nil {
		t.Fatal(err)
	}
	e.address = network.IPAM.Config[0].Gateway
	e.image = loadImage(t, e.host(), bakeActionImage(t))
	var image struct{ Size int64 }
	if err := api(t.Context(), e.host(), http.MethodGet, "/images/"+e.image+"/json", nil, &image); err != nil {
		t.Fatal(err)
	}
	if image.Size > maxActionImage {
		t.Errorf("the action's image has %d bytes", image.Size)
	}
	return e
}

// maxActionImage is what every job with the action may have to pull.
const maxActionImage = 40 << 20

// bakeActionImage bakes the action's image as a release does, with the program
// that is tested, and returns an archive of it.
func bakeActionImage(t *testing.T) (archive string) {
	t.Helper()
	dir := t.TempDir()
	if err := copyFile(filepath.Join(dir, "imgbake.yaml"), "../../scripts/release/imgbake.yaml"); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(programs(t), "imgbake"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, e := range []struct {
		tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644}, nil},
		{tar.Header{Name: "imgbake", Mode: 0o755}, program},
		{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil},
	} {
		e.Size = int64(len(e.content))
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), os.WriteFile(filepath.Join(dir, runtime.GOARCH+".tar"), out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(dir, "action.tar")
	s := site{cache: t.TempDir()}
	r := s.run(t, dir, "build", "--plain", "--engine", "oci", "--dry-run", "--load=false", "--platform", "linux/"+runtime.GOARCH,
		"--output", "type=docker,dest="+archive, "-var", "repository=localhost/imgbake-action", "-var", "version=v0.0.0")
	if r.code != 0 {
		t.Fatalf("baking the action's image: %s%s", r.stdout, r.stderr)
	}
	return archive
}

// loadImage loads an archive into an engine and returns the image's ID.
func loadImage(t *testing.T, host, archive string) string {
	t.Helper()
	out, err := exec.Command("docker", "--host", host, "load", "--quiet", "--input", archive).CombinedOutput()
	_, name, ok := strings.Cut(strings.TrimSpace(string(out)), "Loaded image: ")
	if err != nil || !ok {
		t.Fatalf("docker load: %v\n%s", err, out)
	}
	return name
}

// steppedTemplate has a step, so that something has to run.
const steppedTemplate = `images:
  web:
    builders:
      docker: { image: "REGISTRY/base:1", platform: linux/ARCH }
    provisioners:
      - shell: { inline: ["echo hello > /hello"] }
    publish:
      - repository: REGISTRY/acme/web
        tags: [auto]
`

var containers atomic.Int64 // tells them apart

// site is one whose registry and API containers reach, and where the action
// runs in one.
func (e actionEngine) site(t *testing.T, engine string) actionSite {
	t.Helper()
	s := actionSite{t: t, api: githubtest.New(t), template: steppedTemplate}
	s.serve(e.address, e.address, e.base)
	address := "http://" + e.address + ":" + listenAt(t, e.address, s.api)
	s.api.URL, s.api.GraphQLURL = address+"/api/v3", address+"/api/graphql"
	s.inputs = map[string]string{"engine": engine, "load": "false", "insecure-registries": s.registry}
	s.step = runner.Step{Owner: runnerUser, Container: &runner.Container{
		Engine: e.host(), Image: e.image, Name: fmt.Sprintf("imgbake-action-%d-%d", os.Getpid(), containers.Add(1)),
	}}
	return s
}

// actionOwner: what the action writes into the workspace belongs to the
// workspace's owner, or later steps could not change it.
func actionOwner(t *testing.T, site sites) {
	s := site(t)
	template := strings.Replace(steppedTemplate, "    publish:", `      - file: { direction: download, source: /hello, destination: out/deep/hello }
    post_processors:
      - manifest: { output: out/manifest.json }
    publish:`, 1)
	r := s.run(onMain(), map[string]string{"TEMPLATE": template, "record": "record.json"}, onMainEvent)
	wantExit(t, r, 0)
	for _, name := range []string{"out/deep/hello", "out/manifest.json", "record.json"} {
		if _, err := os.Stat(filepath.Join(r.Workspace, name)); err != nil {
			t.Error(err)
		}
	}
	err := filepath.WalkDir(r.Workspace, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != runnerUser || st.Gid != runnerUser {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

const onMainEvent = `{"repository": {"full_name": "acme/web", "default_branch": "main"}}`

func onMain() map[string]string {
	return map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch", "GITHUB_SHA": strings.Repeat("d", 40)}
}

// stopped: an engine that stops the container gives it ten seconds, in which
// the action tears down and says what became of it.
func (e actionEngine) stopped(t *testing.T, site sites) {
	e.interrupted(t, site(t), func(ctx context.Context, container string) error {
		return api(ctx, e.host(), http.MethodPost, "/containers/"+container+"/stop?t=10", nil, nil)
	})
}

// cancelled: the runner asks the docker command to end, which passes it on.
func (e actionEngine) cancelled(t *testing.T, site sites) {
	e.interrupted(t, site(t), nil)
}

// interrupted bakes until a step waits that knows a secret, looks who else can
// see that, and ends the action: with the context if there is no other way.
func (e actionEngine) interrupted(t *testing.T, s actionSite, stop func(ctx context.Context, container string) error) {
	const secret = "hunter2-4c1d7e0b"
	template := "variables: { token: { sensitive: true } }\n" + strings.Replace(steppedTemplate, `inline: ["echo hello > /hello"]`,
		`env: { TOKEN: "${var.token}" }, inline: ["test -n \"$TOKEN\"", "echo rea''dy", sleep 600]`, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready := make(chan struct{})
	s.step.Output = &awaited{text: "ready", found: ready}
	ended := make(chan runner.Result, 1)
	go func() {
		ended <- s.runUntil(ctx, onMain(), map[string]string{"TEMPLATE": template, "secrets": "token=" + secret}, onMainEvent)
	}()
	select {
	case <-ready:
	case r := <-ended:
		t.Fatalf("it ended before the step waited: exit code %d\n%s", r.ExitCode, r.Raw)
	}
	e.onlyRunnerShows(t, secret, s.step.Container.Name, s.inputs["engine"])
	asked := time.Now()
	if stop == nil {
		cancel()
	} else if err := stop(ctx, s.step.Container.Name); err != nil {
		t.Error(err)
	}
	r := <-ended
	if took := time.Since(asked); took > 10*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if r.ExitCode == 0 || r.ExitCode == 137 {
		t.Errorf("exit code %d", r.ExitCode)
	}
	if !strings.Contains(r.Summary, "web") {
		t.Errorf("summary %q", r.Summary)
	}
	if strings.Contains(r.Log+r.Summary, secret) || len(*s.writes) > 0 {
		t.Errorf("writes %q\n%s\n%s", *s.writes, r.Log, r.Summary)
	}
}

// onlyRunnerShows checks what the engine tells of its containers: a secret is
// where the runner itself has put it, and nowhere else.
func (e actionEngine) onlyRunnerShows(t *testing.T, secret, container, engine string) {
	t.Helper()
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if err := api(t.Context(), e.host(), http.MethodGet, "/containers/json?all=1", nil, &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		var info map[string]any
		if err := api(t.Context(), e.host(), http.MethodGet, "/containers/"+c.ID+"/json", nil, &info); err != nil {
			t.Fatal(err)
		}
		if c.Names[0] == "/"+container {
			config := info["Config"].(map[string]any)
			if env := fmt.Sprint(config["Env"]); strings.Count(env, secret) != 1 {
				t.Errorf("environment of the action %s", env)
			}
			delete(config, "Env")
		}
		if text, _ := json.Marshal(info); bytes.Contains(text, []byte(secret)) {
			t.Errorf("container %s shows the secret: %s", c.Names, text)
		}
	}
	want := 1
	if engine == "docker" { // the step's own
		want = 2
	}
	if len(list) != want {
		t.Errorf("containers %v", list)
	}
}

// awaited is closed when a text has been written.
type awaited struct {
	text  string
	seen  bytes.Buffer
	found chan struct{}
	done  bool
}

// Write implements io.Writer.
func (a *awaited) Write(p []byte) (int, error) {
	a.seen.Write(p)
	if !a.done && bytes.Contains(a.seen.Bytes(), []byte(a.text)) {
		a.done = true
		close(a.found)
	}
	return len(p), nil
}
