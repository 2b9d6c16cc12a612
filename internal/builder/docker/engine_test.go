//go:build engine

package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/builder/docker"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/store"
	"github.com/imgbake/imgbake-action/internal/value"
)

// missing skips a test whose real part is not there, or fails it where all
// must be.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("IMGBAKE_REQUIRE") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// helperProgram is built once for all tests.
var helperProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "imgbake-helper-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "imgbake-helper")
	build := exec.Command("go", "build", "-o", file, "github.com/imgbake/imgbake-action/cmd/imgbake-helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the helper: %w\n%s", err, out)
	}
	return file, nil
})

// sharedDir is a store for the tests that need no empty one.
var sharedDir string

func TestMain(m *testing.M) {
	var err error
	if sharedDir, err = os.MkdirTemp("", "imgbake-store-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(sharedDir)
	if file, err := helperProgram(); err == nil {
		os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

func newStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newEngine is the engine that the environment names.
func newEngine(t *testing.T) *docker.Engine {
	t.Helper()
	return engineAt(t, os.Getenv("DOCKER_HOST"), newStore(t, sharedDir))
}

func engineAt(t *testing.T, host string, s *store.Store) *docker.Engine {
	t.Helper()
	e := docker.New(docker.Deps{
		Store: s,
		Getenv: func(key string) string {
			if key == "DOCKER_HOST" {
				return host
			}
			return os.Getenv(key)
		},
		Helper: func(string) (string, error) { return helperProgram() },
	})
	t.Cleanup(func() { e.Close() })
	if _, err := e.Describe(t.Context()); err != nil {
		missing(t, "no Docker Engine: %v", err)
	}
	return e
}

// rootfs is a small Debian: IMGBAKE_TEST_ROOTFS, or made once.
func rootfs(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("IMGBAKE_TEST_ROOTFS"); file != "" {
		return file
	}
	file := filepath.Join(os.TempDir(), "imgbake-test-bookworm.tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		missing(t, "no IMGBAKE_TEST_ROOTFS and no mmdebstrap to make one")
	}
	half := file + ".half.tar"
	out, err := exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", half).CombinedOutput()
	if err != nil {
		missing(t, "mmdebstrap: %v\n%s", err, out)
	}
	if err := os.Rename(half, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func newBuilder(t *testing.T, e *docker.Engine, config map[string]any) bake.Builder {
	t.Helper()
	b, err := e.Kind().New(value.Of(diag.Pos{File: "t.yaml", Line: 1}, config))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func job(t *testing.T) bake.Job {
	return bake.Job{RunID: "test-" + t.Name(), Name: "web.docker", Builder: "docker", Type: "docker", Notify: func(text string) { t.Log(text) }}
}

// machine starts one and closes it at the end.
func machine(t *testing.T, e *docker.Engine, config map[string]any, j bake.Job) bake.Machine {
	t.Helper()
	m, err := newBuilder(t, e, config).Start(t.Context(), j)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func sh(t *testing.T, m bake.Machine, script string) string {
	t.Helper()
	var out bytes.Buffer
	status, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-ec", script}, Stdout: &out, Stderr: &out})
	if err != nil || status != 0 {
		t.Fatalf("%s: status %d, %v\n%s", script, status, err, out.String())
	}
	return out.String()
}

func commit(t *testing.T, m bake.Machine, by string) bake.Artifact {
	t.Helper()
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: by})
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return a
}

// entries lists an image's uppermost layer.
func entries(t *testing.T, img v1.Image) map[string]*tar.Header {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[len(layers)-1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	found := map[string]*tar.Header{}
	tr := tar.NewReader(content)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(h.Name, "/")] = h
	}
}

func TestSuite(t *testing.T) {
	e := newEngine(t)
	base := rootfs(t)
	baketest.BuilderSuite(t, baketest.BuilderOptions{
		New: func(t *testing.T) (bake.Builder, bake.Job) {
			return newBuilder(t, e, map[string]any{"rootfs": base}), job(t)
		},
		Communicator: baketest.CommunicatorOptions{Root: true, User: "www-data"},
	})
}

func TestCommitSeesEverything(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	sh(t, m, `
mkdir -p /opt/old/deep /opt/gone && echo a >/opt/old/deep/f && echo x >/opt/same && ln /opt/same /opt/linked && touch /opt/gone/f
touch -d @1000000000 /opt/same`)
	commit(t, m, "one")
	sh(t, m, `
stamp=$(stat -c %y /opt/same); echo y >/opt/same; touch -d "$stamp" /opt/same   # same size, same time
rm -r /opt/gone
mv /opt/old /opt/new
rm /etc/issue && mkdir /etc/issue && echo in >/etc/issue/f
chown 12:34 /etc/issue.net && chmod 4755 /usr/bin/id
echo noise >/tmp/noise; echo noise >/run/noise; echo h >>/etc/hosts
ln -s nowhere /opt/link`)
	got := entries(t, commit(t, m, "two").Image)
	for _, want := range []string{"opt/same", "opt/linked", "opt/.wh.gone", "opt/.wh.old", "opt/new/deep/f", "etc/issue/f", "etc/issue.net", "usr/bin/id", "opt/link"} {
		if got[want] == nil {
			t.Errorf("%s is not in the layer", want)
		}
	}
	for name := range got {
		for _, noise := range []string{"tmp/", "run/", "etc/hosts", ".imgbake", ".dockerenv", "dev/", "proc/", "sys/"} {
			if strings.HasPrefix(name, noise) {
				t.Errorf("noise in the layer: %s", name)
			}
		}
	}
	if h := got["etc/issue.net"]; h != nil && (h.Uid != 12 || h.Gid != 34) {
		t.Errorf("owner of etc/issue.net: %d:%d", h.Uid, h.Gid)
	}
	if h := got["usr/bin/id"]; h != nil && h.Mode&0o7777 != 0o4755 {
		t.Errorf("mode of usr/bin/id: %o", h.Mode)
	}
}

func TestXattrsAndCapabilities(t *testing.T) {
	e := newEngine(t)
	j := job(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, j)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	records := map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.color": "blue"}
	file := baketest.Tar(baketest.File{Header: tar.Header{Typeflag: tar.TypeReg, Name: "ping", Mode: 0o755, PAXRecords: records, Format: tar.FormatPAX}, Content: "x"})
	if err := m.Communicator().Put(t.Context(), "/opt", bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	got := entries(t, commit(t, m, "one").Image)["opt/ping"]
	if got == nil {
		t.Fatal("opt/ping is not in the layer")
	}
	for key, want := range records {
		if got.PAXRecords[key] != want {
			t.Errorf("%s is %q, want %q", key, got.PAXRecords[key], want)
		}
	}
}

func TestSameDigestTwiceAndStaged(t *testing.T) {
	base := rootfs(t)
	bakeOnce := func(t *testing.T) []string {
		e := engineAt(t, os.Getenv("DOCKER_HOST"), newStore(t, t.TempDir()))
		j := job(t)
		m := machine(t, e, map[string]any{"rootfs": base}, j)
		sh(t, m, "mkdir /srv/app; date >/srv/app/../../tmp/d; echo hello >/srv/app/hello; useradd -m app; sleep 0.01")
		parent := commit(t, m, "one")
		j.From = &parent
		j.Config = bake.ImageConfig{Entrypoint: []string{"/bin/cat", "/srv/app/hello"}, Labels: map[string]string{"a": "b"}, Volumes: []string{"/data"}}
		child := machine(t, e, map[string]any{}, j)
		if got := sh(t, child, "cat /srv/app/hello; id -un app"); got != "hello\napp\n" {
			t.Errorf("the child sees %q", got)
		}
		sh(t, child, "rm /srv/app/hello; echo bye >/srv/app/hello; mkdir /data; echo d >/data/d")
		final := commit(t, child, "two")
		if final.Base.Digest != parent.Digest {
			t.Errorf("base %s, want %s", final.Base.Digest, parent.Digest)
		}
		loaded, err := e.Load(t.Context(), final.WithRefs(ref(t, "imgbake.test/docker/final:1")))
		if err != nil {
			t.Fatal(err)
		}
		if id, _ := final.Image.ConfigName(); loaded.EngineID != id.String() {
			t.Errorf("engine ID %s, want %s", loaded.EngineID, id)
		}
		j.From, j.Config = &final, bake.ImageConfig{}
		grandchild := machine(t, e, map[string]any{}, j) // its base has a volume
		if got := sh(t, grandchild, "cat /data/d; echo e >/data/e"); got != "d\n" {
			t.Errorf("the grandchild sees %q", got)
		}
		last := commit(t, grandchild, "three")
		if entries(t, last.Image)["data/e"] == nil {
			t.Error("what was written below a volume is not in the image")
		}
		return []string{parent.Digest.String(), final.Digest.String(), last.Digest.String()}
	}
	if diff := cmp.Diff(bakeOnce(t), bakeOnce(t)); diff != "" {
		t.Errorf("digests differ\n%s", diff)
	}
}

func TestExecProblems(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	tests := map[string]struct {
		cmd  bake.Cmd
		want string
	}{
		"no program":   {bake.Cmd{Args: []string{"no-such-program"}}, "no-such-program: command not found"},
		"no directory": {bake.Cmd{Args: []string{"true"}, Dir: "/no/dir"}, "working directory: chdir /no/dir: no such file or directory"},
		"no user":      {bake.Cmd{Args: []string{"true"}, User: "nobody-here"}, "nobody-here"},
		"directory":    {bake.Cmd{Args: []string{"/etc"}}, "/etc"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, err := m.Communicator().Exec(t.Context(), test.cmd)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got status %d, %v; want an error with %q", status, err, test.want)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	var out bytes.Buffer
	status, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "test -t 0 && echo yes >&2"}, TTY: true, Stdout: &out})
	if err != nil || status != 0 || strings.TrimSpace(out.String()) != "yes" {
		t.Errorf("status %d, %v, %q", status, err, out.String())
	}
}

func TestNothingOfOursIsBaked(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	status, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", `test -n "$TOKEN" && touch /opt/x`}, Env: []string{"TOKEN=canary", "http_proxy=http://canary"}})
	if err != nil || status != 0 {
		t.Fatal(status, err)
	}
	a := commit(t, m, "step")
	raw, err := a.Image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"canary", "imgbake.run", "helper", m.Facts()["ID"][:12]} {
		if strings.Contains(string(raw), bad) {
			t.Errorf("%q is in the config: %s", bad, raw)
		}
	}
	config, _ := a.Image.ConfigFile()
	if config.Config.Entrypoint != nil || config.Config.User != "" || config.Config.Healthcheck != nil {
		t.Errorf("the container's settings are in the config: %s", raw)
	}
}

func TestContainerKilledMidStep(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	api := rawClient(t)
	up, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "echo up; sleep 100"}, Stdout: in})
		done <- err
	}()
	if _, err := up.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := api.ContainerKill(t.Context(), m.Facts()["ID"], "KILL"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the container ended") {
		t.Errorf("got %v", err)
	}
	if _, err := m.Commit(t.Context(), bake.LayerInfo{}); err == nil {
		t.Error("commit of a dead container: got no error")
	}
}

func TestExport(t *testing.T) {
	e := newEngine(t)
	file := filepath.Join(t.TempDir(), "out", "root.tar")
	m := machine(t, e, map[string]any{"rootfs": rootfs(t), "export_path": file}, job(t))
	sh(t, m, "echo hello >/opt/hello")
	a := commit(t, m, "step")
	if diff := cmp.Diff([]string{file}, a.Files); diff != "" || a.Image != nil {
		t.Fatalf("artifact: image %v, files %s", a.Image, diff)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, err := baketest.Untar(f)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range files {
		found[strings.Trim(strings.TrimPrefix(f.Name, "./"), "/")] = true
	}
	if !found["opt/hello"] || !found["usr/bin/dpkg"] || found[".dockerenv"] {
		t.Errorf("%d files; hello %v, dpkg %v, .dockerenv %v", len(files), found["opt/hello"], found["usr/bin/dpkg"], found[".dockerenv"])
	}
}

func TestDiscard(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t), "discard": true}, job(t))
	if a := commit(t, m, "step"); a.Image != nil || a.Files != nil {
		t.Errorf("got %+v", a)
	}
}

func TestDockerfile(t *testing.T) {
	e := newEngine(t)
	first := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	base, err := e.Load(t.Context(), commit(t, first, "none").WithRefs(ref(t, "imgbake.test/docker/base:1")))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile":    "FROM imgbake.test/docker/base:1 AS one\nARG WHO\nCOPY . /ctx\nRUN echo $WHO >/who\nFROM one AS two\nRUN touch /two\n",
		".dockerignore": "secret*\n!secret-not\n", "secret": "s", "secret-not": "n", "sub/file": "f",
	} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j := job(t)
	j.Dir = dir
	m := machine(t, e, map[string]any{"build": map[string]any{"path": "Dockerfile", "target": "one", "args": map[string]any{"WHO": "me"}, "pull": false}}, j)
	if got := sh(t, m, "cat /who; ls -A /ctx /two 2>&1 | sort || true"); got != "me\n.dockerignore\n/ctx:\nDockerfile\nls: cannot access '/two': No such file or directory\nsecret-not\nsub\n" {
		t.Errorf("got %q", got)
	}
	if a := commit(t, m, "step"); a.Base.ID.String() == base.EngineID || a.Image == nil {
		t.Errorf("base %v", a.Base)
	}
}

func TestPullOfLocalImage(t *testing.T) {
	e := newEngine(t)
	first := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	a, err := e.Load(t.Context(), commit(t, first, "none").WithRefs(ref(t, "localhost:1/imgbake/local:1")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newBuilder(t, e, map[string]any{"image": "localhost:1/imgbake/local:1"}).Start(t.Context(), job(t))
	if err == nil || !strings.Contains(err.Error(), "pull: false uses it") {
		t.Errorf("got %v", err)
	}
	_, err = newBuilder(t, e, map[string]any{"image": "localhost:1/imgbake/none:1", "pull": false}).Start(t.Context(), job(t))
	if err == nil || !strings.Contains(err.Error(), "the engine has no image") {
		t.Errorf("got %v", err)
	}
	for _, policy := range []string{"false", "missing"} {
		m := machine(t, e, map[string]any{"image": "localhost:1/imgbake/local:1", "pull": policy}, job(t))
		if got := commit(t, m, "none"); got.Digest != a.Digest { // saved out of the engine, the same again
			t.Errorf("pull %s: digest %s, want %s", policy, got.Digest, a.Digest)
		}
	}
}

func TestDetachedIsLeftAlone(t *testing.T) {
	e := newEngine(t)
	m, err := newBuilder(t, e, map[string]any{"rootfs": rootfs(t)}).Start(t.Context(), job(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	lines := m.Detach()
	api := rawClient(t)
	if _, err := e.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := api.ContainerInspect(t.Context(), m.Facts()["ID"])
	if err != nil || !info.State.Running {
		t.Fatalf("the detached container is gone: %v", err)
	}
	if !strings.Contains(lines[0], strings.TrimPrefix(info.Name, "/")) {
		t.Errorf("%q does not name %s", lines[0], info.Name)
	}
}

// TestOrphan is run by TestKilledOwner in a process of its own: it starts a
// machine, says so, and waits to be killed.
func TestOrphan(t *testing.T) {
	base := os.Getenv("IMGBAKE_TEST_ORPHAN")
	if base == "" {
		t.Skip("part of TestKilledOwner")
	}
	e := newEngine(t)
	m, err := newBuilder(t, e, map[string]any{"rootfs": base}).Start(t.Context(), job(t))
	if err != nil {
		t.Fatal(err)
	}
	show(t, m, secretAt("/run/secrets/x", 0o400)) // in a second container
	fmt.Println("orphan is up")
	select {}
}

func TestKilledOwner(t *testing.T) {
	e := newEngine(t)
	alive := machine(t, e, map[string]any{"rootfs": rootfs(t)}, job(t))
	child := exec.Command(os.Args[0], "-test.run=^TestOrphan$", "-test.v")
	child.Env = append(os.Environ(), "IMGBAKE_TEST_ORPHAN="+rootfs(t), "TMPDIR="+t.TempDir()) // it cannot tidy up
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	seen := &bytes.Buffer{}
	buf := make([]byte, 1024)
	for !strings.Contains(seen.String(), "orphan is up") {
		n, err := out.Read(buf)
		if seen.Write(buf[:n]); err != nil {
			t.Fatalf("%v\n%s", err, seen)
		}
	}
	child.Process.Kill()
	child.Wait()

	api := rawClient(t)
	orphans := func() []container.Summary {
		list, err := api.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "dev.imgbake.run=test-TestOrphan"))})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	list := orphans()
	if len(list) != 2 {
		t.Fatalf("%d orphans", len(list))
	}
	// Without anybody's help, the containers end.
	wait, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, orphan := range list {
		ended, failed := api.ContainerWait(wait, orphan.ID, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-failed:
			t.Errorf("the orphan %s still runs: %v", orphan.Names, err)
		}
	}
	removed, err := e.Reap(t.Context())
	if err != nil || len(removed) == 0 || len(orphans()) != 0 {
		t.Errorf("reap: %v, %v; %d left", removed, err, len(orphans()))
	}
	if got := sh(t, alive, "echo here"); got != "here\n" {
		t.Errorf("the living machine answers %q", got)
	}
}

func TestUnreachable(t *testing.T) {
	e := docker.New(docker.Deps{Store: newStore(t, t.TempDir()), Getenv: func(key string) string {
		return map[string]string{"DOCKER_HOST": "unix:///no/such.sock"}[key]
	}})
	_, err := e.Describe(t.Context())
	if err == nil || !strings.Contains(err.Error(), "docker engine at unix:///no/such.sock cannot be reached") {
		t.Errorf("got %v", err)
	}
}

func ref(t *testing.T, s string) bake.Ref {
	t.Helper()
	tag, err := name.NewTag(s)
	if err != nil {
		t.Fatal(err)
	}
	api := rawClient(t)
	t.Cleanup(func() {
		api.ImageRemove(context.Background(), s, image.RemoveOptions{Force: true, PruneChildren: true})
	})
	return bake.Ref{Reference: tag}
}

func rawClient(t *testing.T) *client.Client {
	t.Helper()
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return api
}
