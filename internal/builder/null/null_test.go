package null_test

import (
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/builder/null"
)

func TestKind(t *testing.T) {
	baketest.Documented(t, null.Kind())
	baketest.Refuses(t, null.Kind(), map[string]any{"communicator": "ssh"})
}

func TestMakesNothing(t *testing.T) {
	b, err := null.Kind().New(baketest.Body(map[string]any{"communicator": "none"}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.Start(t.Context(), bake.Job{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.Commit(t.Context(), bake.LayerInfo{})
	if err != nil || a.Image != nil || a.Files != nil || a.Builder != "null" {
		t.Errorf("got %+v, %v", a, err)
	}
	if m.Communicator() != nil || m.Facts() != nil || m.Detach() != nil || m.Close() != nil {
		t.Error("there is something")
	}
}
