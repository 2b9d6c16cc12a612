package stepcache_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// reading is a bake of one step, whose file's readings are counted.
func reading(from, content string, count *int) plan.Bake {
	b := one("web.fake", from, "", "a")
	b.Steps[0].Inputs = []plan.Input{{Path: "f", Digest: plan.NewDigest(func() (string, error) {
		*count++
		if content == "" {
			return "", errors.New("f cannot be read")
		}
		return content, nil
	}, nil)}}
	return b
}

// sketches are the files of the store that say for which steps there are entries.
func sketches(t *testing.T, m *machine) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(m.dir, "cache", "sketch", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A file that cannot be read is no obstacle to a step that was never kept; one whose
// content is another is read once, and its step run.
func TestSketch(t *testing.T) {
	m := newMachine(t, nil, nil)
	from, count := base(t, registrytest.New(t)), 0
	for _, test := range []struct{ content, want string }{{"", "a"}, {"1", "a"}, {"1", "(a)"}, {"2", "a"}, {"1", "(a)"}, {"2", "(a)"}} {
		count = 0
		if res := m.run(reading(from, test.content, &count))[0]; ran(res) != test.want || count != 1 {
			t.Errorf("file %q: got %s, want %s; it was read %d times", test.content, ran(res), test.want, count)
		}
	}
	if got := sketches(t, m); len(got) != 1 {
		t.Errorf("%d sketches of one step", len(got))
	}
}

// What a registry had is known here from then on, with what is kept of it.
func TestSketchFromARegistry(t *testing.T) {
	server := registrytest.New(t)
	cache, from, count := []string{server.Host + "/cache"}, base(t, server), 0
	newMachine(t, nil, cache).run(reading(from, "1", &count))
	m := newMachine(t, cache, nil)
	if got := ran(m.run(reading(from, "1", &count))[0]); got != "(a)" || len(sketches(t, m)) != 1 {
		t.Errorf("got %s; %d sketches", got, len(sketches(t, m)))
	}
}

// Entries of versions that kept no sketches are found, those of the last bake.
func TestEntriesWithoutSketches(t *testing.T) {
	m := newMachine(t, nil, nil)
	from, count := base(t, registrytest.New(t)), 0
	m.run(reading(from, "1", &count))
	if err := os.RemoveAll(filepath.Join(m.dir, "cache", "sketch")); err != nil {
		t.Fatal(err)
	}
	if got := ran(m.run(reading(from, "1", &count))[0]); got != "(a)" || len(sketches(t, m)) != 1 {
		t.Errorf("got %s; %d sketches", got, len(sketches(t, m)))
	}
}

// A sketch is not pruned before its entry, and goes when it was not used for long.
func TestSketchIsPruned(t *testing.T) {
	m := newMachine(t, nil, nil)
	from, count := base(t, registrytest.New(t)), 0
	m.run(reading(from, "1", &count))
	old := time.Now().Add(-48 * time.Hour)
	for _, file := range files(t, m.dir) {
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if got := ran(m.run(reading(from, "1", &count))[0]); got != "(a)" {
		t.Fatalf("got %s", got)
	}
	entries, err := filepath.Glob(filepath.Join(m.dir, "cache", "step", "*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	entry, err := os.Stat(entries[0])
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(sketches(t, m)[0]); err != nil || info.ModTime().Before(entry.ModTime()) {
		t.Errorf("the sketch is older than its entry: %v, %v", info.ModTime(), err)
	}
	if _, err := m.store.Prune(0, 24*time.Hour); err != nil || len(sketches(t, m)) != 1 {
		t.Errorf("%d sketches are left, %v", len(sketches(t, m)), err)
	}
	if _, err := m.store.Prune(0, time.Nanosecond); err != nil || len(sketches(t, m)) != 0 {
		t.Errorf("%d sketches are left of an empty store, %v", len(sketches(t, m)), err)
	}
}
