package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
)

func TestTee(t *testing.T) {
	var a, b recorder
	play(Tee(&a, &b), sample())
	if diff := cmp.Diff(a.events, b.events); diff != "" || len(a.events) != len(sample()) {
		t.Errorf("the sinks got different events: %s", diff)
	}
}

func TestRedactingReachesEveryText(t *testing.T) {
	const secret = "hunter2"
	full := bake.Event{
		Type: bake.Output, Bake: secret, Title: secret, Text: "x" + secret, Error: secret,
		Refs: []string{secret}, Data: map[string]string{"k": secret, secret: "v"},
		Artifact: &bake.ArtifactSummary{
			Builder: "docker", Digest: digest, Tags: []string{secret}, Files: []string{secret},
			Base: secret, Removed: []string{secret},
		},
	}
	var got recorder
	Redacting(&got, func(s string) string { return strings.ReplaceAll(s, secret, "***") }).Emit(full)
	text, err := json.Marshal(got.events[0])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(secret)) {
		t.Errorf("the secret is still in %s", text)
	}
	if n := bytes.Count(text, []byte("***")); n != 11 {
		t.Errorf("%d texts are masked, want 11: %s", n, text)
	}
	if full.Artifact.Tags[0] != secret || full.Data["k"] != secret {
		t.Error("the caller's event was changed")
	}
	if got.events[0].Artifact.Digest != digest {
		t.Error("the digest is lost")
	}
}

func TestJSONIsOneEventALine(t *testing.T) {
	var b bytes.Buffer
	s := NewJSON(&b)
	play(s, sample())
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	var got []bake.Event
	for line := range strings.Lines(b.String()) {
		var e bake.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		got = append(got, e)
	}
	if diff := cmp.Diff(sample(), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWriteErrorsAreKept(t *testing.T) {
	full := errors.New("disk full")
	w := writerFunc(func([]byte) (int, error) { return 0, full })
	type sink interface {
		bake.Sink
		Err() error
	}
	for _, s := range []sink{NewJSON(w), NewPlain(w, PlainOptions{}), NewMachineReadable(w)} {
		play(s, sample())
		if !errors.Is(s.Err(), full) {
			t.Errorf("%T: got %v, want %v", s, s.Err(), full)
		}
	}
}

func TestSinksAreSafeForConcurrentUse(t *testing.T) {
	var plain, js, csv bytes.Buffer
	live := NewLive(&bytes.Buffer{}, LiveOptions{})
	all := Tee(NewPlain(&plain, PlainOptions{Color: true}), NewJSON(&js), NewMachineReadable(&csv), live)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { play(all, sample()) })
	}
	wg.Wait()
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(js.String(), "\n"); n != 4*len(sample()) {
		t.Errorf("%d lines of JSON, want %d", n, 4*len(sample()))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
