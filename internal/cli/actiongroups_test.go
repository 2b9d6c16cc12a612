package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/bake"
)

// TestGroups: bakes that run at once do not mix, and what they print is no command.
func TestGroups(t *testing.T) {
	var out bytes.Buffer
	g := newGroups(actions.NewLog(&out))
	print := func(bakeName, text string) {
		g.Emit(bake.Event{Type: bake.Output, Bake: bakeName, Step: 1, Stream: "stdout", Text: text})
	}
	g.Emit(bake.Event{Type: bake.BakeStarted, Bake: "a"})
	g.Emit(bake.Event{Type: bake.BakeStarted, Bake: "b"})
	print("a", "a one")
	print("b", "::error::forged")
	if text := out.String(); !strings.Contains(text, "a one") || strings.Contains(text, "forged") {
		t.Errorf("the first bake is shown as it goes, the second waits:\n%s", text)
	}
	print("b", "##[add-mask]x")
	print("a", "a two")
	g.Emit(bake.Event{Type: bake.BakeFinished, Bake: "a"})
	g.Emit(bake.Event{Type: bake.BakeSkipped, Bake: "c", Text: "b failed"})
	g.Emit(bake.Event{Type: bake.BakeFinished, Bake: "b"})
	g.Emit(bake.Event{Type: bake.RunFinished, Seconds: 2})
	g.close()

	last := -1
	for _, want := range []string{"::group::a\n", "a one", "a two", "::endgroup::\n::group::b\n", "forged", "add-mask", "::endgroup::\n::group::c\n", "b failed", "::endgroup::\n", "2 baked, 1 skipped in 2.0s"} {
		at := strings.Index(out.String()[last+1:], want)
		if at < 0 {
			t.Fatalf("no %q behind byte %d:\n%s", want, last, out.String())
		}
		last += 1 + at
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(strings.TrimSpace(line), "::error") || strings.Contains(line, "##[") {
			t.Errorf("a command was forged: %q", line)
		}
	}
}
