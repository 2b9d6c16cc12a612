package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

// TestActionPrune: at the end of a pull request its images go, with what an
// index lists and what hangs on them. A dry run only tells, a fork does nothing.
func TestActionPrune(t *testing.T) {
	actionProgram = filepath.Join(t.TempDir(), "imgbake")
	cmd := exec.Command("go", "build", "-o", actionProgram, "../../cmd/imgbake")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := newActionSite(t)
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
	wantExit(t, s.run(with(pull("opened", sha, "acme/web"))), 0)
	gone, stays := addIndex(t, s.registry+"/acme/web")
	there := func(digest string) bool {
		ref, err := name.NewDigest(s.registry + "/acme/web@" + digest)
		if err != nil {
			t.Fatal(err)
		}
		_, err = remote.Head(ref)
		return err == nil
	}
	before := s.tags()
	gone = append(gone, before["pr-7"])
	comments := s.api.Comments("acme/web", 7)
	*s.writes = nil

	env, event := pull("closed", sha, "stranger/web")
	wantExit(t, s.run(env, nil, event), 0)
	env, event = pull("closed", sha, "acme/web")
	env["GITHUB_RUN_ID"] = "1002"
	r := s.run(env, map[string]string{"dry-run": "true"}, event)
	wantExit(t, r, 0)
	for _, tag := range []string{"pr-7", "pr-7-a1a1a1a", "pr-7-b2b2b2b"} {
		if want := s.registry + "/acme/web:" + tag; !strings.Contains(r.Log, "would delete "+want+"\n") || !strings.Contains(r.Summary, want) {
			t.Errorf("the dry run says nothing of %s:\n%s\n%s", tag, r.Log, r.Summary)
		}
	}
	if after := s.api.Comments("acme/web", 7); len(*s.writes) > 0 || !slices.Equal(after, comments) || !strings.Contains(r.Summary, "Would be deleted") {
		t.Fatalf("dry run: writes %q, comments %v, summary:\n%s", *s.writes, after, r.Summary)
	}

	r = s.run(env, nil, event)
	wantExit(t, r, 0)
	if got, want := keys(s.tags()), []string{"main", "pr-70"}; !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
	for _, digest := range gone {
		if there(digest) {
			t.Errorf("%s is still there", digest)
		}
	}
	for _, digest := range stays {
		if !there(digest) {
			t.Errorf("%s is gone", digest)
		}
	}
	body := s.api.Comments("acme/web", 7)[0].Body
	if !strings.Contains(body, "The previews are deleted") || !strings.Contains(body, "/acme/web:pr-7-b2b2b2b") || strings.Contains(body, "/acme/web:pr-70") {
		t.Errorf("comment:\n%s", body)
	}
}

// addIndex adds a preview of two images, one of which main has, too, and
// something that hangs on the other.
func addIndex(t *testing.T, repository string) (gone, stays []string) {
	t.Helper()
	repo, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	images := make([]v1.Image, 3)
	for i := range images {
		if images[i], err = random.Image(10, 1); err != nil {
			t.Fatal(err)
		}
	}
	own, shared, sbom := images[0], images[1], images[2]
	ownDigest, _ := own.Digest()
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: own}, mutate.IndexAddendum{Add: shared})
	referrers := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: sbom})
	main := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: shared})
	for _, x := range []struct {
		tag string
		v1.ImageIndex
	}{{"pr-7-b2b2b2b", index}, {"sha256-" + ownDigest.Hex, referrers}, {"main", main}, {"pr-70", main}} {
		if err := remote.WriteIndex(repo.Tag(x.tag), x.ImageIndex); err != nil {
			t.Fatal(err)
		}
	}
	digest := func(m interface{ Digest() (v1.Hash, error) }) string {
		h, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	return []string{digest(own), digest(sbom), digest(index), digest(referrers)}, []string{digest(shared), digest(main)}
}
