//go:build engine

package registry

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// installed is the path of a program.
func installed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("IMGBAKE_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skipf("%v: install docker-registry and apache2-utils", err)
	}
	return path
}

func debianRegistry(t *testing.T) string {
	t.Helper()
	return installed(t, "docker-registry")
}

// startRegistry runs Debian's docker-registry, with a password file if user is
// given, and returns its host.
func startRegistry(t *testing.T, user, pass string) string {
	t.Helper()
	return startProgram(t, debianRegistry(t), user, pass, false)
}

// startProgram runs a registry of distribution's, which deletes if it may.
func startProgram(t *testing.T, program, user, pass string, mayDelete bool) string {
	t.Helper()
	dir := t.TempDir()
	auth := ""
	if user != "" {
		users, err := exec.Command(installed(t, "htpasswd"), "-Bbn", user, pass).Output()
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "htpasswd"), string(users), 0o600)
		auth = fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", dir)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: %t}}\nhttp: {addr: '%s', secret: x}\n%s", dir, mayDelete, addr, auth)
	writeFile(t, filepath.Join(dir, "config.yml"), config, 0o600)
	cmd := exec.Command(program, "serve", filepath.Join(dir, "config.yml"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // another process: nothing to wait on but its port
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer: %s", program, log.String())
		}
	}
}

// TestRealRegistry pushes, mounts, tags and pulls with basic authentication.
func TestRealRegistry(t *testing.T) {
	host := startRegistry(t, "bot", "geheim")
	f := &fixture{}
	c := f.client(t, withAuth(host, "bot", "geheim"))
	repo, err := name.NewRepository(host + "/acme/web")
	if err != nil {
		t.Fatal(err)
	}
	img := randomImage(t, 5<<20, 3)
	stats, err := c.Push(t.Context(), repo, img, Auth{})
	if err != nil || stats.Uploaded < 15<<20 {
		t.Fatalf("push %+v, %v", stats, err)
	}
	targets := []Target{{Tag: repo.Tag("1")}, {Tag: repo.Tag("latest")}}
	if err := c.Tag(t.Context(), img, targets...); err != nil {
		t.Fatal(err)
	}
	if got, err := f.pull(t, c, repo.Tag("latest")); err != nil || got != digestOf(t, img) {
		t.Errorf("pull %v, %v", got, err)
	}
	other, _ := name.NewRepository(host + "/acme/other")
	stats, err = c.Push(t.Context(), other, img, Auth{})
	if err != nil || stats.Uploaded != 0 || stats.Mounted == 0 {
		t.Errorf("push to another repository %+v, %v", stats, err)
	}
	fresh := f.client(t, withAuth(host, "bot", "geheim"))
	stats, err = fresh.Push(t.Context(), repo, img, Auth{})
	if err != nil || stats.Uploaded != 0 || stats.Mounted != 0 {
		t.Errorf("push again %+v, %v", stats, err)
	}
	_, err = f.client(t).Head(t.Context(), repo.Tag("1"), Auth{})
	wantError(t, err, "401 unauthorized", "no credentials for "+host)
	if len(f.notes) > 0 {
		t.Errorf("notes %q", f.notes)
	}
}

// onDisk is an image whose compressed layers are files.
func onDisk(t *testing.T, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, img)
	out, err := path.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPushSpeed reports what pushing 60 MB takes that are compressed on disk
// already: cold, again and mounted.
func TestPushSpeed(t *testing.T) {
	host := startRegistry(t, "", "")
	img := onDisk(t, 20<<20)
	f := &fixture{}
	for i, label := range []string{"cold", "again", "mounted"} {
		repo, _ := name.NewRepository(host + "/" + []string{"a", "a", "b"}[i])
		c := f.client(t)
		start := time.Now()
		from, _ := name.NewRepository(host + "/a")
		stats, err := c.Push(t.Context(), repo, img, Auth{}, from)
		if err == nil {
			err = c.Tag(t.Context(), img, Target{Tag: repo.Tag("1")})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v %+v", label, time.Since(start).Round(time.Millisecond), stats)
	}
}
