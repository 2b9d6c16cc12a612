package baketest

import (
	"archive/tar"
	"context"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// BuilderOptions say what a BuilderSuite works on.
type BuilderOptions struct {
	// New makes a builder and a job for one machine.
	New func(t *testing.T) (bake.Builder, bake.Job)
	// Communicator describes what the machine can do; its New is not used.
	Communicator CommunicatorOptions
	// Fake: the machine runs nothing, so its communicator is not tested.
	Fake bool
}

// BuilderSuite checks what bake.Builder and bake.Machine promise.
func BuilderSuite(t *testing.T, o BuilderOptions) {
	if !o.Fake {
		t.Run("communicator", func(t *testing.T) {
			c := o.Communicator
			c.New = func(t *testing.T) bake.Communicator { return start(t, o).Communicator() }
			CommunicatorSuite(t, c)
		})
	}
	t.Run("cancelled start", func(t *testing.T) {
		builder, job := o.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if m, err := builder.Start(ctx, job); err == nil {
			m.Close()
			t.Error("got a machine")
		}
	})
	t.Run("commit", func(t *testing.T) { testCommit(t, o) })
	t.Run("same steps same digest", func(t *testing.T) { testSameDigest(t, o) })
	t.Run("close after an error", func(t *testing.T) {
		builder, job := o.New(t)
		m, err := builder.Start(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = m.Communicator().Exec(ctx, bake.Cmd{Args: []string{"/bin/sh", "-c", "exit 1"}})
		if _, err := m.Commit(ctx, bake.LayerInfo{}); err == nil {
			t.Error("a cancelled commit: got no error")
		}
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Run("detach", func(t *testing.T) {
		builder, job := o.New(t)
		m, err := builder.Start(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		lines := m.Detach()
		if len(lines) == 0 || strings.Contains(strings.Join(lines, ""), "\n") {
			t.Errorf("detach says %q", lines)
		}
		_ = m.Close() // tidies up after this test; users are told how to
	})
}

func start(t *testing.T, o BuilderOptions) bake.Machine {
	t.Helper()
	builder, job := o.New(t)
	m, err := builder.Start(t.Context(), job)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func commit(t *testing.T, m bake.Machine, by string) (bake.Artifact, []v1.Layer) {
	t.Helper()
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: by})
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	layers, err := a.Image.Layers()
	if err != nil {
		t.Fatalf("layers: %v", err)
	}
	if digest, err := a.Image.Digest(); err != nil || digest != a.Digest {
		t.Errorf("the artifact's digest is %s, its image's %s, %v", a.Digest, digest, err)
	}
	return a, layers
}

func testCommit(t *testing.T, o BuilderOptions) {
	m := start(t, o)
	none, base := commit(t, m, "nothing")
	put(t, m.Communicator(), "/srv/suite", File{Header: tar.Header{Name: "one", Mode: 0o644, ModTime: old}, Content: "1"})
	first, one := commit(t, m, "step one")
	if len(one) != len(base)+1 || first.Digest == none.Digest {
		t.Errorf("a change: %d layers, want %d", len(one), len(base)+1)
	}
	again, same := commit(t, m, "nothing")
	if len(same) != len(one) || again.Digest != first.Digest {
		t.Errorf("no change: %d layers, want %d; digest %s, want %s", len(same), len(one), again.Digest, first.Digest)
	}
	put(t, m.Communicator(), "/srv/suite", File{Header: tar.Header{Name: "two", Mode: 0o644, ModTime: old}, Content: "2"})
	if _, two := commit(t, m, "step two"); len(two) != len(one)+1 {
		t.Errorf("another change: %d layers, want %d", len(two), len(one)+1)
	}
}

func testSameDigest(t *testing.T, o BuilderOptions) {
	var digests []v1.Hash
	for range 2 {
		m := start(t, o)
		put(t, m.Communicator(), "/srv/suite", oddFiles(o.Communicator.Root)...)
		if !o.Fake {
			if _, status := sh(t, m.Communicator(), "mkdir -p /srv/made && date +%s%N >/tmp/noise && echo x >/srv/made/x", func(c *bake.Cmd) { c.Dir = "/" }); status != 0 {
				t.Fatalf("status %d", status)
			}
		}
		a, _ := commit(t, m, "step")
		digests = append(digests, a.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("the same steps give %s and %s", digests[0], digests[1])
	}
}
