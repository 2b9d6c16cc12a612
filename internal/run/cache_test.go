package run_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/value"
)

// memory is a cache of one test.
type memory struct {
	mu       sync.Mutex
	kept     map[string]bake.Checkpoint
	sketches map[string]bool
	closed   []run.Key // what Close was given last
}

func (m *memory) Open(context.Context, plan.Bake) run.BakeCache { return m }
func (m *memory) Check(context.Context) error                   { return nil }

func (m *memory) Close(_ context.Context, keys []run.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = keys
}

func (m *memory) Knows(_ context.Context, sketch string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sketches[sketch]
}

func (m *memory) Find(_ context.Context, key run.Key) (bake.Checkpoint, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.kept[key.ID]
	return c, ok
}

func (m *memory) Keep(_ context.Context, key run.Key, made bake.Checkpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[key.ID], m.sketches[key.Sketch] = made, true
}

// cached makes every step of a bake one that may be cached.
func cached(b plan.Bake) plan.Bake {
	b.Type = "resumer"
	for i := range b.Steps {
		b.Steps[i].Cache = true
		b.Steps[i].Common.Env = secretEnv(10)
	}
	return b
}

// secretEnv is an environment with an expression that is left to the run.
func secretEnv(line int) value.Node {
	return value.Node{V: value.Object{{Key: "TOKEN", Node: value.Node{Pos: diag.Pos{File: "t.yaml", Line: line}, V: late("var.token")}}}}
}

// resumer is the fake builder with a source, and images of checkpoints.
type resumer struct {
	bake.Builder
	source string
}

func (r resumer) Source(context.Context, bake.Job) (string, error) { return r.source, nil }

func (r resumer) Resume(ctx context.Context, job bake.Job, done []bake.Checkpoint) (bake.Machine, error) {
	m, err := r.Start(ctx, job)
	return &resumed{m, done}, err
}

func (r resumer) Image(_ context.Context, job bake.Job, done []bake.Checkpoint) (bake.Artifact, error) {
	var layers []v1.Layer
	for _, c := range done {
		layers = append(layers, c.Layer)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return bake.Artifact{}, err
	}
	digest, err := img.Digest()
	return bake.Artifact{Builder: job.Type, Image: img, Digest: digest, Steps: done}, err
}

type resumed struct {
	bake.Machine
	done []bake.Checkpoint
}

// Commit makes a checkpoint of the fake's newest layer.
func (m *resumed) Commit(ctx context.Context, info bake.LayerInfo) (bake.Artifact, error) {
	a, err := m.Machine.Commit(ctx, info)
	if err != nil {
		return a, err
	}
	layers, err := a.Image.Layers()
	if err != nil {
		return a, err
	}
	m.done = append(m.done[:len(m.done):len(m.done)], bake.Checkpoint{LayerInfo: info, Layer: layers[len(layers)-1]})
	return resumer{}.Image(ctx, bake.Job{}, m.done)
}

func cacheWorld(t *testing.T) *world {
	w := newWorld(t)
	w.Cache = &memory{kept: map[string]bake.Checkpoint{}, sketches: map[string]bool{}}
	w.Scope = value.Scope{}.With(map[string]value.Entry{"var.token": value.Known("hush")})
	w.Catalog.Builders = append(w.Catalog.Builders, bake.Define(bake.Spec[body, bake.Builder]{
		Name: "resumer", New: func(body) (bake.Builder, error) { return resumer{w.builder, "sha256:base"}, nil },
	}))
	return w
}

// ran tells which steps were run, and which were taken from the cache.
func ran(res run.Result) string {
	var out []string
	for _, s := range res.Steps {
		word := s.Title
		if s.Cached {
			word = "(" + word + ")"
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

func TestCache(t *testing.T) {
	tests := map[string]struct {
		change func(*plan.Bake)
		option func(*run.Options)
		want   string
	}{
		"nothing changed":       {want: "(a) (b) (c)"},
		"the last step changed": {change: func(b *plan.Bake) { b.Steps[2].Common.CacheKey = "x" }, want: "(a) (b) c"},
		"the first step's file": {change: func(b *plan.Bake) {
			b.Steps[0].Inputs = []plan.Input{{Path: "f", Digest: (&file{content: "sha256:1"}).digest()}}
		}, want: "a b c"},
		"a step is never taken": {change: func(b *plan.Bake) { b.Steps[1].Cache = false }, want: "(a) b c"},
		"a step is added":       {change: func(b *plan.Bake) { b.Steps = append(b.Steps, b.Steps[0]) }, want: "(a) (b) (c) a"},
		"a step is removed":     {change: func(b *plan.Bake) { b.Steps = b.Steps[:2] }, want: "(a) (b)"},
		"other noise is kept":   {change: func(b *plan.Bake) { b.Keep = []string{"tmp/x"} }, want: "a b c"},
		"another compression":   {change: func(b *plan.Bake) { b.Compression = bake.Zstd }, want: "a b c"},
		"one layer":             {change: func(b *plan.Bake) { b.Layers = "squash" }, want: "a b c"},
		"no cache":              {option: func(o *run.Options) { o.NoCache = true }, want: "a b c"},
		"no cache from a title": {option: func(o *run.Options) { o.NoCacheFrom = "b" }, want: "(a) b c"},
		"no cache from a place": {option: func(o *run.Options) { o.NoCacheFrom = "3" }, want: "(a) (b) c"},
		"it moved to another line": {change: func(b *plan.Bake) {
			for i := range b.Steps {
				b.Steps[i].Pos.Line += 3
				b.Steps[i].Common.Env = secretEnv(99)
			}
		}, want: "(a) (b) (c)"},
		"the time is given": {change: func(b *plan.Bake) { now := newWorld(t).Now(); b.Epoch = &now }, want: "a b c"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := cacheWorld(t)
			first := w.one(t, cached(baked("web.x", "a", "b", "c")))
			if got := ran(first); got != "a b c" || first.Err != nil {
				t.Fatalf("the first run: %s, %v", got, first.Err)
			}
			b := cached(baked("web.x", "a", "b", "c"))
			if test.change != nil {
				test.change(&b)
			}
			if test.option != nil {
				test.option(&w.Options)
			}
			second := w.one(t, b)
			if diff := cmp.Diff(test.want, ran(second)); diff != "" || second.Err != nil {
				t.Errorf("%v\n%s", second.Err, diff)
			}
		})
	}
}

// file is a host file whose readings are counted.
type file struct {
	content string
	err     error
	changed error // what was read of it afterwards was another one
	read    int
}

func (f *file) digest() *plan.Digest {
	return plan.NewDigest(func() (string, error) {
		f.read++
		return f.content, f.err
	}, func() error { return f.changed })
}

// withFiles has each step read a file.
func withFiles(b plan.Bake, files ...*file) plan.Bake {
	for i, f := range files {
		b.Steps[i].Inputs = []plan.Input{{Path: fmt.Sprint("f", i), Digest: f.digest()}}
	}
	return b
}

// Files are read for a key once a step is done, and before it only where the cache
// may have it; what they hold decides then.
func TestFilesAreReadLate(t *testing.T) {
	w := cacheWorld(t)
	one, two := &file{content: "1"}, &file{content: "2"}
	var early []int
	for _, name := range []string{"a", "b"} {
		w.steps[name] = func(ctx context.Context, env bake.Env) error {
			early = append(early, one.read, two.read)
			_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: []string{name}})
			return err
		}
	}
	bakes := func(want string, wantEarly ...int) {
		t.Helper()
		one.read, two.read, early = 0, 0, nil
		res := w.one(t, withFiles(cached(baked("web.x", "a", "b")), one, two))
		if got := ran(res); got != want || res.Err != nil || !slices.Equal(early, wantEarly) || one.read != 1 || two.read != 1 {
			t.Errorf("got %s, %v, want %s; read before %v, want %v; in all %d, %d", got, res.Err, want, early, wantEarly, one.read, two.read)
		}
	}
	bakes("a b", 0, 0, 1, 0)
	bakes("(a) (b)")
	two.content = "x"
	bakes("(a) b", 1, 1)
	one.content = "x"
	bakes("a b", 1, 0, 1, 0)
	w.NoCache = true
	bakes("a b", 0, 0, 1, 0)
	w.NoCache, w.NoCacheFrom = false, "b"
	bakes("(a) b", 1, 0)
}

// What the key of a squashed bake takes is read where all of it may be there.
func TestFilesOfOneLayer(t *testing.T) {
	w := cacheWorld(t)
	one, two := &file{content: "1"}, &file{content: "2"}
	early := -1
	w.steps["a"] = func(ctx context.Context, env bake.Env) error {
		early = one.read + two.read
		_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: []string{"a"}})
		return err
	}
	for _, test := range []struct {
		change string
		want   string
		early  int
	}{{"1", "a b", 0}, {"1", "(a) (b)", -1}, {"x", "a b", 2}} {
		one.content, one.read, two.read, early = test.change, 0, 0, -1
		b := withFiles(cached(baked("web.x", "a", "b")), one, two)
		b.Layers = "squash"
		if got := ran(w.one(t, b)); got != test.want || early != test.early {
			t.Errorf("got %s, want %s; read before %d, want %d", got, test.want, early, test.early)
		}
	}
}

// A step whose file cannot be told any more is baked, and not kept, nor is what
// follows it. The user is told once.
func TestFileThatChanged(t *testing.T) {
	w := cacheWorld(t)
	good, bad := &file{content: "1"}, &file{err: errors.New("f1 changed while it was baked")}
	b := withFiles(cached(baked("web.x", "a", "b", "c")), good, bad)
	if res := w.one(t, b); ran(res) != "a b c" || res.Err != nil {
		t.Fatalf("%s, %v", ran(res), res.Err)
	}
	if got := w.sink.Texts(bake.Warned); !slices.Equal(got, []string{"f1 changed while it was baked: step 2 and those after it are not kept in the cache"}) {
		t.Errorf("warned %q", got)
	}
	if m := w.Cache.(*memory); len(m.kept) != 1 || len(m.closed) != 0 {
		t.Errorf("kept %d, and %d keys remembered", len(m.kept), len(m.closed))
	}
	bad.err, bad.content = nil, "2"
	if got := ran(w.one(t, withFiles(cached(baked("web.x", "a", "b", "c")), good, bad))); got != "(a) b c" {
		t.Errorf("afterwards %s", got)
	}
	if m := w.Cache.(*memory); len(m.closed) != 3 {
		t.Errorf("%d keys remembered", len(m.closed))
	}
}

// So it is where a step reads something else than its key is made of, which is there
// already; what an earlier step has read, which is kept, may change then.
func TestFileThatChangesAfterItsDigest(t *testing.T) {
	for name, c := range map[string]struct {
		file   int // the one that changes while step b runs
		layers string
		want   string
		kept   int
	}{
		"one that is read":       {1, "step", "step 2 and those after it are not kept in the cache", 1},
		"one that is kept":       {0, "step", "", 3},
		"one to be read":         {2, "step", "step 3 is not kept in the cache", 2},
		"any, for a whole layer": {0, "squash", "step 3 is not kept in the cache", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := cacheWorld(t)
			files := []*file{{content: "1"}, {content: "2"}, {content: "3"}}
			for _, f := range files {
				_, _ = f.digest().Get()
			}
			w.steps["b"] = func(ctx context.Context, env bake.Env) error {
				files[c.file].changed = errors.New("f changed while it was baked")
				_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: []string{"b"}})
				return err
			}
			b := withFiles(cached(baked("web.x", "a", "b", "c")), files...)
			b.Layers = c.layers
			if res := w.one(t, b); ran(res) != "a b c" || res.Err != nil {
				t.Fatalf("%s, %v", ran(res), res.Err)
			}
			var want []string
			if c.want != "" {
				want = []string{"f changed while it was baked: " + c.want}
			}
			if got := w.sink.Texts(bake.Warned); !slices.Equal(got, want) {
				t.Errorf("warned %q", got)
			}
			if m := w.Cache.(*memory); len(m.kept) != c.kept || (len(m.closed) == 0) != (c.want != "") {
				t.Errorf("kept %d, and %d keys remembered", len(m.kept), len(m.closed))
			}
			for _, f := range files {
				if f.read > 2 {
					t.Errorf("read %d times", f.read)
				}
			}
		})
	}
}

// A step that fails has its file read by nobody else.
func TestFilesOfAFailure(t *testing.T) {
	w := cacheWorld(t)
	one, two := &file{content: "1"}, &file{content: "2"}
	w.steps["b"] = func(context.Context, bake.Env) error { return errors.New("no") }
	if res := w.one(t, withFiles(cached(baked("web.x", "a", "b")), one, two)); res.Err == nil || one.read != 1 || two.read != 0 {
		t.Errorf("%v; read %d, %d", res.Err, one.read, two.read)
	}
}

// A hit at every possible step gives the image of a full run, and all hits need
// no machine.
func TestCacheGivesTheSameImage(t *testing.T) {
	w := cacheWorld(t)
	full := w.one(t, cached(baked("web.x", "a", "b", "c")))
	machines := len(w.builder.Machines())
	for _, from := range []string{"1", "2", "3", ""} {
		w.NoCacheFrom = from
		again := w.one(t, cached(baked("web.x", "a", "b", "c")))
		if again.Err != nil || again.Artifacts[0].Digest != full.Artifacts[0].Digest {
			t.Errorf("from step %q: got %v, %v", from, again.Artifacts, again.Err)
		}
	}
	if got := len(w.builder.Machines()) - machines; got != 3 {
		t.Errorf("%d machines were started, want 3", got)
	}
}

// Squashed bakes are taken as a whole or not at all.
func TestCacheOfOneLayer(t *testing.T) {
	w := cacheWorld(t)
	squashed := func(steps ...string) plan.Bake {
		b := cached(baked("web.x", steps...))
		b.Layers = "squash"
		return b
	}
	for _, test := range []struct {
		steps []string
		want  string
	}{{[]string{"a", "b"}, "a b"}, {[]string{"a", "b"}, "(a) (b)"}, {[]string{"a", "b", "c"}, "a b c"}, {[]string{"a"}, "a"}} {
		if got := ran(w.one(t, squashed(test.steps...))); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// A step that fails leaves what those before it did.
func TestCacheAfterAFailure(t *testing.T) {
	w := cacheWorld(t)
	w.steps["b"] = func(context.Context, bake.Env) error { return &bake.ExitError{Command: "b", Status: 1} }
	if res := w.one(t, cached(baked("web.x", "a", "b"))); res.Err == nil {
		t.Fatal("the first run: no error")
	}
	delete(w.steps, "b")
	if got := ran(w.one(t, cached(baked("web.x", "a", "b")))); got != "(a) b" {
		t.Errorf("got %s", got)
	}
}

// A builder is told that only files are to be put, of the steps that are left to
// do: it may then do without a machine that runs commands.
func TestFilesOnly(t *testing.T) {
	of := func(kind, title string) plan.Step {
		return plan.Step{Type: kind, Title: title, Body: baketest.Body(map[string]any{"do": title})}
	}
	put := func(title string) plan.Step { return of("put", title) }
	mounted, kept := put("a"), of("step", "done")
	mounted.Common.Mounts = []plan.StepMount{{Type: bake.MountTmpfs, Target: "/t"}}
	kept.Cache = true
	for name, c := range map[string]struct {
		steps []plan.Step
		debug bool
		want  bool
	}{
		"files":                     {steps: []plan.Step{put("a"), put("b")}, want: true},
		"no step":                   {want: true},
		"a command":                 {steps: []plan.Step{put("a"), of("step", "b")}},
		"a command, done before":    {steps: []plan.Step{kept, put("a")}, want: true},
		"a mount":                   {steps: []plan.Step{mounted}},
		"someone wants to look":     {steps: []plan.Step{put("a")}, debug: true},
		"a type that nobody knows?": {steps: []plan.Step{of("what", "a")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := cacheWorld(t)
			w.Catalog.Provisioners = append(w.Catalog.Provisioners, bake.Define(bake.Spec[body, bake.Provisioner]{
				Name: "put", Files: true, New: func(b body) (bake.Provisioner, error) { return step{w, b}, nil },
			}))
			if len(c.steps) > 0 && c.steps[0].Cache {
				w.one(t, plan.Bake{Name: "web.fake", Type: "resumer", Layers: "step", Steps: c.steps[:1]})
			}
			w.Debug = c.debug
			var got []bool
			w.builder.OnStart = func(_ context.Context, job bake.Job) error {
				got = append(got, job.Files)
				return nil
			}
			w.one(t, plan.Bake{Name: "web.fake", Type: "resumer", Layers: "step", Steps: c.steps})
			if len(got) != 1 && len(c.steps) > 0 || len(got) > 0 && got[0] != c.want {
				t.Errorf("told %v, want %t", got, c.want)
			}
		})
	}
}

// A step that takes more than this machine allows after all is no failure yet: the
// bake is done again by a builder that is not told that only files are put.
func TestFilesOnlyAfterAll(t *testing.T) {
	for _, stays := range []bool{false, true} {
		w := cacheWorld(t)
		w.Catalog.Provisioners = append(w.Catalog.Provisioners, bake.Define(bake.Spec[body, bake.Provisioner]{
			Name: "put", Files: true, New: func(b body) (bake.Provisioner, error) { return step{w, b}, nil },
		}))
		var told []bool
		w.builder.OnStart = func(_ context.Context, job bake.Job) error {
			told = append(told, job.Files)
			return nil
		}
		w.steps["odd"] = func(ctx context.Context, env bake.Env) error {
			if told[len(told)-1] || stays {
				return fmt.Errorf("copying: %w", bake.ErrUnavailable)
			}
			_, err := env.Communicator.Exec(ctx, bake.Cmd{Args: []string{"odd"}})
			return err
		}
		res := w.one(t, plan.Bake{Name: "web.fake", Type: "resumer", Layers: "step", Steps: []plan.Step{
			{Type: "put", Title: "odd", Body: baketest.Body(map[string]any{"do": "odd"})},
		}})
		if errors.Is(res.Err, bake.ErrUnavailable) != stays || !slices.Equal(told, []bool{true, false}) {
			t.Errorf("stays %t: told %v, %v", stays, told, res.Err)
		}
	}
}
