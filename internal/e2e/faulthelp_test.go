//go:build engine

package e2e_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// A proxy stands in front of an engine or a registry and misbehaves on demand.
type proxy struct {
	next  http.Handler
	mu    sync.Mutex
	match []registrytest.Match
	fault []registrytest.Fault
}

// on makes every request that matches meet the fault.
func (p *proxy) on(match registrytest.Match, fault registrytest.Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match, p.fault = append(p.match, match), append(p.fault, fault)
}

// heal takes all faults away.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match, p.fault = nil, nil
}

func (p *proxy) find(r *http.Request) registrytest.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, match := range p.match {
		if match(r) {
			return p.fault[i]
		}
	}
	return nil
}

// ServeHTTP passes the request on, or to a fault.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := p.find(r); fault != nil {
		fault(w, r, p.next)
		return
	}
	p.next.ServeHTTP(w, r)
}

// newProxy serves on the listener until the test ends. dial reaches what is
// behind.
func newProxy(t *testing.T, listener net.Listener, dial func(context.Context, string, string) (net.Conn, error)) *proxy {
	quiet := log.New(io.Discard, "", 0)
	p := &proxy{next: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host },
		Transport:     &http.Transport{DialContext: dial, DisableCompression: true},
		FlushInterval: -1, ErrorLog: quiet,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: p, ErrorLog: quiet}}
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Listener.Close() })
	return p
}

// dockerRegistry starts Debian's registry on loopback and returns its address.
func dockerRegistry(t *testing.T) string {
	t.Helper()
	needTools(t, "docker-registry")
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, 20*time.Second, "docker-registry answers", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

// registryProxy puts a proxy in front of a registry and returns it with its
// host:port.
func registryProxy(t *testing.T, addr string) (*proxy, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, listener, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	})
	return p, fmt.Sprintf("localhost:%d", listener.Addr().(*net.TCPAddr).Port)
}

// hold is a fault that tells when the first request is there and does not
// answer it. With done, what is asked for is done first. Later ones pass.
func hold(done bool) (registrytest.Fault, <-chan struct{}) {
	reached := make(chan struct{})
	var taken atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case taken.Swap(true):
			next.ServeHTTP(w, r)
			return
		case done:
			next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		}
		close(reached)
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}, reached
}

// times is a fault for the first n requests; those after them pass.
func times(n int64, fault registrytest.Fault) registrytest.Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if seen.Add(1) > n {
			next.ServeHTTP(w, r)
			return
		}
		fault(w, r, next)
	}
}

// slowly lets every answer take a while.
func slowly(w http.ResponseWriter, r *http.Request, next http.Handler) {
	select {
	case <-time.After(200 * time.Millisecond):
		next.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}

// path matches by a pattern of the method and the path.
func path(pattern string) registrytest.Match {
	expr := regexp.MustCompile(pattern)
	return func(r *http.Request) bool { return expr.MatchString(r.Method + " " + r.URL.Path) }
}

// helperCommand matches the start of a command of the helper in a container.
func helperCommand(command string) registrytest.Match {
	return func(r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/exec") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var config struct{ Cmd []string }
		return json.Unmarshal(body, &config) == nil && len(config.Cmd) > 1 && config.Cmd[1] == command
	}
}

// tinyFiles are what of the Debian tar a shell needs.
var tinyFiles = regexp.MustCompile(`/(dash|sh|cat|head|sleep|true|mkdir|touch|libc\.so\.6|ld-linux[^/]*|libselinux\.so\.1|libpcre2-8\.so\.0[^/]*)$`)

// tinyLayer is a file system with little more than a shell, out of the Debian
// tar: pulled, loaded and scanned in no time.
var tinyLayer = sync.OnceValues(func() (v1.Layer, error) {
	in, err := os.Open(tinyFrom)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var out bytes.Buffer
	tr, tw := tar.NewReader(in), tar.NewWriter(&out)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		dir := h.Typeflag == tar.TypeDir && strings.Count(h.Name, "/") <= 5 && !strings.Contains(h.Name, "/share/")
		root := h.Typeflag == tar.TypeSymlink && strings.Count(h.Name, "/") == 1
		if !dir && !root && (h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink || !tinyFiles.MatchString(h.Name)) {
			continue
		}
		if err := errors.Join(tw.WriteHeader(h), copyTo(tw, tr)); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }, tarball.WithCompressedCaching)
})

var tinyFrom string // what tinyLayer reads

func copyTo(w io.Writer, r io.Reader) error { _, err := io.Copy(w, r); return err }

// tinyBase pushes an image that no engine has: the shell, and a layer of random
// bytes.
func tinyBase(t *testing.T, ref string) {
	t.Helper()
	shell, err := tinyLayer()
	if err != nil {
		t.Fatal(err)
	}
	noise, err := random.Layer(1<<20, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), shell, noise)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, withPlatform(t, img))
	if err != nil {
		t.Fatal(err)
	}
	push(t, ref, img)
}

func withPlatform(t *testing.T, img v1.Image) *v1.ConfigFile {
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	return config
}

// push stores an image under a tag.
func push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Push(t.Context(), tag.Repository, img, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Tag(t.Context(), img, registry.Target{Tag: tag}); err != nil {
		t.Fatal(err)
	}
}

// tagDigest is what a tag of the registry points to; "" when there is none.
func tagDigest(t *testing.T, addr, repo, tag string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, (&url.URL{Scheme: "http", Host: addr, Path: "/v2/" + repo + "/manifests/" + tag}).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", string(types.OCIManifestSchema1)+", "+string(types.DockerManifestSchema2))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}

// A baking is an imgbake that runs.
type baking struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}

	mu     sync.Mutex
	events []bake.Event
	news   chan struct{} // closed and replaced with every event
}

// begin starts imgbake build --json in a folder.
func begin(t *testing.T, s site, dir string, args ...string) *baking {
	t.Helper()
	b := &baking{t: t, ended: make(chan struct{}), news: make(chan struct{})}
	b.cmd = s.command(context.WithoutCancel(t.Context()), t, dir, append([]string{"build", "--engine=docker", "--json"}, args...)...)
	b.cmd.Stderr = &b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b.read(stdout)
		b.cmd.Wait()
		close(b.ended)
	}()
	t.Cleanup(func() {
		b.cmd.Process.Kill()
		<-b.ended
		if t.Failed() {
			t.Logf("events:\n%s\nstderr:\n%s", b.log(), b.stderr.String())
		}
	})
	return b
}

func (b *baking) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var e bake.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = bake.Event{Type: "no event", Text: lines.Text()}
		}
		b.mu.Lock()
		b.events = append(b.events, e)
		close(b.news)
		b.news = make(chan struct{})
		b.mu.Unlock()
	}
}

func (b *baking) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out strings.Builder
	for _, e := range b.events {
		fmt.Fprintf(&out, "%s %s %s %d %s%s %s\n", e.Time.Format("05.000"), e.Type, e.Bake, e.Step, e.Title, e.Text, e.Error)
	}
	return out.String()
}

// all are the events of a type.
func (b *baking) all(of bake.EventType) (found []bake.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Type == of {
			found = append(found, e)
		}
	}
	return found
}

// until waits for an event with the text, or an error text, in it.
func (b *baking) until(of bake.EventType, text string) {
	b.t.Helper()
	deadline := time.After(time.Minute)
	for seen := 0; ; {
		b.mu.Lock()
		events, news := b.events[seen:], b.news
		b.mu.Unlock()
		for _, e := range events {
			if seen++; e.Type == of && strings.Contains(e.Text+e.Title+e.Error, text) {
				return
			}
		}
		select {
		case <-news:
		case <-b.ended:
			b.t.Fatalf("imgbake ended before %s %q", of, text)
		case <-deadline:
			b.t.Fatalf("no %s %q", of, text)
		}
	}
}

// reach waits for what a hold tells.
func (b *baking) reach(what <-chan struct{}) {
	b.t.Helper()
	select {
	case <-what:
	case <-b.ended:
		b.t.Fatal("imgbake ended before the stage was reached")
	case <-time.After(time.Minute):
		b.t.Fatal("the stage was not reached")
	}
}

func (b *baking) signal(sig syscall.Signal) { b.cmd.Process.Signal(sig) }

// end waits for the program to end, and returns its exit code.
func (b *baking) end(within time.Duration) int {
	b.t.Helper()
	select {
	case <-b.ended:
	case <-time.After(within):
		b.cmd.Process.Signal(syscall.SIGQUIT) // says where it hangs
		<-b.ended
		b.t.Fatalf("imgbake did not end within %s", within)
	}
	return b.cmd.ProcessState.ExitCode()
}

// failure is the one error of a bake, which must look like one that helps.
func (b *baking) failure(bakeName string) string {
	b.t.Helper()
	var texts []string
	for _, e := range b.all(bake.BakeFinished) {
		if e.Bake == bakeName && e.Error != "" {
			texts = append(texts, e.Error)
		}
	}
	if len(texts) != 1 {
		b.t.Fatalf("%s has %d errors, want one: %q", bakeName, len(texts), texts)
	}
	for _, noise := range noises {
		if noise.MatchString(texts[0]) {
			b.t.Errorf("the error has noise (%s): %s", noise, texts[0])
		}
	}
	if b.stderr.Len() > 0 {
		b.t.Errorf("standard error: %s", b.stderr.String())
	}
	return texts[0]
}

// noises do not belong into an error for people.
var noises = []*regexp.Regexp{
	regexp.MustCompile(`context (canceled|deadline)`),
	regexp.MustCompile(`goroutine |0xc0|%!`),
	regexp.MustCompile(`\n|readLoop|read (unix|tcp)`),
	regexp.MustCompile(`(EOF|closed)\S* .*(EOF|closed)`),
	regexp.MustCompile(`(Put|Post|Patch|Delete) "http`),
	regexp.MustCompile(`https?://engine|http://%2F|docker\.sock/v`),
	regexp.MustCompile(`Error response from daemon: .*Error response from daemon`),
	regexp.MustCompile(`failed to .* failed to`),
}

// nothingLeft checks that a run took everything with it: files in its
// temporary and cache folders, processes, and what it made in the engine.
func (s site) nothingLeft(t *testing.T, engine string, bakes ...string) {
	t.Helper()
	for _, dir := range []string{s.tmp(), filepath.Join(s.cache, "tmp")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("left in %s: %s", dir, e.Name())
		}
	}
	for _, p := range s.processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
		t.Errorf("left running: %d %s", p.Pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
	}
	if left := labelled(t, engine, bakes...); len(left) > 0 {
		t.Errorf("left in the engine: %q", left)
	}
}

// processes are those with this site's folder in their environment.
func (s site) processes() []*os.Process { return processes("environ", "HOME="+s.cache+"\x00") }

// tmp is the site's TMPDIR.
func (s site) tmp() string { return filepath.Join(filepath.Dir(s.cache), "tmp") }
