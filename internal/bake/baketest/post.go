package baketest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// PostSuite checks what every post-processor promises of its Kind: that it is
// documented, refuses the bad bodies and takes the good ones, whose titles are
// one line each.
func PostSuite(t *testing.T, kind bake.Kind[bake.Post], good, bad map[string]map[string]any) {
	t.Run("documented", func(t *testing.T) { Documented(t, kind) })
	for name, body := range good {
		t.Run("good "+name, func(t *testing.T) {
			NewPost(t, kind, body)
			if title := kind.Title(Body(body)); title == "" || strings.ContainsAny(title, "\n\r\x1b") {
				t.Errorf("title %q is no line", title)
			}
		})
	}
	for name, body := range bad {
		t.Run("bad "+name, func(t *testing.T) { Refuses(t, kind, body) })
	}
	t.Run("unknown key", func(t *testing.T) { Refuses(t, kind, map[string]any{"no_such_key": 1}) })
}

// NewPost makes a post-processor, which must have no problem.
func NewPost(t *testing.T, kind bake.Kind[bake.Post], body map[string]any) bake.Post {
	t.Helper()
	if problems := kind.Check(Body(body)); len(problems) > 0 {
		t.Fatalf("check: %v", problems)
	}
	post, err := kind.New(Body(body))
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	return post
}

// PostEnv is what a post-processor is given: folders of its own, a Publisher
// and a Recorder as the host.
func PostEnv(t *testing.T) (bake.PostEnv, *Publisher, *Sink) {
	publisher, sink := &Publisher{}, &Sink{}
	var lines strings.Builder
	return bake.PostEnv{
		Job: bake.Job{RunID: "run-1", Name: "web.docker", Image: "web", Builder: "main", Type: "docker"},
		Dir: t.TempDir(), OutDir: t.TempDir(), Publisher: publisher, Host: &Recorder{},
		Stdout: &lines, Stderr: &lines, Sink: sink,
	}, publisher, sink
}

// Image is the artifact of a container image with one layer of that content,
// named as given.
func Image(t *testing.T, content string, refs ...string) bake.Artifact {
	t.Helper()
	base := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer: static.NewLayer([]byte(content), types.OCIUncompressedLayer), History: v1.History{CreatedBy: "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := bake.ImageArtifact("docker", img)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range refs {
		ref, err := name.ParseReference(text)
		if err != nil {
			t.Fatal(err)
		}
		a = a.WithRefs(bake.Ref{Reference: ref})
	}
	return a
}

// Push is one call of a Publisher.
type Push struct {
	Artifact bake.Artifact
	Refs     []bake.Ref
}

// Publisher keeps what it is asked to publish. The zero value is ready.
type Publisher struct {
	Err     error // to give, if set
	Nowhere bool  // send nothing, as a dry run

	mu     sync.Mutex
	pushes []Push
}

// Publish keeps the call and gives the references by digest.
func (p *Publisher) Publish(ctx context.Context, a bake.Artifact, refs []bake.Ref) ([]bake.Ref, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes = append(p.pushes, Push{a, refs})
	if p.Err != nil {
		return nil, p.Err
	}
	if p.Nowhere {
		return nil, nil
	}
	out := make([]bake.Ref, len(refs))
	for i, ref := range refs {
		out[i] = bake.Ref{Reference: ref.Context().Digest(a.Digest.String())}
	}
	return out, nil
}

// Pushes returns the calls so far.
func (p *Publisher) Pushes() []Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Push(nil), p.pushes...)
}
