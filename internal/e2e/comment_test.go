package e2e_test

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/e2e/runner"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
)

func TestComment(t *testing.T) {
	actionProgram = filepath.Join(t.TempDir(), "imgbake")
	cmd := exec.Command("go", "build", "-o", actionProgram, "../../cmd/imgbake")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]func(*testing.T){
		"Compared":     commentCompared,
		"New":          commentNew,
		"Refused":      commentRefused,
		"Fork":         commentFork,
		"Platforms":    commentPlatforms,
		"Merge":        commentMerge,
		"Unauthorized": commentUnauthorized,
		"Failed":       commentFailed,
		"Warnings":     commentWarnings,
		"Masked":       commentMasked,
		"Asked":        commentAsked,
		"OnComment":    commentOnComment,
		"Output":       commentOutput,
		"Shared":       commentShared,
		"Moved":        commentMoved,
		"Outputs":      commentOutputs,
		"Inputs":       commentInputs,
	} {
		t.Run(name, test)
	}
}

// watchedSite is an actionSite whose registry tells what it was asked, and
// refuses what it is told to.
type watchedSite struct {
	actionSite
	mu     sync.Mutex
	gets   []string
	refuse func(*http.Request) int
}

func newWatchedSite(t *testing.T) *watchedSite {
	t.Helper()
	s := &watchedSite{actionSite: actionSite{t: t, api: githubtest.New(t), writes: &[]string{}}}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refuse := s.refuse
		if r.Method == http.MethodGet {
			s.gets = append(s.gets, r.URL.Path)
		} else if r.Method != http.MethodHead {
			*s.writes = append(*s.writes, r.Method+" "+r.URL.Path)
		}
		s.mu.Unlock()
		if refuse != nil {
			if code := refuse(r); code != 0 {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(code)
				return
			}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	s.registry = "localhost:" + port
	return s
}

// told forgets what was asked before, and what was written.
func (s *watchedSite) told(refuse func(*http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets, s.refuse, *s.writes = nil, refuse, nil
}

func (s *watchedSite) asked(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.gets {
		if strings.Contains(path, part) {
			n++
		}
	}
	return n
}

// push makes a base image of layers, each a map of files.
func (s *watchedSite) push(tag, arch string, layers ...v1.Layer) {
	s.t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		s.t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", arch
	config.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}, "53/udp": {}, "1;reboot/tcp": {}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		s.t.Fatal(err)
	}
	ref, _ := name.ParseReference(s.registry + "/" + tag)
	if err := remote.Write(ref, img); err != nil {
		s.t.Fatal(err)
	}
}

func filesLayer(t *testing.T, pairs ...string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dpkgStatus(packages ...string) string {
	var b strings.Builder
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "=")
		b.WriteString("Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n")
	}
	return b.String()
}

const commentTemplate = `images:
  web:
    builders:
      docker: { image: "REGISTRY/base:1", platform: linux/amd64 }
    config: { cmd: [serve] }
    publish:
      - repository: REGISTRY/acme/web
        tags: [auto]
`

const statusFile = "var/lib/dpkg/status"

// twoBases pushes two base images that share their lowest layer, and bakes the
// first on the branch main. It returns the digest of the shared layer.
func (s *watchedSite) twoBases() string {
	s.t.Helper()
	below := filesLayer(s.t, "etc/os-release", "ID=test\n", statusFile, dpkgStatus("libc6=2.41"))
	s.push("base:1", "amd64", below, filesLayer(s.t, statusFile, dpkgStatus("libc6=2.41", "curl=8.1", "libssl3=3.5.1")))
	s.push("base:2", "amd64", below, filesLayer(s.t, statusFile, dpkgStatus("libc6=2.41", "libssl3=3.5.4", "tzdata=2026a", "x|y`@z=1")))
	s.push("base:3", "amd64", below, filesLayer(s.t, statusFile, dpkgStatus("libc6=2.41", "libssl3=3.5.4", "tzdata=2026a")))
	s.onMain(nil)
	digest, err := below.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	return digest.String()
}

func (s *watchedSite) onMain(inputs map[string]string) {
	s.t.Helper()
	if inputs == nil {
		inputs = map[string]string{"TEMPLATE": commentTemplate}
	}
	wantExit(s.t, s.run(map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_SHA": strings.Repeat("b", 40)}, inputs,
		`{"ref": "refs/heads/main", "after": "`+strings.Repeat("b", 40)+`", "repository": {"full_name": "acme/web", "default_branch": "main"}}`), 0)
	s.told(nil)
}

// opened runs the action on a pull request with a base image, and returns the comment.
func (s *watchedSite) opened(base string, inputs map[string]string) (runner.Result, string) {
	s.t.Helper()
	sha := strings.Repeat("a1", 20)
	s.api.AddPull("acme/web", githubtest.Pull{Number: 7, HeadRepo: "acme/web", HeadRef: "topic", HeadSHA: sha, BaseRef: "main", Author: "octocat"})
	env, event := pull("opened", sha, "acme/web")
	if inputs == nil {
		inputs = map[string]string{}
	}
	if inputs["TEMPLATE"] == "" {
		inputs["TEMPLATE"] = strings.Replace(commentTemplate, "base:1", base, 1)
	}
	r := s.run(env, inputs, event)
	comments := s.api.Comments("acme/web", 7)
	if len(comments) != 1 {
		s.t.Fatalf("%d comments:\n%s", len(comments), r.Raw)
	}
	return r, comments[0].Body
}

func wantIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// commentCompared: what changed against the image of the base branch, and only
// what is needed is fetched for it.
func commentCompared(t *testing.T) {
	s := newWatchedSite(t)
	shared := s.twoBases()
	r, body := s.opened("base:3", nil)
	wantExit(t, r, 0)
	for _, text := range []string{body, r.Summary} {
		wantIn(t, text, "Against `main`", "| 🔄 | `libssl3` | `3.5.1` | `3.5.4` |", "| ➕ | `tzdata` |  | `2026a` |", "| ➖ | `curl` | `8.1` |  |",
			"3 packages, 1 added, 1 removed, 1 changed", "docker run --rm -p 8080:8080 "+s.registry+"/acme/web@sha256:", "docker pull "+s.registry)
	}
	if n := s.asked("/manifests/main"); n != 1 {
		t.Errorf("the base branch's image was asked for %d times", n)
	}
	if n := s.asked("acme/web/blobs/" + shared); n != 0 {
		t.Errorf("the layer that both share was fetched %d times", n)
	}

	r, body = s.opened("base:1", nil)
	wantExit(t, r, 0)
	wantIn(t, body, "no package changed", "same files")

	s.told(nil)
	r, body = s.opened("base:2", nil) // whose database has a name that is none
	wantExit(t, r, 0)
	wantIn(t, body, "Against `main`")
	wantIn(t, r.Raw, "is not one")
	if strings.Contains(body, "x|y") {
		t.Errorf("a name that is none is shown:\n%s", body)
	}
}

// commentNew: on the base branch there is no such image.
func commentNew(t *testing.T) {
	s := newWatchedSite(t)
	s.twoBases()
	_, body := s.opened("base:1", map[string]string{"TEMPLATE": strings.Replace(commentTemplate, "acme/web", "acme/other", 1)})
	wantIn(t, body, "| new |", "Against `main`")
}

// commentRefused: nothing is said of what the registry does not tell, and one
// line for who looks for it.
func commentRefused(t *testing.T) {
	s := newWatchedSite(t)
	s.twoBases()
	s.told(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/manifests/main") {
			return http.StatusForbidden
		}
		return 0
	})
	r, body := s.opened("base:3", nil)
	wantExit(t, r, 0)
	if strings.Contains(body, "Against") || strings.Contains(body, "| new |") {
		t.Errorf("a change that is not known:\n%s", body)
	}
	n := 0
	for _, c := range r.Commands {
		if c.Name == "debug" && strings.HasPrefix(c.Data, "comparison: ") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d debug lines:\n%s", n, r.Raw)
	}
}

// commentFork: reading is allowed to everybody, with what everybody has.
func commentFork(t *testing.T) {
	s := newWatchedSite(t)
	s.twoBases()
	env, event := pull("opened", strings.Repeat("a1", 20), "stranger/web")
	r := s.run(env, map[string]string{"TEMPLATE": strings.Replace(commentTemplate, "base:1", "base:3", 1)}, event)
	wantExit(t, r, 0)
	wantIn(t, r.Summary, "`libssl3`")
	if s.asked("base/blobs/") == 0 {
		t.Error("the layers of what was not pushed are where its base is from")
	}
	if len(*s.writes) > 0 {
		t.Errorf("the registry was written to: %q", *s.writes)
	}
}

// commentPlatforms: each image of an index is compared with the one of its
// platform, and only the index is offered to be run.
func commentPlatforms(t *testing.T) {
	s := newWatchedSite(t)
	base := func(tag string, amd64, arm64 v1.Layer) {
		var members []mutate.IndexAddendum
		for arch, l := range map[string]v1.Layer{"amd64": amd64, "arm64": arm64} {
			s.push("one:"+arch, arch, l)
			ref, _ := name.ParseReference(s.registry + "/one:" + arch)
			img, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			members = append(members, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
		ref, _ := name.ParseReference(s.registry + "/" + tag)
		if err := remote.WriteIndex(ref, mutate.AppendManifests(empty.Index, members...)); err != nil {
			t.Fatal(err)
		}
	}
	one := filesLayer(t, statusFile, dpkgStatus("a=1"))
	base("base:1", one, one)
	base("base:2", one, filesLayer(t, statusFile, dpkgStatus("a=2")))
	template := func(tag string) map[string]string {
		return map[string]string{"TEMPLATE": strings.Replace(strings.Replace(commentTemplate, "base:1", tag, 1), ", platform: linux/amd64", "", 1), "platforms": "linux/amd64,linux/arm64"}
	}
	s.onMain(template("base:1"))
	r, body := s.opened("", template("base:2"))
	wantExit(t, r, 0)
	wantIn(t, body, "| 🔄 | `a` | `1` | `2` |", "same files", "`linux/amd64, linux/arm64`")
	if n := strings.Count(body, "docker run"); n != 1 {
		t.Errorf("%d commands to run:\n%s", n, body)
	}
}

// commentShared: layers that both images have are read where the others do not
// tell everything, and only there.
func commentShared(t *testing.T) {
	s := newWatchedSite(t)
	below := filesLayer(t, statusFile, dpkgStatus("libc6=2.41"))
	s.push("base:1", "amd64", below)
	s.push("base:2", "amd64", below, filesLayer(t, "etc/hello", "hello"))
	s.push("base:3", "amd64", below, filesLayer(t, statusFile, dpkgStatus("libc6=2.41", "tzdata=2026a")))
	s.onMain(nil)
	digest, err := below.Digest()
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{"tags": "type=ref,event=branch\ntype=ref,event=pr", "TEMPLATE": strings.Replace(commentTemplate, "base:1", "base:2", 1)}
	_, body := s.opened("", rules)
	wantIn(t, body, "no package changed", "(+")
	if n := s.asked("/blobs/" + digest.String()); n != 0 {
		t.Errorf("a layer that tells nothing new was fetched %d times", n)
	}
	_, body = s.opened("base:3", nil)
	wantIn(t, body, "2 packages, 1 added", "`tzdata`")
	if strings.Contains(body, "`libc6`") {
		t.Errorf("a package that did not change:\n%s", body)
	}
	if n := s.asked("/blobs/" + digest.String()); n != 1 {
		t.Errorf("the shared layer was fetched %d times", n)
	}
}

// commentMoved: a tag that the run itself has moved is no image of the base
// branch.
func commentMoved(t *testing.T) {
	s := newWatchedSite(t)
	s.push("base:1", "amd64", filesLayer(t, "a", "b"))
	r, body := s.opened("", map[string]string{"TEMPLATE": strings.Replace(commentTemplate, "[auto]", "[stable]", 1)})
	wantExit(t, r, 0)
	if strings.Contains(body, "Against") {
		t.Errorf("an image is compared with itself:\n%s", body)
	}
}
