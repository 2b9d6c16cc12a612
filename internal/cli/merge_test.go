package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/cli"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// merging is a registry with images in it, and a program to join them.
type merging struct {
	*registrytest.Server
	client *registry.Client
	dir    string
}

func newMerging(t *testing.T) *merging {
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &merging{registrytest.New(t), client, t.TempDir()}
}

// push makes the repository hold something, and returns its reference.
func (m *merging) push(t *testing.T, repository string, manifest registry.Manifest) string {
	t.Helper()
	repo, err := name.NewRepository(m.Host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.Push(t.Context(), repo, manifest, registry.Auth{}); err != nil {
		t.Fatal(err)
	}
	digest, err := manifest.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return repo.Digest(digest.String()).Name()
}

// image is one for an architecture.
func image(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// run runs merge and returns its exit code and what it wrote.
func (m *merging) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	app := cli.App{Version: "1.2.3", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Dir: m.dir, Now: time.Now}
	code = app.Main(t.Context(), append([]string{"merge"}, args...))
	return code, out.String(), errs.String()
}

// platforms are those of the index that a tag points to.
func (m *merging) platforms(t *testing.T, ref string) (platforms []string, digest string) {
	t.Helper()
	tag, err := name.ParseReference(m.Host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.client.Head(t.Context(), tag, registry.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	members, err := m.client.Members(t.Context(), tag, registry.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range members {
		platforms = append(platforms, one.Platform.String())
	}
	return platforms, head.Digest.String()
}

// Images of two repositories become one index in two others; an index that is
// given is taken apart, and the layers are mounted.
func TestMerge(t *testing.T) {
	m := newMerging(t)
	amd, arm, ibm := image(t, "amd64"), image(t, "arm64"), image(t, "s390x")
	pair, err := bake.IndexArtifact("test", []mutate.IndexAddendum{
		{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		{Add: ibm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, second := m.push(t, "acme/web", amd), m.push(t, "acme/runner2", pair.Index)
	m.Requests()
	code, stdout, stderr := m.run(t, "--tag", "1.2", "--tag", m.Host+"/mirror/web:latest", "--annotation", "a=b", "--record", "record.json", first, second)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, ref := range []string{"acme/web:1.2", "mirror/web:latest"} {
		platforms, digest := m.platforms(t, ref)
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64", "linux/s390x"}, platforms); diff != "" {
			t.Errorf("%s, -want +got:\n%s", ref, diff)
		}
		if digest != strings.TrimSpace(stdout) {
			t.Errorf("%s is %s, printed was %s", ref, digest, stdout)
		}
	}
	for _, r := range m.Requests() {
		if r.Method == "PUT" && strings.Contains(r.Path, "/blobs/") && r.Received > 0 {
			t.Errorf("a layer was sent: %s", r)
		}
	}
	text, err := os.ReadFile(filepath.Join(m.dir, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	var record cli.Merged
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	if len(record.Platforms) != 3 || len(record.Tags) != 2 || record.Annotations["a"] != "b" || record.Digest != strings.TrimSpace(stdout) {
		t.Errorf("record: %s", text)
	}
}

func TestMergeToAnotherRegistry(t *testing.T) {
	m, other := newMerging(t), newMerging(t)
	ref := m.push(t, "acme/web", image(t, "amd64"))
	if code, _, stderr := m.run(t, "--tag", other.Host+"/copy/web:1", ref); code != 0 {
		t.Fatal(stderr)
	}
	if platforms, _ := other.platforms(t, "copy/web:1"); len(platforms) != 1 {
		t.Errorf("platforms %v", platforms)
	}
}

func TestMergeProblems(t *testing.T) {
	m := newMerging(t)
	first, second := m.push(t, "acme/web", image(t, "arm64")), m.push(t, "acme/web", image(t, "arm64"))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"two for a platform": {[]string{"--tag", "1", first, second}, 1, "two images for linux/arm64: sha256:"},
		"a tag":              {[]string{m.Host + "/acme/web:1"}, 2, "want REPOSITORY@sha256"},
		"not there":          {[]string{m.Host + "/acme/web@sha256:" + strings.Repeat("0", 64)}, 1, "acme/web"},
		"no tag":             {[]string{"--tag", "-x", first}, 2, `"-x" is no tag`},
		"no reference":       {[]string{"--tag", "Acme/web:1", first}, 2, "want a word or REPOSITORY:TAG"},
		"annotation":         {[]string{"--annotation", "x", first}, 2, "want NAME=VALUE"},
		"nothing":            {nil, 2, "requires at least 1 arg"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := m.run(t, c.args...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d; stderr %q, want %q", code, c.code, stderr, c.want)
			}
		})
	}
}

// A dry run looks, and pushes nothing.
func TestMergeDryRun(t *testing.T) {
	m := newMerging(t)
	ref := m.push(t, "acme/web", image(t, "arm64"))
	m.Requests()
	code, stdout, stderr := m.run(t, "--dry-run", "--tag", "1", ref)
	if code != 0 || !strings.HasPrefix(stdout, "sha256:") || !strings.Contains(stderr, "would push "+m.Host+"/acme/web:1") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	for _, r := range m.Requests() {
		if r.Method != "GET" && r.Method != "HEAD" {
			t.Errorf("request %s", r)
		}
	}
}
