package registry

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

func (f *fixture) tags(t *testing.T, repo string, tags ...string) []Target {
	t.Helper()
	var targets []Target
	for _, tag := range tags {
		targets = append(targets, Target{Tag: f.repo(t, repo).Tag(tag)})
	}
	return targets
}

// where tells what each tag points to: old, new or nothing.
func (f *fixture) where(t *testing.T, targets []Target, named map[string]string) []string {
	t.Helper()
	var got []string
	for _, target := range targets {
		head, err := f.c.Head(t.Context(), target.Tag, Auth{})
		var e *Error
		switch {
		case err == nil:
			got = append(got, named[head.Digest.String()])
		case errors.As(err, &e) && e.Status == http.StatusNotFound:
			got = append(got, "none")
		default:
			t.Fatal(err)
		}
	}
	return got
}

// TestTagsAllOrNone over two repositories: the third tag fails, and the ones
// before it go back.
func TestTagsAllOrNone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match rt.Match
		fault rt.Fault
		want  []string
	}{
		{"denied", rt.Is("PUT", "/b/manifests/v1"), rt.Code(403, "DENIED", "immutable"), []string{"old", "none", "old"}},
		{"moved, answer lost", rt.Is("PUT", "/b/manifests/v1"), rt.After(rt.Status(400)), []string{"old", "none", "old"}},
		{"look denied", rt.Is("HEAD", "/b/manifests/v1"), rt.Status(401), []string{"old", "none", "old"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			before, after := randomImage(t, 10, 1), randomImage(t, 20, 1)
			targets := append(f.tags(t, "a", "v1", "new"), f.tags(t, "b", "v1")...)
			named := map[string]string{
				f.must(t, before, targets[0].Tag).String(): "old",
				f.must(t, before, targets[2].Tag).String(): "old",
				digestOf(t, after).String():                "new",
			}
			for _, target := range targets {
				if _, err := f.c.Push(t.Context(), target.Repository, after, Auth{}); err != nil {
					t.Fatal(err)
				}
			}
			f.On(tc.match, 1, tc.fault)
			err := f.c.Tag(t.Context(), after, targets...)
			wantError(t, err, "tag v1 "+f.Host+"/b: 4")
			if got := f.where(t, targets, named); !cmp.Equal(got, tc.want) {
				t.Errorf("tags are on %v, want %v", got, tc.want)
			}
			f.Heal()
			if err := f.c.Tag(t.Context(), after, targets...); err != nil {
				t.Fatal(err)
			}
			if got := f.where(t, targets, named); !cmp.Equal(got, []string{"new", "new", "new"}) {
				t.Errorf("tags are on %v after all", got)
			}
		})
	}
}

// TestTagsLeft: what cannot be put back is named.
func TestTagsLeft(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 10, 1)
	targets := f.tags(t, "a", "one", "two")
	if _, err := f.c.Push(t.Context(), targets[0].Repository, img, Auth{}); err != nil {
		t.Fatal(err)
	}
	f.On(rt.Is("PUT", "/manifests/two"), -1, rt.Status(403))
	f.On(rt.Is("DELETE", ""), -1, rt.Status(405))
	err := f.c.Tag(t.Context(), img, targets...)
	var left *LeftError
	if !errors.As(err, &left) || !cmp.Equal(left.Tags, []string{f.Host + "/a:one"}) {
		t.Fatalf("error %v", err)
	}
	wantError(t, err, "tag two", "403", "could not be put back: "+f.Host+"/a:one")
}

// TestTagsAfterCancel: Ctrl-C between two tags leaves none moved.
func TestTagsAfterCancel(t *testing.T) {
	f := newFixture(t)
	before, after := randomImage(t, 10, 1), randomImage(t, 20, 1)
	targets := f.tags(t, "a", "one", "two")
	old := f.must(t, before, targets[0].Tag)
	f.must(t, before, targets[1].Tag)
	if _, err := f.c.Push(t.Context(), targets[0].Repository, after, Auth{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.On(rt.Is("PUT", "/manifests/two"), 1, rt.After(func(http.ResponseWriter, *http.Request, http.Handler) {
		cancel()
		panic(http.ErrAbortHandler)
	}))
	err := f.c.Tag(ctx, after, targets...)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	got := f.where(t, targets, map[string]string{old.String(): "old"})
	if !cmp.Equal(got, []string{"old", "old"}) {
		t.Errorf("tags are on %v", got)
	}
}

// TestUnchangedTags are not written.
func TestUnchangedTags(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 10, 1)
	targets := f.tags(t, "a", "one", "two")
	f.must(t, img, targets[0].Tag)
	f.Requests()
	if err := f.c.Tag(t.Context(), img, targets...); err != nil {
		t.Fatal(err)
	}
	want := []string{"HEAD /v2/a/manifests/one", "HEAD /v2/a/manifests/two", "PUT /v2/a/manifests/two"}
	if diff := cmp.Diff(want, summary(f.Requests())); diff != "" {
		t.Error(diff)
	}
}
