package stepcache_test

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/imageconfig"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/publish"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/stepcache"
	"github.com/imgbake/imgbake-action/internal/store"
	"github.com/imgbake/imgbake-action/internal/value"
)

// machine is one computer with a store of its own. What it bakes has real
// layers; only where steps run is made up: a step's layer has one file, its
// title, and its rest another.
type machine struct {
	t        *testing.T
	dir      string
	store    *store.Store
	client   *registry.Client
	cache    run.Cache
	from, to []string
	scope    value.Scope
	started  int // machines
	notes    *notes
}

type notes struct {
	mu   sync.Mutex
	said []string
}

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, text)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.said, "\n")
}

func newMachine(t *testing.T, from, to []string) *machine {
	return reopened(t, t.TempDir(), from, to)
}

// reopened is a machine, in a new process.
func reopened(t *testing.T, dir string, from, to []string) *machine {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, store: s, from: from, to: to, notes: &notes{}}
	m.client, err = registry.New(registry.Options{Retries: -1, Notify: m.notes.add})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.client.Close()
		s.Close()
	})
	local := stepcache.Local{Store: s, Template: "t.yaml", Notify: m.notes.add}
	m.cache = local
	if len(from)+len(to) > 0 {
		shared := stepcache.Shared{Local: local, Client: m.client, Life: t.Context()}
		for _, text := range from {
			shared.From = append(shared.From, m.ref(text))
		}
		for _, text := range to {
			ref := m.ref(text)
			shared.To = &ref
		}
		m.cache = shared
	}
	return m
}

func (m *machine) ref(text string) plan.CacheRef {
	m.t.Helper()
	ref, err := plan.ParseCacheRef(text)
	if err != nil {
		m.t.Fatal(err)
	}
	return ref
}

// base puts an image of two layers into a registry.
func base(t *testing.T, server *registrytest.Server) string {
	t.Helper()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(server.Host + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Push(t.Context(), tag.Repository, img, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Tag(t.Context(), img, registry.Target{Tag: tag}); err != nil {
		t.Fatal(err)
	}
	return tag.Name()
}

// bake bakes one image of the steps on a base, and publishes it.
func (m *machine) bake(base, to string, steps ...string) run.Result {
	m.t.Helper()
	return m.run(one("web.fake", base, to, steps...))[0]
}

func one(bakeName, base, to string, steps ...string) plan.Bake {
	image, builder, _ := strings.Cut(bakeName, ".")
	b := plan.Bake{
		Name: bakeName, Image: image, Builder: builder, Type: "fake", Layers: "step", Platform: "linux/amd64",
		Body: baketest.Body(map[string]any{"image": base}),
	}
	for _, s := range steps {
		b.Steps = append(b.Steps, plan.Step{Type: "step", Title: s, Cache: true, Body: baketest.Body(map[string]any{"do": s})})
	}
	if to != "" {
		repo, tag, _ := strings.Cut(to, "|")
		b.Publish = []plan.Target{{Repository: repo, Tags: []string{tag}}}
	}
	return b
}

func (m *machine) run(bakes ...plan.Bake) []run.Result {
	m.t.Helper()
	return run.Run(m.t.Context(), plan.Plan{Images: []plan.Image{{Bakes: bakes}}}, m.options())
}

func (m *machine) options() run.Options {
	return run.Options{
		RunID: "1", Redactor: &secret.Redactor{}, Sink: sink{m.notes}, Now: func() time.Time { return time.Unix(1, 0) },
		Publisher: publish.Registry{Client: m.client}, Cache: m.cache, OnError: run.OnErrorCleanup, Scope: m.scope,
		Catalog: bake.Catalog{
			Builders: []bake.Kind[bake.Builder]{bake.Define(bake.Spec[body, bake.Builder]{
				Name: "fake", Commit: bake.CommitCheap, New: func(c body) (bake.Builder, error) { return &builder{machine: m, image: c.Image}, nil },
			})},
			Provisioners: []bake.Kind[bake.Provisioner]{bake.Define(bake.Spec[body, bake.Provisioner]{
				Name: "step", New: func(c body) (bake.Provisioner, error) { return c, nil },
			})},
		},
	}
}

type sink struct{ *notes }

// Emit keeps what is said.
func (s sink) Emit(e bake.Event) {
	if e.Text != "" {
		s.add(e.Text)
	}
}

type body struct {
	Image string `key:"image"`
	Do    string `key:"do"`
}

// Provision leaves the work to Commit.
func (body) Provision(context.Context, bake.Env) error { return nil }

// builder is a Resumer whose machine makes files of what it is told to commit.
type builder struct {
	*machine
	image string
	base  v1.Image
	done  []bake.Checkpoint
	job   bake.Job
}

func (b *builder) Start(ctx context.Context, job bake.Job) (bake.Machine, error) {
	return b.Resume(ctx, job, nil)
}

func (b *builder) Source(ctx context.Context, job bake.Job) (string, error) {
	if job.From != nil {
		b.base = job.From.Image
	} else {
		ref, err := name.ParseReference(b.image)
		if err != nil {
			return "", err
		}
		sources := source.Sources{Store: b.store, Registry: b.client}
		if b.base, err = sources.Image(ctx, ref, job.Platform, registry.Auth{}, source.PullAlways); err != nil {
			return "", err
		}
	}
	config, err := b.base.ConfigFile()
	if err != nil {
		return "", err
	}
	return imageconfig.Identity(config.RootFS.DiffIDs, config.Config, config.Created.Time, job.Platform), nil
}

// Resume reads every layer, as a real machine does.
func (b *builder) Resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	b.started++
	b.job, b.done = job, done
	if _, err := (&source.Sources{Store: b.store, Registry: b.client}).Fetch(ctx, b.base); err != nil {
		return nil, err
	}
	below, err := b.base.Layers()
	if err != nil {
		return nil, err
	}
	for _, c := range done {
		below = append(below, c.Layer, c.Rest)
	}
	for _, l := range below {
		if l == nil {
			continue
		}
		rc, err := l.Compressed()
		if err != nil {
			return nil, err
		}
		defer rc.Close()
		buf := make([]byte, 1<<20)
		for err == nil {
			_, err = rc.Read(buf)
		}
		if err.Error() != "EOF" {
			return nil, err
		}
	}
	return b, nil
}

func (b *builder) Image(_ context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	img, err := imageconfig.Extend(b.base, done, imageconfig.Edit{})
	if err != nil {
		return bake.Artifact{}, err
	}
	return imageconfig.Describe(img, b.base, job, job.Platform, done)
}

func (b *builder) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	made := bake.Checkpoint{LayerInfo: info, Removed: []string{"/tmp"}}
	var err error
	if made.Layer, err = b.layer(ctx, info.CreatedBy); err != nil {
		return bake.Artifact{}, err
	}
	if made.Rest, err = b.layer(ctx, "rest of "+info.CreatedBy); err != nil {
		return bake.Artifact{}, err
	}
	b.done = append(b.done[:len(b.done):len(b.done)], made)
	return b.Image(ctx, b.job, b.done)
}

func (b *builder) layer(ctx context.Context, content string) (v1.Layer, error) {
	w, err := b.store.NewLayer(ctx, bake.Gzip)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	content = strings.Repeat(content+"\n", 100)
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	fmt.Fprint(out, content)
	if err := out.Close(); err != nil {
		return nil, err
	}
	return w.Commit()
}

func (*builder) Communicator() bake.Communicator { return nil }
func (*builder) Facts() map[string]string        { return nil }
func (*builder) Close() error                    { return nil }
func (*builder) Detach() []string                { return nil }

// ran tells which steps were run, and which were not.
func ran(res run.Result) string {
	var out []string
	for _, s := range res.Steps {
		word := s.Title
		if s.Cached {
			word = "(" + word + ")"
		}
		out = append(out, word)
	}
	if res.Err != nil {
		out = append(out, res.Err.Error())
	}
	return strings.Join(out, " ")
}

// damage changes a byte of every layer of the store that the images name from
// the step on.
func damage(t *testing.T, dir string, l v1.Layer, change func([]byte) []byte) {
	t.Helper()
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// late is an expression that reads one name.
type late string

func (l late) Source() string  { return "${" + string(l) + "}" }
func (l late) Needs() []string { return []string{string(l)} }
func (l late) Eval(s value.Scope) (value.Node, error) {
	return value.Of(diag.Pos{}, map[string]any{}), nil
}
