//go:build engine

package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compressionTemplate has a stage, and a file that a later layer removes.
const compressionTemplate = `
variables: { base: {}, registry: {}, compression: {}, greeting: { default: hello } }
images:
  stage:
    builders: { docker: { image: "${var.base}" } }
    compression: "${var.compression}"
    provisioners:
      - shell: { inline: [ "seq 1 500000 > /srv/numbers", "truncate -s 100M /srv/zeros", "useradd -m app" ] }
      - file: { source: file, destination: /srv/file }
  web:
    from: stage
    compression: "${var.compression}"
    config: { cmd: [cat, /srv/greeting] }
    provisioners:
      - shell: { inline: [ "rm /srv/zeros", "tail -n 1 /srv/numbers > /srv/last", "chown app /srv/file" ] }
      - shell: { inline: [ "echo ${var.greeting} $(cat /srv/last) > /srv/greeting" ] }
    publish: [ { repository: "${var.registry}/${var.compression}", tags: [latest] } ]
`

// An image with layers of zstd is the one with layers of gzip, on every engine and
// from the cache; it loads into engines that know no zstd, and other tools read it.
func TestCompression(t *testing.T) {
	t.Parallel()
	needTools(t, "zstd", "docker")
	s := newSite(t)
	blobs := t.TempDir()
	server := httptest.NewServer(newRegistry(blobs))
	t.Cleanup(server.Close)
	registry := server.Listener.Addr().String()
	base := pushBase(t, s, registry)
	dir := write(t, map[string]string{"imgbake.yaml": compressionTemplate, "file": strings.Repeat("content\n", 1000)})
	bake := func(t *testing.T, s site, compression string, args ...string) record {
		t.Helper()
		return s.build(t, dir, append(args, "-var", "base="+base, "-var", "registry="+registry, "-var", "compression="+compression)...)
	}
	alone := newSite(t)
	first := bake(t, alone, "zstd", "--engine=oci", "--load=false")
	changed := bake(t, alone, "zstd", "--engine=oci", "--load=false", "-var", "greeting=hi") // goes on behind layers of zstd
	for name, again := range map[string]record{
		"from the cache": bake(t, alone, "zstd", "--engine=oci", "--load=false"),
		"in a chroot":    bake(t, newSite(t), "zstd", "--engine=oci", "--load=false", "--isolation=chroot"),
		"on an engine":   bake(t, s, "zstd", "--load=false"),
	} {
		if diff := cmp.Diff(first.digests(), again.digests()); diff != "" {
			t.Errorf("%s (-first +now):\n%s", name, diff)
		}
	}
	anew := bake(t, newSite(t), "zstd", "--engine=oci", "--load=false", "-var", "greeting=hi")
	if diff := cmp.Diff(changed.digests(), anew.digests()); diff != "" {
		t.Errorf("resumed (-resumed +anew):\n%s", diff)
	}

	bake(t, alone, "zstd", "--engine=oci", "--load=false")
	bake(t, alone, "gzip", "--engine=oci", "--load=false")
	zstd, gzip := manifestAt(t, registry, "zstd"), manifestAt(t, registry, "gzip")
	if zstd.Config.Digest != gzip.Config.Digest || len(zstd.Layers) != 5 {
		t.Errorf("the image is %+v with zstd, and %+v with gzip", zstd, gzip)
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(blobAt(t, blobs, zstd.Config.Digest), &config); err != nil {
		t.Fatal(err)
	}
	for i, l := range zstd.Layers[1:] { // the first is the base's
		if !strings.HasSuffix(l.MediaType, "tar+zstd") {
			t.Errorf("layer %d is a %s", i+1, l.MediaType)
		}
		unpack := exec.Command("zstd", "-dc")
		unpack.Stdin = strings.NewReader(string(blobAt(t, blobs, l.Digest)))
		plain, err := unpack.Output()
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(plain)); err != nil || got != config.RootFS.DiffIDs[i+1] {
			t.Errorf("layer %d unpacked by zstd is %s, %v, want %s", i+1, got, err, config.RootFS.DiffIDs[i+1])
		}
	}

	archive := filepath.Join(t.TempDir(), "web.tar")
	bake(t, alone, "zstd", "--engine=oci", "--only=web.docker", "--load=false", "--output", "type=docker,dest="+archive)
	if out, err := exec.Command("docker", "-H", s.host, "load", "-i", archive).CombinedOutput(); err != nil {
		t.Fatalf("docker load: %v\n%s", err, out)
	}
	runs(t, s, registry+"/zstd:latest", "hello 500000")
	loaded := bake(t, alone, "zstd", "--engine=oci", "--load=true")
	for _, b := range loaded.Bakes {
		if b.Name == "web.docker" {
			runs(t, s, b.Artifacts[0].EngineID, "hello 500000")
		}
	}
}

type manifest struct {
	Config struct{ Digest string }
	Layers []struct{ MediaType, Digest string }
}

func manifestAt(t *testing.T, registry, repository string) (m manifest) {
	t.Helper()
	resp, err := http.Get("http://" + registry + "/v2/" + repository + "/manifests/latest")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return m
}

func blobAt(t *testing.T, dir, digest string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, strings.Replace(digest, ":", "/", 1)))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// runs runs an image that the engine has.
func runs(t *testing.T, s site, image, want string) {
	t.Helper()
	out, err := exec.Command("docker", "-H", s.host, "run", "--rm", "--network=none", image).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("docker run %s: %v, %q, want %q", image, err, out, want)
	}
}
