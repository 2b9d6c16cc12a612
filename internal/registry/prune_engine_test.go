//go:build engine

package registry

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
)

// distributionV3 is the path of distribution's registry: its own release, since
// Debian's cannot delete a tag.
func distributionV3(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../../scripts/tool.sh", "registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2").Output()
	if err != nil {
		if os.Getenv("IMGBAKE_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skipf("distribution's registry: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestPruneReal prunes in real registries: distribution v3, Debian's, which
// cannot delete a tag alone, and both where deletion is switched off, as it is
// unless somebody allows it.
func TestPruneReal(t *testing.T) {
	for _, test := range []struct {
		name    string
		program func(*testing.T) string
		delete  bool
		want    []string // nil: all are deleted
		left    []string
	}{
		{"v3", distributionV3, true, nil, nil},
		{"debian", debianRegistry, true, []string{"pr-7", "pr-7-a1a1a1a", "pr-7-b2b2b2b",
			"pr-7-c3c3c3c: another tag or index has the image, too, and the registry deletes whole images only"}, []string{"pr-7-c3c3c3c"}},
		{"v3 off", distributionV3, false, allPreviews, nil},
		{"debian off", debianRegistry, false, allPreviews, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := startProgram(t, test.program(t), "bot", "geheim", test.delete)
			c := (&fixture{}).client(t, withAuth(host, "bot", "geheim"))
			repo, err := name.NewRepository(host + "/acme/web")
			if err != nil {
				t.Fatal(err)
			}
			p := addPreviews(t, c, repo, false)
			pruned, err := c.Prune(t.Context(), repo, previews, Auth{}, false)
			if err != nil {
				t.Fatal(err)
			}
			got := outcomes(pruned)
			if test.delete {
				if test.want == nil {
					test.want = allPreviews
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				p.check(t, c, test.left...)
				return
			}
			if len(got) != len(allPreviews) {
				t.Fatalf("got %q", got)
			}
			for i, tag := range allPreviews {
				if !strings.HasPrefix(got[i], tag+": ") || !strings.Contains(got[i], "REGISTRY_STORAGE_DELETE_ENABLED=true") {
					t.Errorf("got %q", got[i])
				}
			}
			e, err := c.edit(t.Context(), repo, Auth{})
			if err != nil {
				t.Fatal(err)
			}
			if tags, err := e.tags(t.Context()); err != nil || !slices.Contains(tags, "pr-7") {
				t.Errorf("tags %q, %v", tags, err)
			}
		})
	}
}
