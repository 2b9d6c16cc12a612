//go:build engine

package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// An unchanged bake on a fresh machine with a warm registry cache asks little,
// runs nothing and moves no layer; a changed one begins where it changed, and
// both are what a bake without any cache makes.
func TestRegistryCache(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "root is needed to bake without an engine")
	}
	var requests atomic.Int64
	served := newRegistry(t.TempDir())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		served.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	registry := strings.TrimPrefix(server.URL, "http://")
	fresh := func() site { return site{cache: t.TempDir()} }
	base := registry + "/base:1"
	source := write(t, map[string]string{"imgbake.yaml": `
images:
  base:
    builders: { oci: { rootfs: rootfs.tar } }
    publish: [{ repository: ` + registry + `/base, tags: ["1"] }]
`})
	if err := copyFile(filepath.Join(source, "rootfs.tar"), rootfs(t)); err != nil {
		t.Fatal(err)
	}
	fresh().build(t, source, "--load=false")
	dir := write(t, map[string]string{"file.txt": "content", "imgbake.yaml": `
variables:
  last: { default: one }
images:
  web:
    builders: { oci: { image: "` + base + `" } }
    provisioners:
      - shell: { inline: ["useradd app; echo left > /tmp/left"] }
      - file: { source: file.txt, destination: /srv/file.txt }
      - shell: { inline: ["test -e /tmp/left; echo ${var.last} > /srv/last; rm /srv/file.txt"] }
    publish: [{ repository: ` + registry + `/web, tags: [latest] }]
`})
	args := []string{"--load=false", "--cache-from", registry + "/cache", "--cache-to", registry + "/cache"}
	first := fresh().build(t, dir, args...)
	requests.Store(0)
	again := fresh().build(t, dir, args...)
	if got := requests.Load(); got > 6 {
		t.Errorf("%d requests, want at most 6", got)
	}
	changed := fresh().build(t, dir, append(args, "-var", "last=two")...)
	plain := fresh().build(t, dir, "--load=false", "-var", "last=two")
	digest := func(r record) string { return r.Bakes[0].Artifacts[0].Digest }
	if digest(again) != digest(first) {
		t.Errorf("unchanged: got %s, want %s", digest(again), digest(first))
	}
	if digest(changed) != digest(plain) || digest(changed) == digest(first) {
		t.Errorf("changed: got %s, want %s", digest(changed), digest(plain))
	}
	explained := fresh().run(t, dir, "explain", "--cache-from", registry+"/cache")
	if explained.code != 0 || strings.Count(explained.stdout, "  hit   ") != 3 {
		t.Errorf("explain: %+v", explained)
	}
}
