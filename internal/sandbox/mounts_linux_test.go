//go:build engine

package sandbox_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

const canary = "canary-value-5f1d"

var isolations = []string{sandbox.Namespaces, sandbox.Chroot}

// tree is what a step may notice of the tree. The folders that hold mounts are
// looked into.
const listing = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /.imgbake \\) -prune -o -printf '%p %y %m %U %G %l\\n' | sort"

// What is mounted for a step is there, with owner and mode, and then gone with
// all that was made for it.
func TestMounts(t *testing.T) {
	for _, isolation := range isolations {
		t.Run(isolation, func(t *testing.T) {
			m := start(t, sandbox.Options{Isolation: isolation, Shared: t.TempDir()})
			sh(t, m, "mkdir /mnt/old; echo was > /mnt/old/file; echo before > /etc/there")
			before := sh(t, m, listing)
			for _, mount := range []sandbox.Mount{
				{Target: "/run/secrets/x", File: true, Mode: 0o400, UID: 33, GID: 34},
				{Target: "/etc/there", File: true, Mode: 0o440},
				{Target: "/mnt/old", Options: "mode=0700,size=1m", Mode: 0o700},
				{Target: "/var/run/new/dir", Options: "mode=0755", Mode: 0o755}, // through a link
			} {
				if err := m.Mount(t.Context(), mount, strings.NewReader(canary)); err != nil {
					t.Fatal(err)
				}
			}
			got := sh(t, m, "cat /run/secrets/x /etc/there; echo; stat -c '%a %u %g' /run/secrets/x /etc/there /mnt/old; ls /mnt/old | wc -l; echo x > /mnt/old/y; touch /run/new/dir/z")
			want := canary + canary + "\n400 33 34\n440 0 0\n700 0 0\n0"
			if got != want {
				t.Errorf("inside: %q, want %q", got, want)
			}
			if err := m.Unmount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := sh(t, m, listing); got != before {
				t.Errorf("left:\n%s", firstDifference(before, got))
			}
			if got := sh(t, m, "cat /etc/there /mnt/old/file; ls /mnt/old"); got != "before\nwas\nfile" {
				t.Errorf("what was there is now %q", got)
			}
			index, err := layer.IndexOf(t.Context(), rootfs(t).Open)
			if err != nil {
				t.Fatal(err)
			}
			var delta bytes.Buffer
			if err := m.Delta(t.Context(), index, &delta); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(delta.Bytes(), []byte(canary)) || strings.Contains(list(delta.Bytes()), "run/secrets") {
				t.Errorf("the difference has it:\n%s", list(delta.Bytes()))
			}
		})
	}
}

func firstDifference(a, b string) string {
	in := map[string]bool{}
	for line := range strings.Lines(a) {
		in[strings.TrimSpace(line)] = true
	}
	var out []string
	for line := range strings.Lines(b) {
		if line = strings.TrimSpace(line); !in[line] {
			out = append(out, "+"+line)
		}
		delete(in, line)
	}
	for line := range in {
		out = append(out, "-"+line)
	}
	return strings.Join(out, "\n")
}

// A shared folder keeps what one step puts there, and no other step sees it.
func TestSharedMount(t *testing.T) {
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "other"), []byte(canary), 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, sandbox.Options{Isolation: sandbox.Namespaces, Shared: shared})
	if err := m.Mount(t.Context(), sandbox.Mount{Target: "/root/.cache", Shared: "cache", Mode: 0o750, UID: 5}, nil); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "stat -c '%a %u' /root/.cache | grep '^750 5$'; echo kept > /root/.cache/file")
	if err := m.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "test ! -e /root/.cache")
	if got := sh(t, m, "ls -a /.imgbake/shared; ls /proc/1/fd /proc/1/root 2>/dev/null || true"); strings.Contains(got, "root") || strings.Contains(got, "other") {
		t.Errorf("the shared folder is seen: %s", got)
	}
	status, err := m.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "umount /.imgbake/shared || cat /.imgbake/shared/root/other"}})
	if err != nil || status == 0 {
		t.Errorf("the shared folder can be uncovered: status %d, %v", status, err)
	}
	if got, err := os.ReadFile(filepath.Join(shared, "cache", "file")); string(got) != "kept\n" {
		t.Errorf("shared: %q, %v", got, err)
	}
	for _, bad := range []string{"../x", "/etc", ".."} {
		if err := m.Mount(t.Context(), sandbox.Mount{Target: "/mnt", Shared: bad}, nil); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// A socket leads to the listener, whoever runs the step.
func TestListen(t *testing.T) {
	for _, isolation := range isolations {
		t.Run(isolation, func(t *testing.T) {
			m := start(t, sandbox.Options{Isolation: isolation})
			l, err := m.Listen(t.Context(), "/run/agent/a.sock")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					line, _ := bufio.NewReader(conn).ReadString('\n')
					fmt.Fprintf(conn, "got %s", line)
					conn.Close()
				}
			}()
			const client = `perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new("/run/agent/a.sock") or die "$!"; print $s "hello\n"; print <$s>'`
			if got := sh(t, m, client+"; su -s /bin/sh nobody -c "+shellQuote(client)); got != "got hello\ngot hello" {
				t.Errorf("answers: %q", got)
			}
			if err := m.Unmount(t.Context()); err != nil {
				t.Fatal(err)
			}
			sh(t, m, "test ! -e /run/agent")
		})
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// A step that moves the folders around a mount does not keep it.
func TestMovedMount(t *testing.T) {
	m := start(t, sandbox.Options{Isolation: sandbox.Namespaces})
	sh(t, m, "mkdir /srv/a")
	if err := m.Mount(t.Context(), sandbox.Mount{Target: "/srv/a/secret", File: true, Mode: 0o400}, strings.NewReader(canary)); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "mv /srv/a /srv/b; cat /srv/b/secret")
	if err := m.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, m, "cat /srv/b/secret"); got != "" {
		t.Errorf("still there: %q", got)
	}
}
