package cli_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/cli"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/store"
)

// cacheSite is a registry that steps are kept in, and any number of machines
// that have nothing of their own.
type cacheSite struct {
	*registrytest.Server
	t       *testing.T
	started int // builders' machines
}

func newCacheSite(t *testing.T) *cacheSite { return &cacheSite{Server: registrytest.New(t), t: t} }

// cached is a template of one image, which keeps its step where cache says.
func (s *cacheSite) cached(cache, step string) string {
	return strings.ReplaceAll(fmt.Sprintf(`variables: { token: { sensitive: true, default: canary-7f3a91 }, cache: REGISTRY/cache }
%s
images: { web: { builders: { fake: {} }, provisioners: [ step: { do: %s } ] } }
`, cache, step), "REGISTRY", s.Host)
}

// ran is what came of a command on a fresh machine.
type ran struct {
	code, started int
	out           string
	wrote         []string // tags, less the digests at their ends: cache:cache-web
}

// imgbake runs the program on a machine that has nothing but the template.
func (s *cacheSite) imgbake(template string, env map[string]string, args ...string) ran {
	s.t.Helper()
	dir := s.t.TempDir()
	s.write(filepath.Join(dir, "imgbake.yaml"), template)
	all := map[string]string{"HOME": dir, "IMGBAKE_CACHE_DIR": filepath.Join(dir, ".store")}
	if event, ok := env["EVENT"]; ok {
		all["GITHUB_EVENT_PATH"], all["GITHUB_WORKSPACE"] = filepath.Join(dir, ".event.json"), dir
		s.write(all["GITHUB_EVENT_PATH"], event)
	}
	maps.Copy(all, env)
	var environ []string
	for name, value := range all {
		environ = append(environ, name+"="+strings.ReplaceAll(value, "REGISTRY", s.Host))
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "REGISTRY", s.Host)
	}
	var out bytes.Buffer
	s.started = 0
	before := len(s.Requests())
	app := cli.App{Version: "test", Catalog: s.catalog, Stdout: &out, Stderr: &out, Environ: environ, Dir: dir, Now: time.Now}
	code := app.Main(s.t.Context(), args)
	return ran{code, s.started, out.String(), wrote(s.Requests()[before:])}
}

func (s *cacheSite) build(template string, args ...string) ran {
	s.t.Helper()
	r := s.imgbake(template, nil, append([]string{"build", "--load=false"}, args...)...)
	if r.code != cli.ExitDone {
		s.t.Fatalf("exit code %d: %s", r.code, r.out)
	}
	return r
}

func (s *cacheSite) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

var tagPut = regexp.MustCompile(`^/v2/([^/]+)/manifests/(.*?)-web\.fake-linux-[a-z0-9]+-[0-9a-f]{16}$`)

// wrote are the caches that requests moved a tag of, or else every request that
// changed something.
func wrote(requests []registrytest.Request) (tags []string) {
	var all []string
	for _, r := range requests {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			continue
		}
		all = append(all, r.String())
		if m := tagPut.FindStringSubmatch(r.Path); m != nil {
			tags = append(tags, m[1]+":"+m[2])
		}
	}
	if tags == nil {
		return all
	}
	return tags
}

// The key alone lets a machine that has nothing start nothing, and explain say so.
func TestCacheKey(t *testing.T) {
	for name, key := range map[string]string{
		"short":      `cache: REGISTRY/cache`,
		"expression": `cache: "${var.cache}"`,
		"long":       `cache: { from: [REGISTRY/other, "${var.cache}"], to: "${var.cache}" }`,
		"buildx":     `cache: { from: "type=registry,ref=REGISTRY/cache", to: "type=registry,ref=REGISTRY/cache,mode=max" }`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newCacheSite(t)
			template := s.cached(key, "a")
			if r := s.build(template); r.started != 1 || !slices.Equal(r.wrote, []string{"cache:cache"}) {
				t.Errorf("first: %+v", r)
			}
			if r := s.build(template); r.started != 0 || r.wrote != nil {
				t.Errorf("again: %+v", r)
			}
			if r := s.imgbake(template, nil, "explain"); r.code != cli.ExitDone || r.started != 0 || r.wrote != nil || !strings.Contains(r.out, " 1  hit ") {
				t.Errorf("explain: %+v", r)
			}
		})
	}
}

// A flag stands for its half of the key, and what shall not be written is not.
func TestCacheKeyAndFlags(t *testing.T) {
	s := newCacheSite(t)
	const key = `cache: REGISTRY/cache`
	s.build(s.cached(key, "a"))
	for _, test := range []struct {
		name, step string
		args       []string
		started    int
		wrote      []string
	}{
		{"from elsewhere", "a", []string{"--cache-from", "REGISTRY/empty"}, 1, []string{"cache:cache"}},
		{"from nowhere", "a", []string{"--cache-from", ""}, 1, []string{"cache:cache"}},
		{"to elsewhere", "a", []string{"--cache-to", "REGISTRY/other:main,scope=x"}, 0, []string{"other:main-x"}},
		{"to nowhere", "b", []string{"--cache-to="}, 1, nil},
		{"dry run", "b", []string{"--dry-run"}, 1, nil},
		{"no cache", "a", []string{"--no-cache"}, 1, []string{"cache:cache"}},
		{"no cache, to nowhere", "a", []string{"--no-cache", "--cache-to", ""}, 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.build(s.cached(key, test.step), test.args...)
			if r.started != test.started || !slices.Equal(r.wrote, test.wrote) {
				t.Errorf("%d machines, want %d; wrote %q, want %q\n%s", r.started, test.started, r.wrote, test.wrote, r.out)
			}
		})
	}
}

// A key that cannot be used ends the command before anything is asked or told.
func TestCacheKeyRefused(t *testing.T) {
	s := newCacheSite(t)
	for key, want := range map[string]string{
		`cache: "REGISTRY/${var.token}"`:                             "it needs var.token",
		`cache: { from: type=gha, to: "REGISTRY/cache,mode=min" }`:   "2 errors",
		`cache: { to: "REGISTRY/cache,scope=${sha256(var.token)}" }`: "it needs var.token",
	} {
		for _, command := range []string{"build", "explain", "plan", "validate"} {
			r := s.imgbake(s.cached(key, "a"), nil, command)
			if r.code != cli.ExitTemplate || !strings.Contains(r.out, want) || !strings.Contains(r.out, "imgbake.yaml:2:") || strings.Contains(r.out, "canary") {
				t.Errorf("%s %s: %+v, want %q", command, key, r, want)
			}
		}
	}
	if got := s.Requests(); len(got) > 0 {
		t.Errorf("requests: %v", got)
	}
}

// What a run of the action may read and write follows from who could have
// written the template, whatever the template says.
func TestCacheKeyInTheAction(t *testing.T) {
	s := newCacheSite(t)
	const hostile = `cache: { from: ["REGISTRY/cache", "REGISTRY/cache,scope=pr-7"], to: "REGISTRY/cache,scope=trusted" }`
	const key = `cache: REGISTRY/cache`
	own, fork := pullRequest("acme/web"), pullRequest("stranger/web")
	for _, test := range []struct {
		name, key, step string
		env             map[string]string
		inputs          map[string]string
		started         int
		wrote           []string
	}{
		{"pull request", key, "a", own, nil, 1, []string{"cache:cache-pr-7"}},
		{"pull request, again", key, "a", own, nil, 0, nil},
		{"pull request that asks for the trusted scope", hostile, "b", own, nil, 1, []string{"cache:cache-pr-7-trusted"}},
		{"input that asks for it", "", "b", own, map[string]string{"INPUT_CACHE-TO": "REGISTRY/cache,scope=trusted"}, 1, []string{"cache:cache-pr-7-trusted"}},
		{"fork", key, "b", fork, nil, 1, nil},
		{"fork that asks for the trusted scope", hostile, "c", fork, nil, 1, nil},
		{"fork with an input", "", "c", fork, map[string]string{"INPUT_CACHE-TO": "REGISTRY/cache"}, 1, nil},
		{"release finds nothing of them", key, "a", tagPush, nil, 1, nil},
		{"nor where it names their scope", hostile, "b", tagPush, nil, 1, nil},
		{"main finds nothing of them", key, "a", mainPush, nil, 1, []string{"cache:cache-trusted"}},
		{"release finds what main wrote", key, "a", tagPush, nil, 0, nil},
		{"fork finds it too", key, "a", fork, nil, 0, nil},
		{"inputs stand for the key", key, "a", mainPush, map[string]string{"INPUT_CACHE-FROM": "REGISTRY/empty", "INPUT_CACHE-TO": "REGISTRY/other"}, 1, []string{"other:cache-trusted"}},
		{"no push", key, "d", mainPush, map[string]string{"INPUT_PUSH": "false"}, 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "acme/web", "INPUT_LOAD": "false", "INPUT_COMMENT": "false"}
			maps.Copy(env, test.env)
			maps.Copy(env, test.inputs)
			r := s.imgbake(s.cached(test.key, test.step), env, "action")
			if r.code != cli.ExitDone || r.started != test.started || !slices.Equal(r.wrote, test.wrote) {
				t.Errorf("exit code %d, %d machines, want %d; wrote %q, want %q\n%s", r.code, r.started, test.started, r.wrote, test.wrote, r.out)
			}
		})
	}
}

var (
	mainPush = map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "EVENT": `{"repository": {"full_name": "acme/web", "default_branch": "main"}}`}
	tagPush  = map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/tags/v1.2.3", "EVENT": mainPush["EVENT"]}
)

func pullRequest(from string) map[string]string {
	return map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_BASE_REF": "main", "EVENT": fmt.Sprintf(
		`{"action": "opened", "number": 7, "repository": {"full_name": "acme/web", "default_branch": "main"}, "pull_request": {"number": 7, "user": {"login": "octocat"},
		"head": {"ref": "topic", "repo": {"full_name": %q}}, "base": {"ref": "main", "repo": {"full_name": "acme/web"}}}}`, from)}
}

// catalog has a builder whose steps can be cached, and steps that it makes a
// layer of.
func (s *cacheSite) catalog(layers *store.Store, _ *registry.Client, _ func(string) string, _ func() time.Time, _ bake.Choice) bake.Catalog {
	return bake.Catalog{
		Builders: []bake.Kind[bake.Builder]{bake.Define(bake.Spec[struct{}, bake.Builder]{
			Name: "fake", Commit: bake.CommitCheap,
			New: func(struct{}) (bake.Builder, error) { return &fakeBuilder{site: s, store: layers}, nil },
		})},
		Provisioners: []bake.Kind[bake.Provisioner]{bake.Define(bake.Spec[fakeStep, bake.Provisioner]{
			Name: "step", Title: func(c fakeStep) string { return c.Do },
			New: func(c fakeStep) (bake.Provisioner, error) { return c, nil },
		})},
	}
}

type fakeStep struct {
	Do string `key:"do"`
}

// Provision leaves the work to Commit.
func (fakeStep) Provision(context.Context, bake.Env) error { return nil }

// fakeBuilder is a Resumer that starts from an empty image, and its own machine.
type fakeBuilder struct {
	site  *cacheSite
	store *store.Store
	job   bake.Job
	done  []bake.Checkpoint
}

func (b *fakeBuilder) Source(context.Context, bake.Job) (string, error) { return "empty", nil }

func (b *fakeBuilder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	return b.Resume(ctx, job, nil)
}

func (b *fakeBuilder) Resume(_ context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	b.site.started++
	b.job, b.done = job, done
	return b, nil
}

func (b *fakeBuilder) Image(_ context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	img, err := imageconfig.Extend(empty.Image, done, imageconfig.Edit{})
	if err != nil {
		return bake.Artifact{}, err
	}
	return imageconfig.Describe(img, empty.Image, job, v1.Platform{OS: "linux", Architecture: "amd64"}, done)
}

// Commit makes a layer with one file, the step's name.
func (b *fakeBuilder) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	w, err := b.store.NewLayer(ctx, bake.Gzip)
	if err != nil {
		return bake.Artifact{}, err
	}
	defer w.Abort()
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: info.CreatedBy, Mode: 0o644}); err != nil {
		return bake.Artifact{}, err
	}
	if err := out.Close(); err != nil {
		return bake.Artifact{}, err
	}
	layer, err := w.Commit()
	if err != nil {
		return bake.Artifact{}, err
	}
	b.done = append(b.done[:len(b.done):len(b.done)], bake.Checkpoint{LayerInfo: info, Layer: layer})
	return b.Image(ctx, b.job, b.done)
}

func (*fakeBuilder) Communicator() bake.Communicator { return nil }
func (*fakeBuilder) Facts() map[string]string        { return nil }
func (*fakeBuilder) Close() error                    { return nil }
func (*fakeBuilder) Detach() []string                { return nil }
