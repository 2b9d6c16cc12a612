package stepcache_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

// An unchanged bake on a machine that has nothing starts no machine, moves no
// layer, and asks little.
func TestUnchangedOnAnotherMachine(t *testing.T) {
	server := registrytest.New(t)
	from, to := base(t, server), server.Host+"/web|1"
	cache := []string{server.Host + "/cache"}
	first := newMachine(t, cache, cache)
	made := first.bake(from, to, "a", "b", "c")
	if got := ran(made); got != "a b c" {
		t.Fatalf("the first bake: %s", got)
	}
	server.Requests()

	second := newMachine(t, cache, cache)
	again := second.bake(from, to, "a", "b", "c")
	requests := server.Requests()
	if got := ran(again); got != "(a) (b) (c)" || second.started != 0 {
		t.Errorf("got %s, %d machines; %s", got, second.started, second.notes)
	}
	if again.Artifacts[0].Digest != made.Artifacts[0].Digest {
		t.Errorf("got %s, want %s", again.Artifacts[0].Digest, made.Artifacts[0].Digest)
	}
	if len(requests) > 6 {
		t.Errorf("%d requests, want at most 6:\n%v", len(requests), requests)
	}
	if entries, _ := fs.Glob(os.DirFS(second.dir), "blobs/sha256/*"); len(entries) > 2 {
		t.Errorf("the store has %d blobs, want the base's manifest and config", len(entries))
	}
}

// The image's layers are mounted from the cache's repository, and the cache's
// from the image's.
func TestMountsInsteadOfUploads(t *testing.T) {
	server := registrytest.New(t)
	from := base(t, server)
	cache := []string{server.Host + "/cache"}
	newMachine(t, cache, cache).bake(from, server.Host+"/web|1", "a", "b")
	server.Requests()

	second := newMachine(t, cache, cache)
	if got := ran(second.bake(from, server.Host+"/other|1", "a", "b")); got != "(a) (b)" {
		t.Errorf("got %s", got)
	}
	for _, r := range server.Requests() {
		if r.Method == http.MethodGet && strings.Contains(r.Path, "/layers/") || r.Method == http.MethodPut && strings.Contains(r.Path, "/blobs/uploads/") && r.Received > 2000 {
			t.Errorf("%s: %d bytes", r, r.Received)
		}
	}
	if entries, _ := fs.Glob(os.DirFS(second.dir), "blobs/sha256/*"); len(entries) > 2 {
		t.Errorf("layers were fetched: %d blobs", len(entries))
	}
}

func TestSharedCache(t *testing.T) {
	tests := map[string]struct {
		bakes []string // of earlier machines, each its own
		steps string
		want  string
	}{
		"the last step changed":      {[]string{"a b c"}, "a b x", "(a) (b) x"},
		"two branches are kept":      {[]string{"a b c", "a b x"}, "a b c", "(a) (b) (c)"},
		"a shorter one is in it":     {[]string{"a b c"}, "a b", "(a) (b)"},
		"a longer one replaces it":   {[]string{"a", "a b"}, "a b", "(a) (b)"},
		"old ones are given up":      {[]string{"o p", "a", "b", "c", "d", "e"}, "o p", "o p"},
		"the first step is new":      {[]string{"a b c"}, "x b c", "x b c"},
		"nothing was baked so far":   {nil, "a b", "a b"},
		"what is newest but one":     {[]string{"a", "b", "c", "d", "e"}, "a", "(a)"},
		"an unchanged bake is noted": {[]string{"a b", "a b"}, "a b c", "(a) (b) c"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			server := registrytest.New(t)
			from := base(t, server)
			cache := []string{server.Host + "/cache:main"}
			for _, steps := range test.bakes {
				if m := newMachine(t, cache, cache); m.bake(from, "", strings.Fields(steps)...).Err != nil {
					t.Fatal(m.notes)
				}
			}
			m := newMachine(t, cache, cache)
			if diff := cmp.Diff(test.want, ran(m.bake(from, "", strings.Fields(test.steps)...))); diff != "" {
				t.Errorf("%s\n%s", diff, m.notes)
			}
		})
	}
}

// What a pull request's job writes is not found by who reads elsewhere (T13).
func TestScopes(t *testing.T) {
	server := registrytest.New(t)
	from := base(t, server)
	repo := server.Host + "/cache"
	pr := newMachine(t, []string{repo, repo + ",scope=pr-7"}, []string{repo + ",scope=pr-7"})
	pr.bake(from, "", "a")
	if got := ran(newMachine(t, []string{repo}, []string{repo}).bake(from, "", "a")); got != "a" {
		t.Errorf("a release used what a pull request wrote: %s", got)
	}
	if got := ran(newMachine(t, []string{repo, repo + ",scope=pr-7"}, nil).bake(from, "", "a")); got != "(a)" {
		t.Errorf("the pull request reads both: %s", got)
	}
}

// A cache that cannot be read or written costs time only.
func TestRegistryIsBroken(t *testing.T) {
	server := registrytest.New(t)
	from := base(t, server)
	server.On(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/cache/") }, -1, registrytest.Status(http.StatusForbidden))
	cache := []string{server.Host + "/cache"}
	m := newMachine(t, cache, cache)
	if got := ran(m.bake(from, "", "a")); got != "a" {
		t.Errorf("got %s", got)
	}
	if !strings.Contains(m.notes.String(), "was not written") {
		t.Errorf("nobody was told:\n%s", m.notes)
	}
}

// A layer of the registry that is not what it should be is made anew, at once
// and in every later bake.
func TestPoisonedRegistry(t *testing.T) {
	faults := map[string]registrytest.Fault{
		"flipped":   registrytest.Flip,
		"truncated": registrytest.Truncate(20),
		"gone":      registrytest.Status(http.StatusNotFound),
	}
	for title, fault := range faults {
		t.Run(title, func(t *testing.T) {
			server := registrytest.New(t)
			from := base(t, server)
			cache := []string{server.Host + "/cache"}
			first := newMachine(t, cache, cache).bake(from, "", "a", "b")
			layers, err := first.Artifacts[0].Image.Layers()
			if err != nil {
				t.Fatal(err)
			}
			bad, err := layers[2].Digest() // of step a, above the base's two
			if err != nil {
				t.Fatal(err)
			}
			server.On(registrytest.Is(http.MethodGet, "/blobs/"+bad.String()), -1, fault)
			m := newMachine(t, cache, cache)
			if got := ran(m.bake(from, "", "a", "x")); got != "a x" {
				t.Errorf("got %s\n%s", got, m.notes)
			}
			if !strings.Contains(m.notes.String(), "baking again without the cache") {
				t.Errorf("nobody was told:\n%s", m.notes)
			}
			if got := ran(m.bake(from, "", "a", "y")); got != "(a) y" {
				t.Errorf("the next bake: %s\n%s", got, m.notes)
			}
		})
	}
}

// A push to another registry brings the layers over, without a machine. One
// that cannot be read is made anew.
func TestAnotherRegistry(t *testing.T) {
	for _, broken := range []bool{false, true} {
		server, elsewhere := registrytest.New(t), registrytest.New(t)
		from := base(t, server)
		cache := []string{server.Host + "/cache"}
		made := newMachine(t, cache, cache).bake(from, "", "a", "b")
		want, machines := "(a) (b)", 0
		if broken {
			want, machines = "a b", 1
			layers, err := made.Artifacts[0].Image.Layers()
			if err != nil {
				t.Fatal(err)
			}
			bad, err := layers[3].Digest()
			if err != nil {
				t.Fatal(err)
			}
			server.On(registrytest.Is(http.MethodGet, "/blobs/"+bad.String()), -1, registrytest.Flip)
		}
		m := newMachine(t, cache, cache)
		again := m.bake(from, elsewhere.Host+"/web|1", "a", "b")
		if got := ran(again); got != want || m.started != machines || again.Artifacts[0].Digest != made.Artifacts[0].Digest {
			t.Errorf("broken %v: got %s, %d machines, %v\n%s", broken, got, m.started, again.Artifacts, m.notes)
		}
		if len(again.Published) != 1 {
			t.Errorf("broken %v: published %v", broken, again.Published)
		}
	}
}

// Two processes that bake the same at once both do it right.
func TestTwoProcesses(t *testing.T) {
	server := registrytest.New(t)
	from := base(t, server)
	cache := []string{server.Host + "/cache"}
	first := newMachine(t, cache, cache)
	second := reopened(t, first.dir, cache, cache)
	done := make(chan run.Result)
	for _, m := range []*machine{first, second} {
		go func() { done <- m.bake(from, server.Host+"/web|1", "a", "b", "c") }()
	}
	one, other := <-done, <-done
	if one.Err != nil || other.Err != nil || one.Artifacts[0].Digest != other.Artifacts[0].Digest {
		t.Fatalf("got %s and %s", ran(one), ran(other))
	}
	if got := ran(reopened(t, first.dir, nil, nil).bake(from, "", "a", "b", "c")); got != "(a) (b) (c)" {
		t.Errorf("afterwards: %s", got)
	}
	if got := ran(newMachine(t, cache, nil).bake(from, "", "a", "b", "c")); got != "(a) (b) (c)" {
		t.Errorf("on another machine: %s", got)
	}
}

// A damaged layer of this machine is made anew as well.
func TestPoisonedStore(t *testing.T) {
	changes := map[string]func([]byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
	}
	for title, change := range changes {
		t.Run(title, func(t *testing.T) {
			server := registrytest.New(t)
			from := base(t, server)
			first := newMachine(t, nil, nil)
			made := first.bake(from, server.Host+"/web|1", "a", "b")
			layers, err := made.Artifacts[0].Image.Layers()
			if err != nil {
				t.Fatal(err)
			}
			damage(t, first.dir, layers[2], change)
			m := reopened(t, first.dir, nil, nil)
			again := m.bake(from, server.Host+"/web|1", "a", "x")
			if got := ran(again); got != "a x" {
				t.Errorf("got %s\n%s", got, m.notes)
			}
			again = reopened(t, first.dir, nil, nil).bake(from, server.Host+"/web|1", "a", "b")
			if got := ran(again); got != "(a) (b)" || again.Artifacts[0].Digest != made.Artifacts[0].Digest {
				t.Errorf("the next bake: %s, %v", got, again.Artifacts)
			}
		})
	}
}

// A stage whose layers turn out to be damaged only when another starts from it
// is baked again.
func TestPoisonedStage(t *testing.T) {
	server := registrytest.New(t)
	from := base(t, server)
	first := newMachine(t, nil, nil)
	stages := func(last string) []run.Result {
		child := one("web.fake", "", "", last)
		child.From = "base.fake"
		return reopened(t, first.dir, nil, nil).run(one("base.fake", from, "", "a"), child)
	}
	made := stages("b")
	layers, err := made[0].Artifacts[0].Image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	damage(t, first.dir, layers[2], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	again := stages("c")
	if got := ran(again[0]) + "; " + ran(again[1]); got != "(a); c" {
		t.Errorf("got %s", got)
	}
	if got := ran(stages("b")[1]); got != "(b)" {
		t.Errorf("the next bake: %s", got)
	}
}

// A secret's value is in nothing that is kept, here or in the registry.
func TestCanary(t *testing.T) {
	const canary = "canary-7f3a"
	server := registrytest.New(t)
	from := base(t, server)
	cache := []string{server.Host + "/cache"}
	m := newMachine(t, cache, cache)
	m.scope = m.scope.With(map[string]value.Entry{"var.token": {Value: secret.New(canary), Known: true, Sensitive: true}})
	b := one("web.fake", from, "", "a")
	b.Steps[0].Common.Env = value.Node{V: late("var.token")}
	if res := m.run(b)[0]; res.Err != nil {
		t.Fatal(res.Err)
	}
	files := 0
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
	last := fmt.Sprint(m.cache.(interface {
		Last(b plan.Bake) []run.Inputs
	}).Last(b))
	if !strings.Contains(last, "var.token") || strings.Contains(last, canary) {
		t.Errorf("the inputs: %s", last)
	}
}
