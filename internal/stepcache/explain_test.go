package stepcache_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/stepcache"
)

// told is an explanation as one text.
func told(explained []run.Explanation) string {
	var lines []string
	for _, e := range explained {
		lines = append(lines, strings.TrimSpace(e.Bake+" "+e.Why))
		for _, s := range e.Steps {
			line := fmt.Sprintf("%s %v %s", s.Title, s.Hit, s.Why)
			for _, c := range s.Changed {
				line += fmt.Sprintf("%s: %s -> %s", c.Input, c.Before, c.Now)
			}
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func (m *machine) explain(bakes ...plan.Bake) string {
	local := stepcache.Local{Store: m.store, Template: "t.yaml", Notify: m.notes.add, ReadOnly: true}
	o := m.options()
	o.Cache = local
	if shared, ok := m.cache.(stepcache.Shared); ok {
		shared.Local, shared.To = local, nil
		o.Cache = shared
	}
	return told(run.Explain(m.t.Context(), plan.Plan{Images: []plan.Image{{Bakes: bakes}}}, o, local.Last))
}

func digest(text string) *plan.Digest {
	return plan.NewDigest(func() (string, error) { return text, nil }, nil)
}

func TestExplain(t *testing.T) {
	child := func(b plan.Bake) plan.Bake {
		b.From = "web.fake"
		return b
	}
	tests := map[string]struct {
		change func(b, c *plan.Bake)
		want   string
	}{
		"nothing changed": {func(_, _ *plan.Bake) {}, "web.fake\na true\nb true\nsub.fake\nc true"},
		"a file": {func(b, _ *plan.Bake) { b.Steps[1].Inputs = []plan.Input{{Path: "f", Digest: digest("2")}} },
			"web.fake\na true\nb false file f: 1 -> 2\nsub.fake its base, web.fake, will be baked anew"},
		"a key of the stage above": {func(_, c *plan.Bake) { c.Steps[0].Common.CacheKey = "monday" },
			"web.fake\na true\nb true\nsub.fake\nc false cache_key:  -> monday"},
		"a file is no more read": {func(b, _ *plan.Bake) { b.Steps[1].Inputs = nil },
			"web.fake\na true\nb false file f: 1 ->\nsub.fake its base, web.fake, will be baked anew"},
		"a step is added": {func(_, c *plan.Bake) { c.Steps = append(c.Steps, c.Steps[0]) },
			"web.fake\na true\nb true\nsub.fake\nc true\nc false it is new"},
		"one layer": {func(b, _ *plan.Bake) { b.Steps[0].Common.CacheKey = "monday" },
			"web.fake\na false cache_key:  -> monday\nb false step 1 is run\nsub.fake its base, web.fake, will be baked anew"},
		"a step is never cached": {func(_, c *plan.Bake) { c.Steps[0].Cache = false },
			"web.fake\na true\nb true\nsub.fake\nc false it is run every time"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			server := registrytest.New(t)
			m := newMachine(t, nil, nil)
			b, c := one("web.fake", base(t, server), "", "a", "b"), child(one("sub.fake", "", "", "c"))
			b.Steps[1].Inputs = []plan.Input{{Path: "f", Digest: digest("1")}}
			if title == "one layer" {
				b.Layers = "squash"
			}
			if res := m.run(b, c); res[1].Err != nil || res[0].Err != nil {
				t.Fatal(res)
			}
			machines, before := m.started, files(t, m.dir)
			test.change(&b, &c)
			got := strings.ReplaceAll(m.explain(b, c), " \n", "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, files(t, m.dir)); diff != "" || m.started != machines {
				t.Errorf("it left something:\n%s", diff)
			}
		})
	}
}

// Entries that are gone are said to be, and those of a registry count.
func TestExplainWithoutEntries(t *testing.T) {
	server := registrytest.New(t)
	cache := []string{server.Host + "/cache"}
	b := one("web.fake", base(t, server), "", "a", "b")
	m := newMachine(t, nil, cache)
	m.run(b)
	other := newMachine(t, cache, nil)
	if got := other.explain(b); got != "web.fake\na true\nb true" {
		t.Errorf("got %s", got)
	}
	if got := newMachine(t, nil, nil).explain(b); got != "web.fake\na false no earlier bake is known here\nb false step 1 is run" {
		t.Errorf("got %s", got)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, "cache", "step")); err != nil {
		t.Fatal(err)
	}
	if got := m.explain(b); got != "web.fake\na false what it made is not in the cache any more\nb false step 1 is run" {
		t.Errorf("got %s", got)
	}
}

// files lists a folder's files.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
