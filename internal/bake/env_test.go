package bake_test

import (
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

func TestFilePath(t *testing.T) {
	env := bake.Env{HostDir: "/work/repo"}
	for in, want := range map[string]string{
		"a.sh": "a.sh", "./a/../b": "b", ".": ".", "": ".", "dir/": "dir", "/work/repo/x": "x", "/work/repo": ".",
		"..": "error", "../x": "error", "a/../../x": "error", "/etc/passwd": "error", "/work/repository/x": "error",
	} {
		got, err := env.FilePath(in)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", in, got, err, want)
		}
	}
}

func TestNotes(t *testing.T) {
	bake.Env{}.Note("no sink: %d", 1)
	sink := &baketest.Sink{}
	env := bake.Env{Sink: sink, Job: bake.Job{Name: "web.docker"}}
	env.Note("a %s\n\x1b[31mred", "note")
	env.Warn("a warning")
	events := sink.Events()
	if len(events) != 2 || events[0].Type != bake.Note || events[0].Text != "a note  [31mred" || events[1].Type != bake.Warned || events[0].Bake != "web.docker" {
		t.Errorf("got %+v", events)
	}
}

func TestFileTime(t *testing.T) {
	epoch := time.Unix(1_700_000_000, 0)
	if got := (bake.Job{}).FileTime(); got.Unix() != 0 {
		t.Errorf("got %s", got)
	}
	if got := (bake.Job{Epoch: &epoch}).FileTime(); !got.Equal(epoch) {
		t.Errorf("got %s", got)
	}
}

func TestOneLine(t *testing.T) {
	for _, test := range []struct {
		in   string
		max  int
		want string
	}{{"a\tb\r\nc", 0, "a b  c"}, {"abcdef", 6, "abcdef"}, {"abcdefg", 6, "abcde…"}, {"é漢", 1, "…"}, {"x\x1b]0;t\a", 0, "x ]0;t "}} {
		if got := bake.OneLine(test.in, test.max); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}
