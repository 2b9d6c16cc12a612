//go:build engine

package docker_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/secret"
)

const canary = "canary-value-8b2e"

// listing is what a step may notice of the tree.
const listing = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /.imgbake \\) -prune -o -printf '%p %y %m %U %G %l\\n' | sort"

// withMounts is a job whose steps have these mounts.
func withMounts(t *testing.T, mounts ...bake.Mount) bake.Job {
	j := job(t)
	j.Mounts = mounts
	return j
}

// show mounts and gives the end of that.
func show(t *testing.T, m bake.Machine, mounts ...bake.Mount) (unmount func()) {
	t.Helper()
	end, err := m.(bake.Mounter).Mount(t.Context(), mounts)
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	return func() {
		t.Helper()
		if err := end(); err != nil {
			t.Fatalf("unmount: %v", err)
		}
	}
}

func secretAt(target string, mode fs.FileMode) bake.Mount {
	return bake.Mount{Type: bake.MountSecret, Target: target, Content: secret.New(canary), UID: 33, GID: 34, Mode: mode}
}

// What is mounted for a step is there, with owner and mode, and then gone with
// all that was made for it. Nothing of it is in the layer, nor told by the engine.
func TestMounts(t *testing.T) {
	e := newEngine(t)
	mounts := []bake.Mount{
		secretAt("/run/secrets/x", 0o400),
		secretAt("/etc/there", 0o440),
		{Type: bake.MountTmpfs, Target: "/mnt/old", Mode: 0o700, UID: 5, Size: 1 << 20},
		{Type: bake.MountTmpfs, Target: "/var/run/new/dir", Mode: 0o755}, // through a link
	}
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, withMounts(t, mounts...))
	sh(t, m, "mkdir /mnt/old; echo was > /mnt/old/file; echo before > /etc/there; mkdir -p /run/lock")
	commit(t, m, "before")
	before := sh(t, m, listing)

	unmount := show(t, m, mounts...)
	for script, want := range map[string]string{
		"cat /run/secrets/x /etc/there":                                   canary + canary,
		"stat -c '%a %u %g' /run/secrets/x /mnt/old /run/new/dir":         "400 33 34\n700 5 0\n755 0 0\n",
		"ls -A /mnt/old; echo $(df -B1 --output=size /mnt/old | tail -1)": "1048576\n",
		"(echo x > /run/secrets/x) 2>/dev/null || echo no":                "no\n",
		"mknod /run/new/dir/n c 1 3; cat /run/new/dir/n || echo no":       "cat: /run/new/dir/n: Permission denied\nno\n",
		"ls /proc/*/root/.imgbake/shared 2>/dev/null || echo no":          "no\n",
	} {
		if got := sh(t, m, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	sh(t, m, "echo x > /mnt/old/y; touch /run/new/dir/z; mkdir /mnt/made")
	told := engineTells(t, "test-"+t.Name())
	unmount()

	if got := sh(t, m, "rmdir /mnt/made; "+listing); got != before {
		t.Errorf("-before +after:\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(got, "\n")))
	}
	if got := sh(t, m, "cat /etc/there /mnt/old/file; ls /mnt/old; touch /etc/done"); got != "before\nwas\nfile\n" {
		t.Errorf("what was there is now %q", got)
	}
	a := commit(t, m, "after")
	for name := range entries(t, a.Image) {
		if name != "etc" && name != "etc/done" {
			t.Errorf("the layer has %s", name)
		}
	}
	if raw := wholeImage(t, a.Image) + told; strings.Contains(raw, canary) {
		t.Errorf("the secret is in the image, or the engine tells it")
	}
}

// engineTells is all that the engine says of a run's containers and of volumes,
// and what it exports of the containers.
func engineTells(t *testing.T, run string) string {
	t.Helper()
	api := rawClient(t)
	var all bytes.Buffer
	list, err := api.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "dev.imgbake.run="+run))})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d containers, %v", len(list), err)
	}
	for _, c := range list {
		_, raw, err := api.ContainerInspectWithRaw(t.Context(), c.ID, true)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
		content, err := api.ContainerExport(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(c.Names[0], "-mounts") { // the first one's export shows what is mounted there just now
			_, err = io.Copy(&all, content)
		}
		content.Close()
		if err != nil {
			t.Fatal(err)
		}
		top, err := api.ContainerTop(t.Context(), c.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, top.Processes)
	}
	volumes, err := api.VolumeList(t.Context(), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = json.NewEncoder(&all).Encode(volumes)
	return all.String()
}

// wholeImage is an image's configuration and the layers above the base.
func wholeImage(t *testing.T, img v1.Image) string {
	t.Helper()
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.NewBuffer(raw)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers[1:] {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(all, content); err != nil {
			t.Fatal(err)
		}
		content.Close()
	}
	return all.String()
}

// A cache keeps what a step put there, for every machine that asks for it.
func TestCacheMount(t *testing.T) {
	e := newEngine(t)
	id := "test/" + t.Name()
	api := rawClient(t)
	volumes := func() []*volume.Volume {
		list, err := api.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "dev.imgbake.cache="+id))})
		if err != nil {
			t.Fatal(err)
		}
		return list.Volumes
	}
	t.Cleanup(func() {
		list, err := api.VolumeList(context.Background(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "dev.imgbake.cache="+id))})
		if err != nil || len(list.Volumes) != 1 {
			t.Errorf("%d volumes, %v", len(list.Volumes), err)
		}
		for _, v := range list.Volumes {
			api.VolumeRemove(context.Background(), v.Name, true)
		}
	})
	cache := bake.Mount{Type: bake.MountCache, Target: "/root/.cache", ID: id, UID: 5, Mode: 0o750}
	use := func(script, want string) {
		t.Helper()
		m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, withMounts(t, cache))
		unmount := show(t, m, cache)
		if got := sh(t, m, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
		unmount()
		if got := sh(t, m, "ls -a /root/.cache 2>/dev/null || echo gone"); got != "gone\n" {
			t.Errorf("afterwards: %s", got)
		}
		a := commit(t, m, "step")
		if layers, _ := a.Image.Layers(); len(layers) != 1 {
			t.Errorf("there is a layer: %v", entries(t, a.Image))
		}
	}
	use("stat -c '%a %u' /root/.cache; ls -A /root/.cache; echo kept > /root/.cache/file", "750 5\n")
	removed, err := e.Reap(t.Context())
	if err != nil || strings.Contains(strings.Join(removed, " "), "cache") || len(volumes()) != 1 {
		t.Errorf("reaped %v, %v; %d volumes", removed, err, len(volumes()))
	}
	cache.UID, cache.Target = 6, "/mnt"
	use("stat -c '%a %u' /mnt; cat /mnt/file; touch /mnt/-", "750 5\nkept\n")
}

// A socket leads to one of this machine, for several who use it at once.
func TestSSHMount(t *testing.T) {
	e := newEngine(t)
	agent := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", agent)
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
			go func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				lines.Buffer(nil, 1<<20)
				for lines.Scan() {
					fmt.Fprintf(conn, "%d %s\n", len(lines.Text()), lines.Text())
				}
			}()
		}
	}()
	socket := bake.Mount{Type: bake.MountSSH, Target: "/run/agent/a.sock", Mode: 0o755, Socket: agent}
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, withMounts(t, socket))
	unmount := show(t, m, socket)
	const client = `perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new("/run/agent/a.sock") or die "$!"; for my $n (1, 7, 200000) { print $s "x" x $n, "\n"; my $r = <$s>; $r eq "$n " . "x" x $n . "\n" or die length $r; } print "good\n"'`
	script := "(" + client + ") & (" + client + ") & su -s /bin/sh nobody -c \"$C\"; wait"
	if got := sh(t, m, "C="+quoted(client)+"; "+script); got != "good\ngood\ngood\n" {
		t.Errorf("clients: %q", got)
	}
	unmount()
	if got := sh(t, m, "ls /run/agent 2>/dev/null || echo gone"); got != "gone\n" {
		t.Errorf("afterwards: %s", got)
	}
	// Nobody answers: the step sees the end of its connection.
	l.Close()
	unmount = show(t, m, socket)
	defer unmount()
	if got := sh(t, m, `perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new("/run/agent/a.sock") or die "$!"; print defined <$s> ? "answer" : "end"'`); got != "end" {
		t.Errorf("without an agent: %q", got)
	}
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// What cannot be mounted is an error that names it, and leaves nothing behind.
func TestMountProblems(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, withMounts(t))
	sh(t, m, "ln -s /no/where /etc/dangling; ln -s /proc/self/fd /etc/fds; mkdir -p /run/lock")
	before := sh(t, m, listing)
	for target, want := range map[string]string{
		"/etc":          "mount at /etc: there is a folder",
		"/etc/dangling": "no such file or directory",
		"/etc/fds/3":    "too many levels of symbolic links",
		"/etc/passwd/x": "not a directory",
	} {
		_, err := m.(bake.Mounter).Mount(t.Context(), []bake.Mount{secretAt("/run/secrets/new", 0o400), secretAt(target, 0o400)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", target, err, want)
		}
	}
	if got := sh(t, m, listing); got != before {
		t.Errorf("-before +after:\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(got, "\n")))
	}
	show(t, m, secretAt("/run/secrets/new", 0o400))()
}

// A step that ends every process it can see ends what shows the mounts too. The
// mounts are then lost, and no commit takes the machine for sound.
func TestMountsLost(t *testing.T) {
	e := newEngine(t)
	m := machine(t, e, map[string]any{"rootfs": rootfs(t)}, withMounts(t))
	end, err := m.(bake.Mounter).Mount(t.Context(), []bake.Mount{secretAt("/run/secrets/x", 0o400)})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "kill -9 -1; sleep 60"}}); err == nil && status == 0 {
		t.Error("the step lived on")
	}
	if err := end(); err == nil {
		t.Error("the mounts are said to have ended")
	}
	if _, err := m.(bake.Mounter).Mount(t.Context(), []bake.Mount{secretAt("/run/secrets/x", 0o400)}); err == nil {
		t.Error("mounted again")
	}
	if _, err := m.Commit(t.Context(), bake.LayerInfo{}); err == nil {
		t.Error("committed")
	}
}
