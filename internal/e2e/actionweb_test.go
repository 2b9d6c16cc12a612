//go:build engine

package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestPlainContainer bakes the staged template inside of a container that was
// given no right beyond the engine's default ones: without a daemon, mounts or
// namespaces. It gives the images that it gives outside, and they run.
func TestPlainContainer(t *testing.T) {
	needTools(t, "docker")
	host := engineHost(t)
	var network struct {
		IPAM struct{ Config []struct{ Gateway string } }
	}
	if err := api(t.Context(), host, http.MethodGet, "/networks/bridge", nil, &network); err != nil || len(network.IPAM.Config) == 0 {
		missing(t, "the engine's bridge: %v", err)
	}
	address := network.IPAM.Config[0].Gateway
	registry := address + ":" + listenAt(t, address, newRegistry(t.TempDir()))
	outside := site{host: host, cache: t.TempDir()}
	debian := pushDebian(t, outside, registry)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../templates/web")); err != nil {
		t.Fatal(err)
	}
	image := loadImage(t, host, bakeActionImage(t))
	t.Cleanup(func() { docker(t, host, "image", "rm", "--force", image) })

	bake := func(to string) []string {
		return []string{"build", "--engine", "oci", "--plain", "--load=false", "--insecure-registry", registry,
			"-var", "base=" + debian, "-var", "version=1.0.0", "-var", "registry=" + registry + "/" + to, "."}
	}
	log := docker(t, host, append([]string{"run", "--rm", "--volume", dir + ":/src", "--workdir", "/src", "--entrypoint", "/imgbake", image}, bake("inside")...)...)
	if !strings.Contains(log, "using a chroot") {
		t.Errorf("this container has more rights than the default ones:\n%s", log)
	}
	if r := outside.run(t, dir, bake("outside")...); r.code != 0 {
		t.Fatalf("outside: %s%s", r.stdout, r.stderr)
	}
	for _, repository := range []string{"web", "worker"} {
		in, out := headDigest(t, registry+"/inside/"+repository+":1.0.0"), headDigest(t, registry+"/outside/"+repository+":1.0.0")
		if in != out {
			t.Errorf("%s is %s, baked outside %s", repository, in, out)
		}
	}

	web := loadImage(t, host, archiveOf(t, outside, registry, registry+"/inside/web:1.0.0"))
	t.Cleanup(func() { docker(t, host, "image", "rm", "--force", web) })
	const ask = "busybox httpd -p 8080 -h /srv/web && busybox wget -q -O - http://127.0.0.1:8080/"
	if page := docker(t, host, "run", "--rm", web, "sh", "-ec", ask); !strings.Contains(page, "<html") {
		t.Errorf("the image answers %q", page)
	}
}

// docker runs the docker command, which must succeed.
func docker(t *testing.T, host string, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", append([]string{"--host", host}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// pushDebian bakes the small Debian into a registry that is not on loopback.
func pushDebian(t *testing.T, s site, registry string) string {
	t.Helper()
	dir := write(t, map[string]string{"imgbake.yaml": `
images:
  debian:
    builders: { oci: { rootfs: rootfs.tar } }
    config: { cmd: [bash] }
    publish: [{ repository: "` + registry + `/debian", tags: [bookworm-slim] }]
`})
	if err := copyFile(filepath.Join(dir, "rootfs.tar"), rootfs(t)); err != nil {
		t.Fatal(err)
	}
	if r := s.run(t, dir, "build", "--plain", "--load=false", "--insecure-registry", registry); r.code != 0 {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	return registry + "/" + baseRepository
}

// archiveOf pulls an image and returns it as docker save would write it.
func archiveOf(t *testing.T, s site, registry, image string) string {
	t.Helper()
	dir := write(t, map[string]string{"imgbake.yaml": `images: { pulled: { builders: { oci: { image: "` + image + `" } } } }`})
	file := filepath.Join(dir, "image.tar")
	if r := s.run(t, dir, "build", "--plain", "--load=false", "--insecure-registry", registry, "--output", "type=docker,dest="+file); r.code != 0 {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	return file
}

func headDigest(t *testing.T, image string) string {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	return head.Digest.String()
}
