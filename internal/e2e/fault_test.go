//go:build engine

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// interruptBudget is how long an interrupted imgbake may take to tear down.
const interruptBudget = 5 * time.Second

// A lab is what the fault tests share: an engine and a registry, both real and
// private.
type lab struct {
	engine   *daemon
	registry string
}

func newLab(t *testing.T) lab {
	t.Helper()
	tinyFrom = rootfs(t)
	l := lab{engine: startDaemon(t, t.TempDir()), registry: dockerRegistry(t)}
	// From here on the engine has the bases' common layer. It downloads one only
	// once for all who ask, so one test's fault would be another's, too.
	l.scene(t, hello).works(t)
	return l
}

var scenes atomic.Int64 // tells them apart

// A scene is one template with proxies of its own in front of the lab.
type scene struct {
	site
	lab
	name     string // of the image
	host     string // of the registry, as the template has it
	dir      string
	engine   *proxy
	registry *proxy
	tags     map[string]string // as they were before
}

const (
	hello   = `provisioners: [{ shell: { inline: [echo hello > /hello] } }]`
	publish = `publish: [{ repository: REGISTRY/NAME, tags: [one, two] }]`
	waiting = `provisioners: [{ shell: { inline: ["trap '' INT TERM HUP", sleep 600 &, echo ready, sleep 600] } }]`
)

// scene makes a template with one image: its base is in the registry, not yet
// in the engine, and the tags it publishes to point to another image. In the
// keys, REGISTRY and NAME are replaced.
func (l lab) scene(t *testing.T, keys ...string) *scene {
	t.Helper()
	s := &scene{lab: l, tags: map[string]string{}}
	s.name = fmt.Sprintf("%s-%d", regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(t.Name()), "-"), scenes.Add(1))
	root := t.TempDir()
	s.cache, s.env = filepath.Join(root, "cache"), []string{"TMPDIR=" + filepath.Join(root, "tmp")}
	for _, dir := range []string{s.cache, s.tmp()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.engine, s.site.host = l.engine.inFront(t)
	s.registry, s.host = registryProxy(t, l.registry)
	tinyBase(t, l.registry+"/base/"+s.name+":1")
	for _, tag := range []string{"one", "two"} {
		old, err := random.Image(1<<10, 1)
		if err != nil {
			t.Fatal(err)
		}
		push(t, l.registry+"/"+s.name+":"+tag, old)
		s.tags[tag] = tagDigest(t, l.registry, s.name, tag)
	}
	text := "images:\n  NAME:\n    builders: { docker: { image: REGISTRY/base/NAME:1, network: none } }\n"
	for _, k := range keys {
		text += "    " + k + "\n"
	}
	s.dir = write(t, map[string]string{"imgbake.yaml": strings.NewReplacer("REGISTRY", s.host, "NAME", s.name).Replace(text)})
	return s
}

func (s *scene) begin(t *testing.T, args ...string) *baking {
	t.Helper()
	return begin(t, s.site, s.dir, args...)
}

func (s *scene) bake() string { return s.name + ".docker" }

// untouched checks that the run left nothing and moved no tag.
func (s *scene) untouched(t *testing.T) {
	t.Helper()
	s.nothingLeft(t, s.lab.engine.host(), s.bake())
	for tag, was := range s.tags {
		if now := tagDigest(t, s.lab.registry, s.name, tag); now != was {
			t.Errorf("tag %s moved from %s to %s", tag, was, now)
		}
	}
}

// works checks that the same template bakes once the fault is gone.
func (s *scene) works(t *testing.T) {
	t.Helper()
	s.engine.heal()
	s.registry.heal()
	b := s.begin(t)
	if code := b.end(time.Minute); code != 0 {
		t.Errorf("exit code %d once the fault is gone", code)
	}
	s.nothingLeft(t, s.lab.engine.host(), s.bake())
}

// wants checks an error text by patterns in it.
func wants(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("error %q\n does not match %q", text, p)
		}
	}
}

func TestFaults(t *testing.T) {
	l := newLab(t)
	t.Run("pull", func(t *testing.T) { t.Parallel(); testPull(t, l) })
	t.Run("slow", func(t *testing.T) { t.Parallel(); testSlow(t, l) })
	t.Run("passing", func(t *testing.T) { t.Parallel(); testPassing(t, l) })
	t.Run("push", func(t *testing.T) { t.Parallel(); testPush(t, l) })
	t.Run("signal", func(t *testing.T) { t.Parallel(); testSignals(t, l) })
	t.Run("kill", func(t *testing.T) { t.Parallel(); testKill(t, l) })
	t.Run("container", func(t *testing.T) { t.Parallel(); testContainer(t, l) })
	t.Run("abort", func(t *testing.T) { t.Parallel(); testAbort(t, l) })
	t.Run("full", func(t *testing.T) { t.Parallel(); testFull(t, l) })
}

// The base cannot be pulled: the error names it, and what the registry said.
func testPull(t *testing.T, l lab) {
	manifest, blob := path("(GET|HEAD) .*/manifests/"), path("GET .*/blobs/")
	for name, test := range map[string]struct {
		match registrytest.Match
		fault registrytest.Fault
		want  string
	}{
		"401":            {manifest, registrytest.Basic("somebody", "else"), "unauthorized|no basic auth"},
		"404":            {manifest, registrytest.Code(404, "MANIFEST_UNKNOWN", "manifest unknown"), "not found|manifest unknown"},
		"429":            {manifest, registrytest.Code(429, "TOOMANYREQUESTS", "slow down"), "toomanyrequests: slow down"},
		"500":            {manifest, registrytest.Status(500), "500 Internal Server Error"},
		"500 on a layer": {blob, registrytest.Status(500), "500 Internal Server Error|unknown: "},
		"truncated":      {blob, registrytest.Truncate(1000), "EOF"},
		"wrong digest":   {blob, registrytest.Flip, "filesystem layer verification failed|verification failed"},
		"wrong manifest": {path("GET .*/manifests/sha256:"), registrytest.Flip, "verification failed|digest|unsupported media type"},
		"reset":          {manifest, registrytest.Reset, "EOF|reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.scene(t, hello, publish)
			s.registry.on(test.match, test.fault)
			b := s.begin(t)
			if code := b.end(time.Minute); code != 1 {
				t.Errorf("exit code %d", code)
			}
			wants(t, b.failure(s.bake()), "^docker builder: pulling "+s.host+"/base/"+s.name+":1: ", test.want)
			s.untouched(t)
		})
	}
}

// Slow is not broken: an answer that takes its time is waited for.
func testSlow(t *testing.T, l lab) {
	s := l.scene(t, hello, publish)
	s.registry.on(path("/v2/."), slowly)
	b := s.begin(t)
	if code := b.end(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.nothingLeft(t, l.engine.host(), s.bake())
	if one, two := tagDigest(t, l.registry, s.name, "one"), tagDigest(t, l.registry, s.name, "two"); one != two || one == s.tags["one"] {
		t.Errorf("tags %s and %s, before %v", one, two, s.tags)
	}
}

// A registry that fails for a while costs time only.
func testPassing(t *testing.T, l lab) {
	s := l.scene(t, hello, publish)
	s.registry.on(path("PUT .*/blobs/uploads/"), times(2, registrytest.Status(503)))
	s.registry.on(path("PUT .*/manifests/sha256:"), times(1, registrytest.Reset))
	s.registry.on(path("PUT .*/manifests/two$"), times(1, registrytest.After(registrytest.Status(500))))
	s.registry.on(path("PUT .*/manifests/one$"), times(1, registrytest.Status(429, "Retry-After", "1")))
	b := s.begin(t)
	if code := b.end(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.until(bake.Note, "status 503; trying again in ")
	b.until(bake.Note, "status 429; trying again in ")
	if one, two := tagDigest(t, l.registry, s.name, "one"), tagDigest(t, l.registry, s.name, "two"); one != two || one == s.tags["one"] {
		t.Errorf("tags %s and %s, before %v", one, two, s.tags)
	}
}

// The image cannot be pushed: no tag moves, whatever fails.
func testPush(t *testing.T, l lab) {
	upload := path("PUT .*/blobs/uploads/")
	byDigest, second := path("PUT .*/manifests/sha256:"), path("PUT .*/manifests/two$")
	for name, test := range map[string]struct {
		match registrytest.Match
		fault registrytest.Fault
		want  string
	}{
		"401":              {path("POST .*/uploads/"), registrytest.Basic("somebody", "else"), `401 unauthorized: .*\(no credentials for localhost:\d+: give --registry-auth`},
		"403":              {path("POST .*/uploads/"), registrytest.Code(403, "DENIED", "read only"), `403 forbidden: denied read only \(the credentials do not allow this`},
		"404":              {path("POST .*/uploads/"), registrytest.Code(404, "NAME_UNKNOWN", "no such repository"), `404 not found: name_unknown no such repository \(there is no such repository`},
		"413":              {upload, registrytest.Status(413), `413 request entity too large \(the upload is too large for the proxy`},
		"429":              {upload, registrytest.Code(429, "TOOMANYREQUESTS", "slow down"), `429 too many requests: toomanyrequests slow down \(the registry limits the rate`},
		"500":              {upload, registrytest.Status(500), `500 internal server error`},
		"500 on manifest":  {byDigest, registrytest.Status(500), `500 internal server error`},
		"500 on a tag":     {second, registrytest.Status(500), `tag two localhost:\d+/[a-z0-9-]+: 500 internal server error`},
		"429 for hours":    {upload, registrytest.Status(429, "Retry-After", "7200"), `429 too many requests`},
		"truncated":        {upload, registrytest.ResetAfter(10), `(EOF|connection reset by peer)`},
		"wrong digest":     {byDigest, registrytest.Header("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64)), `the registry stored the manifest as sha256:0`},
		"lost answer":      {second, registrytest.After(registrytest.Status(500)), `tag two .*: 500 internal server error; these tags were moved and could not be put back: \S+:two$`},
		"digest of a blob": {upload, registrytest.Code(400, "DIGEST_INVALID", "provided digest did not match"), `400 bad request: digest_invalid provided digest did not match`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.scene(t, hello, publish)
			s.registry.on(test.match, test.fault)
			b := s.begin(t)
			if code := b.end(2 * time.Minute); code != 1 {
				t.Errorf("exit code %d", code)
			}
			wants(t, b.failure(s.bake()), `^publishing: (push|tag two) `+s.host+`|^publishing: tag two `, s.host+"/"+s.name, test.want)
			s.untouched(t)
		})
	}
}

// SIGINT and SIGTERM, at every stage: the end comes in time with code 130 and
// says interrupted, and nothing is left.
func testSignals(t *testing.T, l lab) {
	save := `post_processors: [{ docker-save: { path: out.tar } }, { shell-local: { inline: ["trap '' INT TERM HUP", sleep 600 &, echo ready, sleep 600] } }]`
	for name, test := range map[string]struct {
		keys []string
		at   func(*scene) func(*baking) // prepares, and then waits for the stage
	}{
		"pull manifest":  {[]string{hello, publish}, atRegistry(path("(GET|HEAD) .*/base/.*/manifests/"), false)},
		"pull layer":     {[]string{hello, publish}, atRegistry(path("GET .*/base/.*/blobs/"), false)},
		"connect":        {[]string{hello, publish}, atEngine(path("GET .*/info$"), false)},
		"create":         {[]string{hello, publish}, atEngine(path("POST .*/containers/create"), true)},
		"copy helper":    {[]string{hello, publish}, atEngine(path("PUT .*/archive"), false)},
		"start":          {[]string{hello, publish}, atEngine(path("POST .*/containers/[^/]+/start"), true)},
		"scan":           {[]string{hello, publish}, atEngine(helperCommand(guest.Scan), true)},
		"exec":           {[]string{waiting, publish}, atEvent(bake.Output, "ready")},
		"commit":         {[]string{hello, publish}, atEngine(helperCommand(guest.Delta), true)},
		"commit content": {[]string{hello, publish}, atRegistry(path("GET .*/base/.*/manifests/sha256:"), false)},
		"load":           {[]string{hello, publish}, atEngine(path("POST .*/images/load"), false)},
		"load answer":    {[]string{hello, publish}, atEngine(path("POST .*/images/load"), true)},
		"tag":            {[]string{hello, publish}, atEngine(path("POST .*/images/.*/tag"), true)},
		"push blob":      {[]string{hello, publish}, atRegistry(path("PUT .*/blobs/uploads/"), false)},
		"push manifest":  {[]string{hello, publish}, atRegistry(path("PUT .*/manifests/sha256:"), true)},
		"first tag":      {[]string{hello, publish}, atRegistry(path("PUT .*/manifests/one$"), true)},
		"second tag":     {[]string{hello, publish}, atRegistry(path("PUT .*/manifests/two$"), false)},
		"posts":          {[]string{hello, publish, save}, atEvent(bake.Output, "ready")},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(name+"/"+sig.String(), func(t *testing.T) {
				t.Parallel()
				s := l.scene(t, test.keys...)
				reached := test.at(s)
				b := s.begin(t)
				reached(b)
				b.signal(sig)
				if code := b.end(interruptBudget); code != 130 {
					t.Errorf("exit code %d", code)
				}
				wants(t, b.failure(s.bake()), "interrupt signal received|terminated signal received")
				s.untouched(t)
			})
		}
	}
}

func atRegistry(match registrytest.Match, done bool) func(*scene) func(*baking) {
	return func(s *scene) func(*baking) {
		fault, reached := hold(done)
		s.registry.on(match, fault)
		return func(b *baking) { b.reach(reached) }
	}
}

func atEngine(match registrytest.Match, done bool) func(*scene) func(*baking) {
	return func(s *scene) func(*baking) {
		fault, reached := hold(done)
		s.engine.on(match, fault)
		return func(b *baking) { b.reach(reached) }
	}
}

func atEvent(of bake.EventType, text string) func(*scene) func(*baking) {
	return func(*scene) func(*baking) { return func(b *baking) { b.until(of, text) } }
}

// SIGKILL: the next start takes away what the killed run left.
func testKill(t *testing.T, l lab) {
	for name, test := range map[string]struct {
		keys []string
		at   func(*scene) func(*baking)
	}{
		"pull":   {[]string{hello, publish}, atRegistry(path("GET .*/base/.*/blobs/"), false)},
		"create": {[]string{hello, publish}, atEngine(path("POST .*/containers/create"), true)},
		"exec":   {[]string{waiting, publish}, atEvent(bake.Output, "ready")},
		"commit": {[]string{hello, publish}, atEngine(helperCommand(guest.Delta), true)},
		"load":   {[]string{hello, publish}, atEngine(path("POST .*/images/load"), false)},
		"push":   {[]string{hello, publish}, atRegistry(path("PUT .*/blobs/uploads/"), false)},
		"tag":    {[]string{hello, publish}, atRegistry(path("PUT .*/manifests/one$"), false)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.scene(t, test.keys...)
			reached := test.at(s)
			b := s.begin(t)
			reached(b)
			b.signal(syscall.SIGKILL)
			b.end(interruptBudget)
			eventually(t, 10*time.Second, "the helper ends with imgbake", func() bool { return len(s.processes()) == 0 })
			next := l.scene(t, hello)
			next.cache, next.env = s.cache, s.env
			next.works(t)
			s.untouched(t)
		})
	}
}

// A container that somebody else kills ends its step with one error.
func testContainer(t *testing.T, l lab) {
	for name, test := range map[string]struct{ method, path, want string }{
		"killed":  {http.MethodPost, "/kill", `the container ended \(exit status 137\)`},
		"removed": {http.MethodDelete, "?force=1", `the container was removed|the container ended`},
		"stopped": {http.MethodPost, "/stop?t=0", `the container ended`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.scene(t, waiting, publish)
			b := s.begin(t)
			b.until(bake.Output, "ready")
			if err := api(t.Context(), l.engine.host(), test.method, "/containers/"+s.container(t)+test.path, nil, nil); err != nil {
				t.Fatal(err)
			}
			if code := b.end(20 * time.Second); code != 1 {
				t.Errorf("exit code %d", code)
			}
			wants(t, b.failure(s.bake()), `^imgbake.yaml:\d+:\d+: provisioner 1 \(shell\): `, test.want)
			s.untouched(t)
		})
	}
}

// container is the ID of the bake's container.
func (s *scene) container(t *testing.T) string {
	t.Helper()
	var list []struct {
		ID string `json:"Id"`
	}
	filter := fmt.Sprintf(`/containers/json?all=1&filters={"label":["dev.imgbake.bake=%s"]}`, s.bake())
	if err := api(t.Context(), s.lab.engine.host(), http.MethodGet, strings.ReplaceAll(filter, `"`, "%22"), nil, &list); err != nil || len(list) != 1 {
		t.Fatalf("containers of %s: %v, %v", s.bake(), list, err)
	}
	return list[0].ID
}

// -on-error=abort leaves the machine, says how to reach it, and the reaper of
// the next run does not touch it.
func testAbort(t *testing.T, l lab) {
	s := l.scene(t, `provisioners: [{ shell: { inline: [echo work > /work, exit 7] } }]`, publish)
	b := s.begin(t, "-on-error=abort")
	if code := b.end(time.Minute); code != 1 {
		t.Errorf("exit code %d", code)
	}
	wants(t, b.failure(s.bake()), `provisioner 1 \(shell\): `, `exit.* 7`)
	var said string
	for _, e := range b.all(bake.MachineDetached) {
		said += e.Text + "\n"
	}
	id := s.container(t)
	name := regexp.MustCompile(`imgbake-detached-\S+`).FindString(said)
	wants(t, said, `docker -H `+regexp.QuoteMeta(s.site.host)+` exec -it `+name+` /bin/sh`, `docker -H \S+ rm -f -v `+name)
	l.scene(t, hello).works(t)
	var info struct {
		Name  string
		State struct{ Running bool }
	}
	if err := api(t.Context(), l.engine.host(), http.MethodGet, "/containers/"+id+"/json", nil, &info); err != nil || !info.State.Running || info.Name != "/"+name {
		t.Errorf("after the next run: %+v, %v", info, err)
	}
	if err := api(t.Context(), l.engine.host(), http.MethodDelete, "/containers/"+name+"?force=1&v=1", nil, nil); err != nil {
		t.Error(err)
	}
	s.untouched(t)
}

// A full disk while a layer is written is named as such.
func testFull(t *testing.T, l lab) {
	s := l.scene(t, `provisioners: [{ shell: { inline: ["head -c 40000000 /dev/urandom > /big"] } }]`, publish)
	if err := syscall.Mount("tmpfs", s.cache, "tmpfs", 0, "size=16m"); err != nil {
		missing(t, "mount: %v", err)
	}
	defer syscall.Unmount(s.cache, syscall.MNT_DETACH)
	b := s.begin(t)
	if code := b.end(time.Minute); code != 1 {
		t.Errorf("exit code %d", code)
	}
	wants(t, b.failure(s.bake()), `^commit: .*disk full: write layer at `+s.cache)
	s.untouched(t)
}

// An engine that goes away in the middle of a step ends the bake with one
// error; once it is back, the next run takes away what the last one could not.
func TestEngineRestart(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct {
		sig  syscall.Signal
		want string
	}{
		"killed":     {syscall.SIGKILL, `docker engine at unix://\S+ cannot be reached(: connection reset by peer|: EOF)? \(is it running, .*DOCKER_HOST`},
		"terminated": {syscall.SIGTERM, "docker engine at unix://.* cannot be reached|the container ended"},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share the engine
			s := l.scene(t, waiting, publish)
			s.site.host = l.engine.host()
			b := s.begin(t)
			b.until(bake.Output, "ready")
			l.engine.kill(t, test.sig)
			code := b.end(20 * time.Second)
			l.engine.start(t)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			wants(t, b.failure(s.bake()), `^imgbake.yaml:\d+:\d+: provisioner 1 \(shell\): `, test.want)
			for _, e := range b.all(bake.CleanupProblem) {
				wants(t, e.Error, "^removing container imgbake-"+s.name+".*: docker engine at unix://.* cannot be reached")
			}
			next := l.scene(t, hello)
			next.site.host = l.engine.host()
			next.works(t)
			s.untouched(t)
		})
	}
}

// An engine whose disk is full says so, once, and the tags stay.
func TestEngineFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=56m"); err != nil {
		missing(t, "mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	tinyFrom = rootfs(t)
	l := lab{engine: startDaemon(t, dir), registry: dockerRegistry(t)}
	for name, test := range map[string]struct{ step, want string }{
		"step": {"head -c 100000000 /dev/zero > /big", `provisioner 1 \(shell\): .*: exit status 1$`},
		"load": {"head -c 32000000 /dev/urandom > /big", `^loading the image: .*no space left on device`},
	} {
		t.Run(name, func(t *testing.T) {
			s := l.scene(t, `provisioners: [{ shell: { inline: ["`+test.step+`"] } }]`, publish)
			b := s.begin(t)
			if code := b.end(time.Minute); code != 1 {
				t.Errorf("exit code %d", code)
			}
			wants(t, b.failure(s.bake()), test.want)
			if name == "step" {
				b.until(bake.Output, "No space left on device")
			}
			s.untouched(t)
		})
	}
}
