package sink

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
)

func plain(o PlainOptions, events ...bake.Event) string {
	var b bytes.Buffer
	play(NewPlain(&b, o), events)
	return b.String()
}

func TestPlain(t *testing.T) {
	want := `==> imgbake.yaml
==> base.docker: baking in 2 steps
==> base.docker: step 1/2 shell: apt-get update
==> base.docker: step 1/2 shell: apt-get update: from the cache
==> base.docker: step 2/2 shell: scripts/harden.sh
    base.docker: a, red	line
==> base.docker: warning: no created time
--> base.docker: docker linux/amd64 ` + digest + ` (31.2 MB) as localhost:5000/base:1.0, localhost:5000/base:latest
--> base.docker: manifest in /out/manifest.json
--> base.docker: published localhost:5000/base@` + digest + `
==> base.docker: finished after 4.0s
==> web.docker: baking in 1 step
==> web.docker: container 0123 started
==> web.docker: step 1/1 shell: make
    web.docker: ::error::make: *** Error 2
==> web.docker: step 1/1 shell: make failed after 2.0s: make: exit status 2
==> web.docker: imgbake.yaml:31:9
==> web.docker: cleanup: container 0123: in use
==> web.docker: left running: docker rm -f 0123
==> web.docker: failed after 2.5s
==> edge.docker: skipped: web.docker failed
==> 1 baked, 1 failed, 1 skipped in 1m07s
--> base.docker: docker linux/amd64 ` + digest + ` (31.2 MB) as localhost:5000/base:1.0, localhost:5000/base:latest
--> base.docker: manifest in /out/manifest.json
==> web.docker: step 1 (shell): make: exit status 2
`
	if diff := cmp.Diff(want, plain(PlainOptions{}, sample()...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestPlainTimestampsAndColor(t *testing.T) {
	events := []bake.Event{
		{Time: at(0), Type: bake.BakeStarted, Bake: "a", Steps: 0},
		{Time: at(1), Type: bake.Output, Bake: "b", Text: "out"},
		{Time: at(2), Type: bake.BakeFinished, Bake: "a", Error: "gone"},
		{Time: at(2), Type: bake.Note, Text: "bye"},
	}
	want := "2026-03-04T05:06:07Z: ==> a: baking\n" +
		"2026-03-04T05:06:08Z:     b: out\n" +
		"2026-03-04T05:06:09Z: ==> a: failed after 2.0s: gone\n" +
		"2026-03-04T05:06:09Z: ==> bye\n"
	if diff := cmp.Diff(want, plain(PlainOptions{Timestamps: true}, events...)); diff != "" {
		t.Errorf("timestamps (-want +got)\n%s", diff)
	}
	want = "\x1b[1;32m==> a: baking\x1b[0m\n\x1b[36m    b: out\x1b[0m\n\x1b[1;31m==> a: failed after 2.0s: gone\x1b[0m\n==> bye\n"
	if diff := cmp.Diff(want, plain(PlainOptions{Color: true}, events...)); diff != "" {
		t.Errorf("colour (-want +got)\n%s", diff)
	}
}

func TestPlainUnderActionsSaysNoCommand(t *testing.T) {
	evil := []string{"::error::x", " ::add-path::/evil", "##[error]x", "a\n::set-env name=A::b", "\x1b[0m::warning::x", "\r::debug::x"}
	var events []bake.Event
	for _, text := range evil {
		for _, name := range []string{"", "web", "::add-mask::x", "##[group]"} {
			for _, typ := range []bake.EventType{bake.Output, bake.Note, bake.Warned, bake.BakeSkipped, bake.RunStarted} {
				events = append(events, bake.Event{Time: at(0), Type: typ, Bake: name, Text: text, Title: text})
			}
			events = append(events, bake.Event{Time: at(0), Type: bake.StepFinished, Bake: name, Error: text})
		}
	}
	for line := range strings.Lines(plain(PlainOptions{Actions: true}, events...)) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") {
			t.Errorf("the runner would obey %q", line)
		}
	}
}

func TestSizesAndSpans(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 31234567: "31.2 MB", 99_950_000: "100 MB",
		999_600_000: "1.0 GB", 123_000_000_000: "123 GB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
	for seconds, want := range map[float64]string{
		0: "0.0s", 12.44: "12.4s", 59.94: "59.9s", 59.96: "1m00s", 64: "1m04s", 3599.6: "1h00m", 7380: "2h03m",
	} {
		if got := span(seconds); got != want {
			t.Errorf("span(%v) = %q, want %q", seconds, got, want)
		}
	}
}
