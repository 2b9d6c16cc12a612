package file_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/builder/file"
)

func TestKind(t *testing.T) {
	baketest.Documented(t, file.Kind())
	for _, bad := range []map[string]any{{}, {"content": "x"}, {"source": "a", "content": "b", "target": "c"}} {
		baketest.Refuses(t, file.Kind(), bad)
	}
	inputs := file.Kind().Inputs(baketest.Body(map[string]any{"source": "a", "target": "b"}))
	if len(inputs) != 1 || inputs[0].Path != "a" || inputs[0].Pos.IsZero() {
		t.Errorf("inputs %v", inputs)
	}
}

func builder(t *testing.T, body map[string]any) bake.Builder {
	t.Helper()
	b, err := file.Kind().New(baketest.Body(body))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBake(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "source.txt"), []byte("copied"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, body := range map[string]map[string]any{
		"written": {"content": "written", "target": "out/x.txt"},
		"copied":  {"source": "source.txt", "target": "out/x.txt"},
		"":        {"target": "out/x.txt"},
	} {
		m, err := builder(t, body).Start(t.Context(), bake.Job{Dir: dir})
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		a, err := m.Commit(t.Context(), bake.LayerInfo{})
		if err := errors.Join(err, m.Close()); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		path := filepath.Join(dir, "out", "x.txt")
		if len(a.Files) != 1 || a.Files[0] != path || a.Size != int64(len(want)) {
			t.Errorf("%s: made %+v", want, a)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if m.Communicator() != nil {
			t.Error("there is a communicator")
		}
	}
}

// A start that fails leaves what was there, and nothing else.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "x.txt")
	if err := os.WriteFile(target, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		body map[string]any
	}{
		"cancelled":      {cancelled, map[string]any{"content": "x", "target": "x.txt"}},
		"no such source": {t.Context(), map[string]any{"source": "nothing", "target": "x.txt"}},
		"outside":        {t.Context(), map[string]any{"source": "../../etc/passwd", "target": "x.txt"}},
		"link outside":   {t.Context(), map[string]any{"source": "link", "target": "x.txt"}},
	} {
		if _, err := builder(t, c.body).Start(c.ctx, bake.Job{Dir: dir}); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if got, _ := os.ReadFile(target); string(got) != "before" {
			t.Errorf("%s: the file is now %q", name, got)
		}
		if left, _ := os.ReadDir(dir); len(left) != 2 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}
