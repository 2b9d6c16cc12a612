//go:build engine

package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mountsTemplate has every type of mount, on paths that the base has and on some
// that it has not. What the steps see is part of the image.
const mountsTemplate = `
variables: { base: {}, token: { sensitive: true }, cache: {} }
images:
  web:
    builders: { docker: { image: "${var.base}" } }
    provisioners: &steps
      - shell:
          inline:
            - mkdir -p /srv/data; echo own > /srv/data/file; echo own > /etc/token; ln -s /srv /via
      - shell:
          mounts:
            - { type: secret, id: token, value: "${var.token}", uid: 33, mode: 0440 }
            - { type: secret, target: /etc/token, value: "x${var.token}" }
            - { type: cache, target: /root/.cache/new/deep, id: "${var.cache}", mode: 0750 }
            - { type: tmpfs, target: /via/data, mode: 0700, size: 1m }
            - { type: ssh }
          inline:
            - sha256sum /run/secrets/token /etc/token > /srv/seen
            - stat -c '%n %a %u %g %F' /run/secrets /run/secrets/token /etc/token /srv/data $SSH_AUTH_SOCK /root/.cache /root/.cache/new/deep >> /srv/seen
            - ls -A /srv/data >> /srv/seen; echo x > /srv/data/gone
            - perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; print $s "hello\n"; print <$s>' >> /srv/seen
            - echo more >> /root/.cache/new/deep/file; wc -l < /root/.cache/new/deep/file > /tmp/lines; cat /tmp/lines
            - mkdir /run/secrets/stays; echo "$SSH_AUTH_SOCK" >> /srv/seen
      - shell:
          inline:
            - cat /srv/data/file /etc/token > /srv/after; echo "agent $SSH_AUTH_SOCK" >> /srv/after
            - ls -A /srv/data /run /run/secrets /root/.cache >> /srv/after 2>&1 || true
  squashed:
    builders: { docker: { image: "${var.base}" } }
    layers: squash
    provisioners: *steps
`

// P1 with mounts: a Docker Engine and both isolations without one show the same
// to the step that asks for it, and leave the same.
func TestMountsSameDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := httptest.NewServer(newRegistry(t.TempDir()))
	t.Cleanup(server.Close)
	base := pushBase(t, s, server.Listener.Addr().String())
	dir := write(t, map[string]string{"imgbake.yaml": mountsTemplate})
	cache := "e2e/" + rand.Text()
	t.Cleanup(func() { removeCache(t, s.host, cache) })
	agent := answering(t)
	secrets := filepath.Join(t.TempDir(), "secrets.json") // a command line is there for all to see
	token, err := json.Marshal(map[string]string{"token": canaries["plain"]})
	if err := errors.Join(err, os.WriteFile(secrets, token, 0o600)); err != nil {
		t.Fatal(err)
	}

	bake := func(t *testing.T, args ...string) map[string]string {
		t.Helper()
		s := newSite(t)
		s.env = []string{"SSH_AUTH_SOCK=" + agent}
		args = append(args, "--load=false", "-var", "base="+base, "-var-file", secrets, "-var", "cache="+cache)
		r := s.build(t, dir, args...)
		searchFiles(t, nil, s.cache)
		return r.digests()
	}
	want := bake(t)
	for name, args := range map[string][]string{
		"again on the engine": nil, // where the cache now has something
		"without an engine":   {"--engine=oci"},
		"in a chroot":         {"--engine=oci", "--isolation=chroot"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, bake(t, args...)); diff != "" {
				t.Errorf("-first +now:\n%s", diff)
			}
		})
	}
}

// answering is the socket of somebody who repeats the first line.
func answering(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			n, _ := conn.Read(buf)
			fmt.Fprintf(conn, "you said %s", buf[:n])
			conn.Close()
		}
	}()
	return name
}

// removeCache removes the volume of a cache, which must be there.
func removeCache(t *testing.T, host, id string) {
	t.Helper()
	var list struct{ Volumes []struct{ Name string } }
	filter := url.QueryEscape(`{"label":["dev.imgbake.cache=` + id + `"]}`)
	if err := api(context.Background(), host, http.MethodGet, "/volumes?filters="+filter, nil, &list); err != nil || len(list.Volumes) != 1 {
		t.Errorf("%d volumes for the cache, %v", len(list.Volumes), err)
	}
	for _, v := range list.Volumes {
		if err := api(context.Background(), host, http.MethodDelete, "/volumes/"+v.Name, nil, nil); err != nil {
			t.Error(err)
		}
	}
}
