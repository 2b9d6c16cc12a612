package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// previews are the tags of pull request 7.
var previews = regexp.MustCompile(`^pr-7(-[0-9a-f]{7,40})?$`).MatchString

// serveRegistry is a registry in this process behind a handler.
func serveRegistry(t *testing.T, wrap func(http.Handler) http.Handler, options ...registry.Option) string {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	server := httptest.NewUnstartedServer(wrap(registry.New(append(options, registry.Logger(quiet))...)))
	server.Config.ErrorLog = quiet
	server.Start()
	t.Cleanup(server.Close)
	u, _ := url.Parse(server.URL)
	return "localhost:" + u.Port()
}

func bare(next http.Handler) http.Handler { return next }

// previewed is a repository with the previews of pull request 7, and with what
// must not go with them.
type previewed struct {
	repo       name.Repository
	gone, stay map[string]v1.Hash // manifests
	kept       []string           // tags
}

// addPreviews fills a repository. Where there is no referrers API, tags say what
// hangs on an image.
func addPreviews(t *testing.T, c *Client, repo name.Repository, api bool) previewed {
	t.Helper()
	p := previewed{repo: repo, gone: map[string]v1.Hash{}, stay: map[string]v1.Hash{}}
	push := func(m Manifest, tags ...string) v1.Hash {
		t.Helper()
		if _, err := c.Push(t.Context(), repo, m, Auth{}); err != nil {
			t.Fatal(err)
		}
		var targets []Target
		for _, tag := range tags {
			targets = append(targets, Target{Tag: repo.Tag(tag)})
			if !previews(tag) {
				p.kept = append(p.kept, tag)
			}
		}
		if err := c.Tag(t.Context(), m, targets...); err != nil {
			t.Fatal(err)
		}
		return digestOf(t, m)
	}
	index := func(images ...v1.Image) v1.ImageIndex {
		out := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, img := range images {
			out = mutate.AppendManifests(out, mutate.IndexAddendum{Add: img})
		}
		return out
	}
	image := func() v1.Image { return mutate.MediaType(randomImage(t, 100, 1), types.OCIManifestSchema1) }
	hang := func(on v1.Hash, tag bool) v1.Hash {
		t.Helper()
		artifact := mutate.Subject(image(), v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: on, Size: 1}).(v1.Image)
		digest := push(artifact)
		if tag {
			push(index(artifact), "sha256-"+on.Hex)
		}
		return digest
	}
	amd, arm, shared := image(), image(), image()
	old := image()
	p.gone["index"] = push(index(amd, arm, shared), "pr-7", "pr-7-a1a1a1a")
	p.gone["amd"], p.gone["arm"] = digestOf(t, amd), digestOf(t, arm)
	p.gone["old"] = push(old, "pr-7-b2b2b2b")
	p.gone["sbom"] = hang(p.gone["amd"], !api)
	p.gone["signature of the sbom"] = hang(p.gone["sbom"], !api)
	p.gone["signature"] = push(image(), "sha256-"+p.gone["index"].Hex+".sig")

	p.stay["main"] = push(index(shared, image()), "main")
	p.stay["shared"] = digestOf(t, shared)
	p.stay["sbom of the shared"] = hang(p.stay["shared"], !api)
	p.stay["release"] = push(image(), "latest", "pr-7-c3c3c3c")
	p.stay["other"] = push(image(), "pr-70", "pr-12", "pr-7-fix", "xpr-7", "sha256-"+p.stay["main"].Hex+".sig")
	p.kept = slices.DeleteFunc(p.kept, func(tag string) bool {
		return strings.HasPrefix(tag, "sha256-") && !strings.HasPrefix(tag, "sha256-"+p.stay["main"].Hex) && !strings.HasPrefix(tag, "sha256-"+p.stay["shared"].Hex)
	})
	slices.Sort(p.kept)
	return p
}

// check compares what is there with what should be.
func (p previewed) check(t *testing.T, c *Client, left ...string) {
	t.Helper()
	there := func(h v1.Hash) bool {
		t.Helper()
		_, err := c.Head(t.Context(), p.repo.Digest(h.String()), Auth{})
		if err != nil && !isStatus(err, http.StatusNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	for what, h := range p.gone {
		if there(h) {
			t.Errorf("%s is still there", what)
		}
	}
	for what, h := range p.stay {
		if !there(h) {
			t.Errorf("%s is gone", what)
		}
	}
	e, err := c.edit(t.Context(), p.repo, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.tags(t.Context())
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(p.kept), left...))), got); err != nil || diff != "" {
		t.Errorf("tags (-want +got) %v\n%s", err, diff)
	}
}

// outcomes are tags and, for those that are left, why.
func outcomes(pruned []Pruned) []string {
	var out []string
	for _, p := range pruned {
		text := p.Tag
		if p.Err != nil {
			text += ": " + p.Err.Error()
		}
		out = append(out, text)
	}
	slices.SortFunc(out, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	return out
}

var allPreviews = []string{"pr-7", "pr-7-a1a1a1a", "pr-7-b2b2b2b", "pr-7-c3c3c3c"}

// TestPrune: the previews go with all that hangs on them, the rest stays, with
// a referrers API and without.
func TestPrune(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers %v", api), func(t *testing.T) {
			f := &fixture{}
			c := f.client(t)
			repo, _ := name.NewRepository(serveRegistry(t, bare, registry.WithReferrersSupport(api)) + "/acme/web")
			p := addPreviews(t, c, repo, api)
			got, err := c.Prune(t.Context(), repo, previews, Auth{}, true)
			if diff := cmp.Diff(allPreviews, outcomes(got)); err != nil || diff != "" {
				t.Errorf("dry run (-want +got) %v\n%s", err, diff)
			}
			for what, h := range p.gone {
				if _, err := c.Head(t.Context(), repo.Digest(h.String()), Auth{}); err != nil {
					t.Errorf("dry run: %s: %v", what, err)
				}
			}
			got, err = c.Prune(t.Context(), repo, previews, Auth{}, false)
			if diff := cmp.Diff(allPreviews, outcomes(got)); err != nil || diff != "" {
				t.Errorf("(-want +got) %v\n%s", err, diff)
			}
			p.check(t, c)
			if got, err = c.Prune(t.Context(), repo, previews, Auth{}, false); err != nil || len(got) > 0 {
				t.Errorf("once more: %v, %v", got, err)
			}
			if len(f.notes) > 0 {
				t.Errorf("notes %q", f.notes)
			}
		})
	}
}

// TestPruneInterrupted breaks off before and after every deletion: the next run
// finishes.
func TestPruneInterrupted(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := int64(1); ; at++ {
			var n atomic.Int64
			var cut atomic.Value
			host := serveRegistry(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					cancel, armed := cut.Load().(context.CancelFunc)
					hit := r.Method == http.MethodDelete && armed && n.Add(1) >= at
					if !hit || after {
						next.ServeHTTP(w, r)
					}
					if hit {
						cancel()
						panic(http.ErrAbortHandler)
					}
				})
			}, registry.WithReferrersSupport(true))
			c := (&fixture{}).client(t)
			repo, _ := name.NewRepository(host + "/acme/web")
			p := addPreviews(t, c, repo, true)
			ctx, cancel := context.WithCancel(t.Context())
			cut.Store(cancel)
			_, err := c.Prune(ctx, repo, previews, Auth{}, false)
			interrupted := ctx.Err() != nil
			cancel()
			if !interrupted {
				if at < 5 {
					t.Errorf("only %d deletions, %v", at, err)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("interrupted at %d: %v", at, err)
			}
			cut.Store(context.CancelFunc(nil))
			n.Store(-1 << 40)
			if _, err := c.Prune(t.Context(), repo, previews, Auth{}, false); err != nil {
				t.Fatal(err)
			}
			if p.check(t, c); t.Failed() {
				t.Fatalf("interrupted at deletion %d, after %v", at, after)
			}
		}
	}
}

// TestPruneGuarded: a registry that keeps what others refer to, and one that
// deletes no tags, and one that deletes nothing.
func TestPruneGuarded(t *testing.T) {
	digest, tag := rt.Is("DELETE", "/manifests/sha256:"), func(r *http.Request) bool {
		return r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "/manifests/sha256:")
	}
	unsupported := rt.Code(405, "UNSUPPORTED", "The operation is unsupported.")
	for name, test := range map[string]struct {
		faults func(*fixture)
		want   []string
	}{
		"children of tagged indexes stay": {
			func(f *fixture) { f.On(digest, 3, rt.Code(403, "DENIED", "manifest is referenced")) },
			[]string{"pr-7"},
		},
		"no tags": {
			func(f *fixture) { f.On(tag, -1, unsupported) },
			[]string{"pr-7: *405 method not allowed: unsupported*REGISTRY_STORAGE_DELETE_ENABLED*"},
		},
		"nothing": {
			func(f *fixture) { f.On(digest, -1, unsupported); f.On(tag, -1, unsupported) },
			[]string{"pr-7: delete from*405 method not allowed: unsupported*REGISTRY_STORAGE_DELETE_ENABLED*"},
		},
		"no rights": {
			func(f *fixture) {
				f.On(digest, -1, rt.Status(403))
				f.On(tag, -1, rt.Status(403))
			},
			[]string{"pr-7: delete from*403 forbidden*check the permissions*"},
		},
		"trouble": {
			func(f *fixture) { f.On(digest, -1, rt.Status(503)) },
			[]string{"pr-7: delete from*503*"},
		},
		"cannot see what others use": {
			func(f *fixture) { f.On(rt.Is("HEAD", "/manifests/main"), -1, rt.Status(403)) },
			[]string{"pr-7"},
		},
		"no list": {
			func(f *fixture) { f.On(rt.Is("GET", "/tags/list"), -1, rt.Status(403)) },
			[]string{"list tags of*403 forbidden*"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			repo := f.repo(t, "acme/web")
			a, b := randomImage(t, 100, 1), randomImage(t, 100, 1)
			index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: a}, mutate.IndexAddendum{Add: b})
			f.must(t, index, repo.Tag("pr-7"))
			f.must(t, randomImage(t, 100, 1), repo.Tag("main"))
			test.faults(f)
			f.Requests()
			pruned, err := f.c.Prune(t.Context(), repo, previews, Auth{}, false)
			got := outcomes(pruned)
			if err != nil {
				got = append(got, err.Error())
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if !like(test.want[i], got[i]) {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
			if n := count(f.Requests(), "DELETE /v2/acme/web/manifests/sha256:"); name == "nothing" && n != 1 {
				t.Errorf("%d images were tried where none can be deleted", n)
			}
			f.Heal()
			if name == "children of tagged indexes stay" {
				for _, img := range []v1.Image{a, b} {
					if _, err := f.c.Head(t.Context(), repo.Digest(digestOf(t, img).String()), Auth{}); !isStatus(err, 404) {
						t.Errorf("a child is left: %v", err)
					}
				}
			}
			if name == "cannot see what others use" {
				if _, err := f.c.Head(t.Context(), repo.Digest(digestOf(t, index).String()), Auth{}); err != nil {
					t.Errorf("an image was deleted that others may use: %v", err)
				}
			}
		})
	}
}

func count(requests []rt.Request, prefix string) (n int) {
	for _, r := range requests {
		if strings.HasPrefix(r.String(), prefix) {
			n++
		}
	}
	return n
}

// like matches a text with a pattern in which * stands for anything.
func like(pattern, text string) bool {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
	return regexp.MustCompile("^" + quoted + "$").MatchString(text)
}

// TestPruneHostile: what a doomed index says never makes images go that others
// have, and never leads out of the repository.
func TestPruneHostile(t *testing.T) {
	f := newFixture(t)
	repo, other := f.repo(t, "acme/web"), f.repo(t, "acme/other")
	img := randomImage(t, 100, 1)
	main := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	f.must(t, main, repo.Tag("main"))
	f.must(t, main, other.Tag("main"))
	// says of main that it is an image, which lists nothing, and lists its image
	lie := fmt.Sprintf(`{"schemaVersion": 2, "mediaType": %q, "manifests": [{"mediaType": %q, "size": 1, "digest": %q},
		{"mediaType": %[2]q, "size": 1, "digest": %[4]q, "urls": ["%[5]s/v2/acme/other/manifests/main"]}]}`,
		types.OCIImageIndex, types.OCIManifestSchema1, digestOf(t, main), digestOf(t, img), f.URL)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, f.URL+"/v2/acme/web/manifests/pr-7", strings.NewReader(lie))
	req.Header.Set("Content-Type", string(types.OCIImageIndex))
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	f.On(rt.Is("GET", "/tags/list"), 1, rt.Header("Link", `<http://`+f.Host+`/v2/acme/other/tags/list?n=1000&last=pr-7>; rel="next"`))
	f.Requests()
	pruned, err := f.c.Prune(t.Context(), repo, previews, Auth{}, false)
	if diff := cmp.Diff([]string{"pr-7"}, outcomes(pruned)); err != nil || diff != "" {
		t.Errorf("(-want +got) %v\n%s", err, diff)
	}
	for _, r := range f.Requests() {
		if strings.HasPrefix(r.Path, "/v2/") && r.Path != "/v2/" && !strings.HasPrefix(r.Path, "/v2/acme/web/") {
			t.Errorf("request %s", r)
		}
	}
	for _, m := range []Manifest{main, img} {
		if _, err := f.c.Head(t.Context(), repo.Digest(digestOf(t, m).String()), Auth{}); err != nil {
			t.Errorf("gone: %v", err)
		}
	}
}

// TestPruneManyTags: pages that are full, with no word of the next one, and more
// tags than are looked at: then only the tags go.
func TestPruneManyTags(t *testing.T) {
	f := newFixture(t)
	repo := f.repo(t, "acme/web")
	img := randomImage(t, 100, 1)
	f.must(t, img, repo.Tag("pr-7"))
	f.On(rt.Is("GET", "/tags/list"), -1, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		from := 0
		if _, err := fmt.Sscanf(r.URL.Query().Get("last"), "t%d", &from); err == nil {
			from++
		}
		var tags []string
		for i := from; i < maxHeld+500 && len(tags) < pageSize; i++ {
			tags = append(tags, fmt.Sprintf(`"t%d"`, i))
		}
		if len(tags) < pageSize {
			tags = append(tags, `"pr-7"`)
		}
		fmt.Fprintf(w, `{"name": "acme/web", "tags": [%s]}`, strings.Join(tags, ","))
	})
	f.Requests()
	pruned, err := f.c.Prune(t.Context(), repo, previews, Auth{}, false)
	if diff := cmp.Diff([]string{"pr-7"}, outcomes(pruned)); err != nil || diff != "" {
		t.Errorf("(-want +got) %v\n%s", err, diff)
	}
	if n := len(f.Requests()); n > 20 {
		t.Errorf("%d requests", n)
	}
	if len(f.notes) != 1 || !strings.Contains(f.notes[0], "5501 tags are too many") {
		t.Errorf("notes %q", f.notes)
	}
	if _, err := f.c.Head(t.Context(), repo.Digest(digestOf(t, img).String()), Auth{}); err != nil {
		t.Errorf("the image is gone: %v", err)
	}
}

// TestPruneTroubleWithTag: where a tag that hangs on an image cannot be deleted
// just now, what it hangs on stays until it can.
func TestPruneTroubleWithTag(t *testing.T) {
	c := (&fixture{}).client(t)
	var broken atomic.Bool
	host := serveRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken.Load() && r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/manifests/sha256-") {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	repo, _ := name.NewRepository(host + "/acme/web")
	p := addPreviews(t, c, repo, false)
	broken.Store(true)
	pruned, err := c.Prune(t.Context(), repo, previews, Auth{}, false)
	if err != nil || len(pruned) != 4 || pruned[0].Err == nil || !strings.Contains(pruned[0].Err.Error(), "503") {
		t.Errorf("got %q, %v", outcomes(pruned), err)
	}
	broken.Store(false)
	if _, err := c.Prune(t.Context(), repo, previews, Auth{}, false); err != nil {
		t.Fatal(err)
	}
	p.check(t, c)
}

// TestPruneAsksForTheRight to delete, which some registries know besides that to
// push, and does with that to push where there is no other.
func TestPruneAsksForTheRight(t *testing.T) {
	for _, knows := range []bool{true, false} {
		f := newFixture(t)
		repo := f.repo(t, "acme/web")
		f.must(t, randomImage(t, 100, 1), repo.Tag("pr-7"))
		f.On(rt.Is("GET", "/token"), -1, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			asked := strings.Contains(strings.Join(r.URL.Query()["scope"], " "), "delete")
			if asked && !knows {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			fmt.Fprintf(w, `{"token": "delete %v"}`, asked)
		})
		f.On(rt.Any, -1, rt.Bearer(f.URL+"/token", fmt.Sprintf("delete %v", knows)))
		c := f.client(t)
		pruned, err := c.Prune(t.Context(), repo, previews, Auth{}, false)
		if diff := cmp.Diff([]string{"pr-7"}, outcomes(pruned)); err != nil || diff != "" {
			t.Errorf("knows %v: (-want +got) %v\n%s", knows, err, diff)
		}
	}
}
