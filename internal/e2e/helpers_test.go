//go:build engine

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// tempDir holds what all tests share; TestMain removes it.
var tempDir string

func TestMain(m *testing.M) {
	var err error
	if tempDir, err = os.MkdirTemp("", "imgbake-e2e-"); err != nil {
		log.Fatal(err)
	}
	before := images(givenEngine())
	code := m.Run()
	removeImages(givenEngine(), before)
	os.RemoveAll(tempDir)
	os.Exit(code)
}

func givenEngine() string {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	return "unix:///var/run/docker.sock"
}

// image is what the engine says of one.
type image struct {
	RepoTags, RepoDigests []string
	RootFS                struct{ Layers []string }
}

// fromHere reports whether an image has a name in a registry on loopback.
func (i image) fromHere() bool {
	return slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(ref string) bool { return strings.HasPrefix(ref, "127.0.0.1:") })
}

// images is what an engine has, by ID.
func images(host string) map[string]image {
	var list []struct {
		ID string `json:"Id"`
	}
	all := map[string]image{}
	_ = api(context.Background(), host, http.MethodGet, "/images/json", nil, &list) // no engine, no images
	for _, i := range list {
		var info image
		if api(context.Background(), host, http.MethodGet, "/images/"+i.ID+"/json", nil, &info) == nil {
			all[i.ID] = info
		}
	}
	return all
}

// removeImages takes what the tests loaded out of the given engine: what is
// new there and has a name on loopback, or is made from such an image.
func removeImages(host string, before map[string]image) {
	fresh, ours := images(host), map[string]bool{}
	maps.DeleteFunc(fresh, func(id string, _ image) bool { _, old := before[id]; return old })
	for _, i := range fresh {
		if i.fromHere() {
			ours[i.RootFS.Layers[0]] = true
		}
	}
	for id, i := range fresh {
		if len(i.RootFS.Layers) > 0 && ours[i.RootFS.Layers[0]] && (i.fromHere() || len(i.RepoTags) == 0) {
			_ = api(context.Background(), host, http.MethodDelete, "/images/"+id+"?force=1", nil, nil)
		}
	}
}

// missing skips a test whose real part is not there, or fails it where all
// must be.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("IMGBAKE_REQUIRE") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// needTools is for commands of the host.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "no %s: %v", name, err)
		}
	}
}

// engineHost is the Docker Engine that the environment names.
func engineHost(t *testing.T) string {
	t.Helper()
	host := givenEngine()
	if err := ping(t.Context(), host); err != nil {
		missing(t, "no Docker Engine: %v", err)
	}
	return host
}

// programs is a folder with imgbake and its helper.
func programs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("IMGBAKE_TEST_BIN"); dir != "" {
		return dir
	}
	dir, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var buildPrograms = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(tempDir, "bin")
	for out, from := range map[string]string{"imgbake": "../../cmd/imgbake", "imgbake-helper-linux-" + runtime.GOARCH: "../../cmd/imgbake-helper"} {
		if err := goBuild(filepath.Join(dir, out), from); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func goBuild(out, from string) error {
	build := exec.Command("go", "build", "-o", out, from)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", from, err, text)
	}
	return nil
}

// rootfs is a tar of a small Debian.
func rootfs(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("IMGBAKE_TEST_ROOTFS"); file != "" {
		return file
	}
	needTools(t, "mmdebstrap")
	file, err := makeRootfs()
	if err != nil {
		missing(t, "%v", err)
	}
	return file
}

var makeRootfs = sync.OnceValues(func() (string, error) {
	file := filepath.Join(tempDir, "debian.tar")
	if out, err := exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w\n%s", err, out)
	}
	return file, nil
})

// site is where imgbake runs: which engine it reaches, and what it has there.
type site struct {
	host  string   // DOCKER_HOST
	cache string   // IMGBAKE_CACHE_DIR
	netns string   // network namespace to run in; "" for the test's own
	env   []string // further variables
}

// newSite is one on the given engine, with an empty cache.
func newSite(t *testing.T) site {
	return site{host: engineHost(t), cache: t.TempDir()}
}

// result is how a program ended.
type result struct {
	code           int
	stdout, stderr string
}

// command is imgbake with a small environment, to be run in a folder.
func (s site) command(ctx context.Context, t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{filepath.Join(programs(t), "imgbake")}, args...)
	if s.netns != "" {
		args = append([]string{"nsenter", "--net=" + s.netns}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.cache, "TMPDIR=" + os.TempDir(),
		"DOCKER_HOST=" + s.host, "IMGBAKE_CACHE_DIR=" + s.cache,
	}, s.env...)
	return cmd
}

// run runs imgbake to its end.
func (s site) run(t *testing.T, dir string, args ...string) result {
	t.Helper()
	cmd := s.command(t.Context(), t, dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// build bakes a template that must succeed, and returns its record.
func (s site) build(t *testing.T, dir string, args ...string) record {
	t.Helper()
	file := filepath.Join(t.TempDir(), "record.json")
	r := s.run(t, dir, append([]string{"build", "--engine=docker", "--plain", "--record", file}, args...)...)
	if r.code != 0 {
		t.Fatalf("imgbake build %s: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return readRecord(t, file)
}

// record is what the tests read of a record file.
type record struct {
	Bakes []struct {
		Name, Status string
		Published    []string
		Tags         []string
		Artifacts    []struct {
			Digest   string
			EngineID string `json:"engine_id"`
			Layers   []string
			Removed  []string
			Tags     []string
		}
	}
}

func readRecord(t *testing.T, file string) (r record) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return r
}

// digests are those of the manifests, by the bake's name.
func (r record) digests() map[string]string {
	all := map[string]string{}
	for _, b := range r.Bakes {
		for _, a := range b.Artifacts {
			all[b.Name] = a.Digest
		}
	}
	return all
}

// newRegistry is an empty registry that keeps its blobs in a folder.
func newRegistry(blobs string) http.Handler {
	return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(blobs)))
}

// write makes the files of a template's folder.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// baseRepository is where pushBase puts the base image.
const baseRepository = "debian:bookworm-slim"

// pushBase bakes the small Debian into a registry and returns its name. Each
// run pushes the same image.
func pushBase(t *testing.T, s site, registry string) string {
	t.Helper()
	dir := write(t, map[string]string{"imgbake.yaml": `
images:
  debian:
    builders: { docker: { rootfs: rootfs.tar } }
    config: { cmd: [bash] }
    publish: [{ repository: "` + registry + `/debian", tags: [bookworm-slim] }]
`})
	file := filepath.Join(dir, "rootfs.tar")
	if err := os.Link(rootfs(t), file); err != nil {
		if err := copyFile(file, rootfs(t)); err != nil {
			t.Fatal(err)
		}
	}
	s.build(t, dir, "-load=false")
	return registry + "/" + baseRepository
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// api speaks to a Docker Engine without the docker command. out may be nil, a
// *string for the plain answer, or what JSON is decoded into.
func api(ctx context.Context, host, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		network, address, _ := strings.Cut(host, "://")
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
	}}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	if text, ok := out.(*string); ok {
		*text = string(data)
		return nil
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

func ping(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return api(ctx, host, http.MethodGet, "/_ping", nil, nil)
}

// eventually asks again until the answer is yes, at most the given time. The
// ticker paces the questions; nothing relies on how long one takes.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %s", what, within)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
