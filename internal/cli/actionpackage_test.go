package cli

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/secret"
)

// TestPackagesHost: only the registry that belongs to the API is pruned by it.
func TestPackagesHost(t *testing.T) {
	for server, want := range map[string]string{"https://github.com": "ghcr.io", "https://ghe.example": "containers.ghe.example"} {
		if got := packagesHost(server); got != want {
			t.Errorf("%s: %s, want %s", server, got, want)
		}
	}
}

// packageSite is a package of GitHub: its API, and the registry behind it.
type packageSite struct {
	api    *githubtest.Server
	client *registry.Client
	repo   name.Repository
	names  map[string]string // of digests
}

func newPackageSite(t *testing.T, kind string) *packageSite {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	repo, err := name.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/acme/team/web")
	if err != nil {
		t.Fatal(err)
	}
	s := &packageSite{api: githubtest.New(t), client: client, repo: repo, names: map[string]string{}}
	s.api.AddUser(githubtest.User{ID: 3, Login: "acme", Type: kind})
	return s
}

// add pushes a manifest and makes a version of it.
func (s *packageSite) add(t *testing.T, what string, m registry.Manifest, tags ...string) {
	t.Helper()
	if _, err := s.client.Push(t.Context(), s.repo, m, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.names[digest.String()] = what
	s.api.AddVersion("acme", "team/web", digest.String(), tags...)
}

// prune returns what became of the tags of pull request 7, and what versions
// there are then.
func (s *packageSite) prune(t *testing.T, dryRun bool) (told, there []string) {
	t.Helper()
	api, err := github.New(github.Options{
		BaseURL: s.api.URL, Token: secret.New("actions"), Retries: 1,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	packages, err := api.Packages(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	p := &packagePrune{client: s.client, packages: packages, repo: s.repo, name: "team/web", doomed: previewTag(7).MatchString, failed: map[string]error{}}
	pruned, err := p.do(t.Context(), dryRun)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pruned {
		if p.Err != nil {
			p.Tag += ": " + p.Err.Error()
		}
		told = append(told, p.Tag)
	}
	for _, v := range s.api.Versions("acme", "team/web") {
		there = append(there, s.names[v.Digest])
	}
	slices.Sort(there)
	return told, there
}

func somePackage(t *testing.T, kind string) *packageSite {
	t.Helper()
	s := newPackageSite(t, kind)
	image := func() v1.Image {
		t.Helper()
		img, err := random.Image(10, 1)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	index := func(images ...v1.Image) v1.ImageIndex {
		var out v1.ImageIndex = empty.Index
		for _, img := range images {
			out = mutate.AppendManifests(out, mutate.IndexAddendum{Add: img})
		}
		return out
	}
	amd, arm, shared, pinned, sbom := image(), image(), image(), image(), image()
	s.add(t, "amd", amd)
	s.add(t, "arm", arm)
	s.add(t, "shared", shared)
	s.add(t, "pinned", pinned)
	preview := index(amd, arm, shared, pinned)
	s.add(t, "preview", preview, "pr-7", "pr-7-a1a1a1a")
	s.add(t, "main", index(shared, image()), "main")
	s.add(t, "without a tag", index(pinned, image())) // somebody may use its digest
	s.add(t, "release", image(), "latest", "pr-7-c3c3c3c")
	s.add(t, "another pull request", image(), "pr-70")
	digest, err := preview.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.add(t, "sbom", sbom)
	s.add(t, "referrers", index(sbom), "sha256-"+digest.Hex)
	return s
}

var (
	packageStays = []string{"another pull request", "main", "pinned", "release", "shared", "without a tag"}
	packageAll   = []string{"amd", "another pull request", "arm", "main", "pinned", "preview", "referrers", "release", "sbom", "shared", "without a tag"}
)

const sharedVersion = "pr-7-c3c3c3c: another tag or index has the image, too, and GitHub deletes whole images only"

// TestPrunePackage: versions that only the pull request has go, with what hangs
// on them, for an organization and for a person.
func TestPrunePackage(t *testing.T) {
	for _, kind := range []string{"Organization", "User"} {
		s := somePackage(t, kind)
		want := []string{"pr-7", "pr-7-a1a1a1a", sharedVersion}
		told, there := s.prune(t, true)
		if diff := cmp.Diff(want, told); diff != "" || !slices.Equal(there, packageAll) {
			t.Errorf("%s: dry run: there are %q (-want +got)\n%s", kind, there, diff)
		}
		told, there = s.prune(t, false)
		if diff := cmp.Diff(want, told); diff != "" || !slices.Equal(there, packageStays) {
			t.Errorf("%s: there are %q (-want +got)\n%s", kind, there, diff)
		}
	}
}

// TestPrunePackageRefused: what is left is told with the reason, and run again
// when that is gone it goes.
func TestPrunePackageRefused(t *testing.T) {
	const one = "DELETE /orgs/acme/packages/container/team%2Fweb/versions/*"
	for what, test := range map[string]struct {
		faults []githubtest.Fault
		want   string // in what is said of pr-7; empty: it is deleted
	}{
		"no permission": {[]githubtest.Fault{githubtest.Integration}, "packages: write}` into the workflow (the repository also needs the role Admin"},
		"hidden": {slices.Repeat([]githubtest.Fault{githubtest.Status(404, "Package not found.")}, 5),
			"the token may not see it (packages: write); the repository also needs the role Admin"},
		"lost answer":     {[]githubtest.Fault{githubtest.After(githubtest.Status(502, "bad gateway"))}, ""},
		"a child is kept": {[]githubtest.Fault{githubtest.Status(400, "Publicly visible package versions with more than 5000 downloads cannot be deleted.")}, ""},
		"broken":          {slices.Repeat([]githubtest.Fault{githubtest.Status(502, "bad gateway")}, 5), "status 502"},
	} {
		s := somePackage(t, "Organization")
		s.api.Inject(one, test.faults...)
		told, _ := s.prune(t, false)
		if len(told) != 3 {
			t.Fatalf("%s: %q", what, told)
		}
		for _, line := range told[:2] {
			if ok := strings.Contains(line, test.want) && (test.want != "" || !strings.Contains(line, ":")); !ok {
				t.Errorf("%s: %q, want %q", what, line, test.want)
			}
		}
		if test.want == "" {
			continue
		}
		for s.api.Pending() > 0 {
			s.prune(t, false)
		}
		if _, there := s.prune(t, false); !slices.Equal(there, packageStays) {
			t.Errorf("%s: then there are %q", what, there)
		}
	}
}

// TestPrunePackageUnread: where the registry does not tell what refers to what,
// nothing is deleted.
func TestPrunePackageUnread(t *testing.T) {
	s := somePackage(t, "Organization")
	closed := httptest.NewServer(nil)
	closed.Close()
	s.repo, _ = name.NewRepository(strings.TrimPrefix(closed.URL, "http://") + "/acme/team/web")
	var err error
	if s.client, err = registry.New(registry.Options{Retries: -1}); err != nil {
		t.Fatal(err)
	}
	told, there := s.prune(t, false)
	if len(told) != 3 || !strings.Contains(told[0], "connection refused") || !slices.Equal(there, packageAll) {
		t.Errorf("told %q, there are %q", told, there)
	}
}
