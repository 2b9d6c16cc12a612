//go:build engine

package e2e_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// P1: same inputs, same digest. Every image of the staged template and of
// testdata/small is baked on the given engine twice, with nothing cached, and
// on a second engine with another storage driver on what is as good as another
// machine: its network namespace. There, apt goes out by NAT.
func TestSameInputsSameDigest(t *testing.T) {
	t.Parallel()
	here := newSite(t)
	var info struct{ Driver string }
	if err := api(t.Context(), here.host, http.MethodGet, "/info", nil, &info); err != nil {
		t.Fatal(err)
	}
	driver := "vfs"
	if info.Driver == "vfs" {
		driver = "overlay2"
	}
	netns := privateNetwork(t)
	there := site{host: privateEngine(t, netns, driver), cache: t.TempDir(), netns: netns}
	registry, dir := registryInBoth(t, netns)
	small := smallTemplate(t)

	base := pushBase(t, here, registry)
	bakeAll := func(t *testing.T, s site, more ...string) map[string]record {
		args := append([]string{"-var", "base=" + base, "-var", "registry=" + registry}, more...)
		return map[string]record{
			"web":   s.build(t, "../../templates/web", append(args, "-var", "version=1.0.0")...),
			"small": s.build(t, small, append(args, "-load=false")...),
		}
	}
	var first, again, elsewhere, alone, chroot, hits map[string]record
	t.Run("bake", func(t *testing.T) {
		t.Run("first", func(t *testing.T) { t.Parallel(); first = bakeAll(t, here) })
		t.Run("again", func(t *testing.T) { t.Parallel(); again = bakeAll(t, newSite(t)) })
		t.Run("elsewhere", func(t *testing.T) { t.Parallel(); elsewhere = bakeAll(t, there) })
		t.Run("without an engine", func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			alone = bakeAll(t, s, "--engine=oci", "--load=false")
			hits = bakeAll(t, s, "--engine=oci", "--load=false") // every step from the cache
		})
		t.Run("in a chroot", func(t *testing.T) {
			t.Parallel()
			chroot = bakeAll(t, newSite(t), "--engine=oci", "--load=false", "--isolation=chroot")
		})
	})
	if t.Failed() {
		return
	}
	layers := blobs{dir, map[string]map[string]file{}}
	for template, images := range map[string]int{"web": 4, "small": 12} {
		if got := len(first[template].digests()); got != images {
			t.Errorf("%s: %d images, want %d", template, got, images)
		}
		t.Run(template+" on the same engine", func(t *testing.T) { sameImages(t, layers, first[template], again[template]) })
		t.Run(template+" without an engine", func(t *testing.T) { sameImages(t, layers, first[template], alone[template]) })
		t.Run(template+" from the cache", func(t *testing.T) { sameImages(t, layers, first[template], hits[template]) })
		t.Run(template+" in a chroot", func(t *testing.T) { sameImages(t, layers, first[template], chroot[template]) })
		t.Run(template+" on "+driver, func(t *testing.T) { sameImages(t, layers, first[template], elsewhere[template]) })
	}
	t.Run("noise", func(t *testing.T) { testNoise(t, layers, first["web"], first["small"]) })
	t.Run("trees", func(t *testing.T) { testTrees(t, layers, first["small"]) })
	t.Run("run", func(t *testing.T) {
		testRuns(t, here, "", registry+"/web:1.0.0")
		testRuns(t, there, netns, registry+"/web:1.0.0")
	})
	t.Run("history", func(t *testing.T) { testHistory(t, here.host, registry+"/web:1.0.0") })
}

// sameImages compares digests; where they differ, it says what does.
func sameImages(t *testing.T, b blobs, first, other record) {
	for i, x := range first.Bakes {
		y := other.Bakes[i]
		if x.Name != y.Name || x.Artifacts[0].Digest != y.Artifacts[0].Digest {
			t.Errorf("%s is %s first, then %s is %s", x.Name, x.Artifacts[0].Digest, y.Name, y.Artifacts[0].Digest)
		}
		layers, others := x.Artifacts[0].Layers, y.Artifacts[0].Layers
		if len(layers) != len(others) {
			t.Errorf("%s has %d layers first, then %d", x.Name, len(layers), len(others))
			continue
		}
		for n := range layers {
			if layers[n] != others[n] {
				t.Errorf("%s, layer %d (-first +other):\n%s", x.Name, n, cmp.Diff(b.layer(t, layers[n]), b.layer(t, others[n])))
			}
		}
	}
}

// registryInBoth serves one registry under one address in this network
// namespace and in another one.
func registryInBoth(t *testing.T, netns string) (host, dir string) {
	t.Helper()
	dir = t.TempDir()
	handler := newRegistry(dir)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	host = server.Listener.Addr().String()
	inside := &http.Server{Handler: handler}
	listener := listenIn(t, netns, host)
	go inside.Serve(listener)
	t.Cleanup(func() { inside.Close() })
	return host, dir
}

// smallTemplate is testdata/small with the program it uploads.
func smallTemplate(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/small")); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(filepath.Join(dir, "attrs"), "./testdata/attrs"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// noise is what no layer may have, written down apart from the program's own
// list. Directories may be there; below these, nothing is.
var noise = []string{
	"dev/", "proc/", "sys/", "tmp/", "run/", "var/tmp/", ".dockerenv", ".imgbake",
	"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab",
	"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "var/lib/dpkg/status-old",
	"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/systemd/random-seed", "root/.bash_history",
	"var/cache/apt/", "var/lib/apt/lists/", "var/cache/ldconfig/aux-cache", "var/cache/man/", "var/cache/debconf/config.dat-old",
	"var/log/apt/", "var/log/dpkg.log", "var/log/alternatives.log",
}

// testNoise holds P3: what is published carries no noise.
func testNoise(t *testing.T, store blobs, records ...record) {
	var seen int
	for _, r := range records {
		for _, b := range r.Bakes {
			layers := b.Artifacts[0].Layers
			for _, l := range layers[1:] { // the first is the root file system given
				for name, f := range store.layer(t, l) {
					seen++
					if b.Name == "kept.docker" && (name == "tmp/keep" || strings.HasPrefix(name, "var/cache/apt/archives/")) {
						continue
					}
					if i := slices.IndexFunc(noise, func(n string) bool { return isNoise(n, name, f) }); i >= 0 {
						t.Errorf("%s: %s has /%s", b.Name, l, name)
					}
					if (strings.HasPrefix(name, "var/log/") || name == "etc/machine-id" && b.Name != "kept.docker") && f.Size > 0 {
						t.Errorf("%s: %s has %d bytes of /%s", b.Name, l, f.Size, name)
					}
				}
			}
		}
		for _, b := range r.Bakes {
			if b.Name == "noise.docker" {
				removed := strings.Join(b.Artifacts[0].Removed, "\n")
				for _, name := range []string{"/etc/ssh/ssh_host_rsa_key", "/root/.bash_history", "/var/cache/ldconfig/aux-cache", "/tmp/t", "/run/t"} {
					if !strings.Contains(removed, name) {
						t.Errorf("the removal of %s is not reported in:\n%s", name, removed)
					}
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d entries in all layers", seen)
	}
}

func isNoise(pattern, name string, f file) bool {
	if below, ok := strings.CutSuffix(pattern, "/"); ok {
		return strings.HasPrefix(name, below+"/") && f.Type != tar.TypeDir
	}
	return name == pattern || strings.HasPrefix(name, pattern+"/")
}

// file is what a layer says of a path.
type file struct {
	Type     byte
	Mode     int64
	UID, GID int
	Link     string
	Size     int64
	Digest   [32]byte
	Mtime    time.Time
	Attrs    map[string]string
}

// blobs reads layers as they are in the registry, each once.
type blobs struct {
	dir  string
	seen map[string]map[string]file
}

// layer is what a layer says of each path, whiteouts included.
func (b blobs) layer(t *testing.T, digest string) map[string]file {
	t.Helper()
	if b.seen[digest] == nil {
		b.seen[digest] = readLayer(t, filepath.Join(b.dir, strings.Replace(digest, ":", "/", 1)))
	}
	return maps.Clone(b.seen[digest])
}

func readLayer(t *testing.T, digest string) map[string]file {
	t.Helper()
	blob, err := os.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	z, err := gzip.NewReader(blob)
	if err != nil {
		t.Fatalf("%s: %v", digest, err)
	}
	files := map[string]file{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatalf("%s: %v", digest, err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			t.Fatalf("%s: %s: %v", digest, h.Name, err)
		}
		attrs := map[string]string{}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				attrs[name] = fmt.Sprintf("%x", value)
			}
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if _, twice := files[name]; twice {
			t.Errorf("%s has %s twice", digest, name)
		}
		files[name] = file{h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, h.Size, [32]byte(sum.Sum(nil)), h.ModTime.UTC(), attrs}
	}
}

// tree lays an image's layers upon each other. A hard link becomes what it
// links to.
func (b blobs) tree(t *testing.T, layers []string) map[string]file {
	t.Helper()
	tree := map[string]file{}
	for _, l := range layers {
		changes := b.layer(t, l)
		for name, f := range changes {
			dir, base := filepath.Split(name)
			if gone, ok := strings.CutPrefix(base, ".wh."); ok {
				remove(tree, dir+gone)
				delete(changes, name)
			} else if f.Type != tar.TypeDir {
				remove(tree, name)
			}
		}
		maps.Copy(tree, changes)
		for name, f := range changes {
			if f.Type == tar.TypeLink {
				tree[name] = tree[f.Link]
			}
		}
	}
	return tree
}

func remove(tree map[string]file, name string) {
	f, there := tree[name]
	delete(tree, name)
	if !there || f.Type != tar.TypeDir {
		return
	}
	maps.DeleteFunc(tree, func(p string, _ file) bool { return strings.HasPrefix(p, name+"/") })
}

// testTrees looks into the images of testdata/small.
func testTrees(t *testing.T, store blobs, r record) {
	trees, own := map[string]map[string]file{}, map[string]map[string]file{}
	var base map[string]file
	for _, b := range r.Bakes {
		name, _, _ := strings.Cut(b.Name, ".")
		layers := b.Artifacts[0].Layers
		if base == nil {
			base = store.tree(t, layers[:1])
		}
		trees[name] = store.tree(t, layers)
		own[name] = store.tree(t, layers[1:]) // what the bake wrote, over nothing
	}
	epoch := base["etc/debian_version"].Mtime
	for _, c := range []struct {
		image, path string
		want        func(f file, there bool) bool
	}{
		{"users", "etc/passwd", func(f file, _ bool) bool { return f.Digest != base["etc/passwd"].Digest }},
		{"users", "home/alice", func(f file, _ bool) bool { return f.UID == 4001 && f.GID == 4000 }},
		{"users", "srv/alice", func(f file, _ bool) bool { return f.Mode&0o7777 == 0o2750 && f.UID == 4001 }},
		{"attributes", "usr/local/bin/capable", attr("security.capability", "0100000200040000000000000000000000000000")},
		{"attributes", "srv/a", attr("user.comment", "68656c6c6f")},
		{"attributes", "srv/a/f", attr("user.raw", "00ff")},
		{"attributes", "srv/a/f", func(f file, _ bool) bool { return strings.Contains(f.Attrs["system.posix_acl_access"], "d2040000") }},
		{"attributes", "etc/debian_version", attr("user.only", "01")},
		{"links", "srv/l/dangling", func(f file, _ bool) bool { return f.Type == tar.TypeSymlink && f.Link == "/etc" }},
		{"links", "srv/l/up", func(f file, _ bool) bool { return f.Link == "../../../../../../etc/passwd" }},
		{"links", "srv/l/one", absent},
		{"links", "srv/l/three", func(f file, _ bool) bool { return f.Size == 4 }},
		{"links", "srv/l/version", func(f file, _ bool) bool { return f.Digest == base["etc/debian_version"].Digest }},
		{"replaced", "usr/share/doc/apt", absent},
		{"replaced", "usr/share/doc/again", func(f file, _ bool) bool { return f.Type == tar.TypeDir }},
		{"replaced", "etc/skel/.bashrc", absent},
		{"replaced", "etc/skel/new", absent},
		{"replaced", "etc/skel", func(f file, _ bool) bool { return f.Type == tar.TypeDir }},
		{"replaced", "etc/issue", func(f file, _ bool) bool { return f.Type == tar.TypeDir }},
		{"replaced", "etc/profile.d", func(f file, _ bool) bool { return f.Type == tar.TypeReg }},
		{"replaced", "etc/opt", absent},
		{"replaced", "etc/opt.moved", func(f file, _ bool) bool { return f.Type == tar.TypeDir }},
		{"replaced", "etc/issue.net", func(f file, _ bool) bool { return f.Type == tar.TypeSymlink }},
		{"edited", "etc/debian_version", func(f file, _ bool) bool {
			was := base["etc/debian_version"]
			return f.Digest != was.Digest && f.Size == was.Size && f.Mtime.Equal(was.Mtime)
		}},
		{"edited", "etc/issue", func(f file, _ bool) bool { return f.Mode&0o7777 == 0o600 }},
		{"edited", "etc/issue.net", func(f file, _ bool) bool { return f.UID == 1 && f.GID == 4321 }},
		{"edited", "srv", func(f file, _ bool) bool { return f.Mode&0o7777 == 0o1777 }},
		{"edited", "srv/old", func(f file, _ bool) bool { return f.Mtime.Equal(time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)) }},
		{"edited", "srv/now", func(f file, _ bool) bool {
			return !f.Mtime.After(time.Now().Add(-24*time.Hour)) && !f.Mtime.Before(epoch)
		}},
		{"handed", "srv/all", func(f file, _ bool) bool { return f.Size == int64(len("a\nb\nc\nlog\n")) }},
		{"handed", "tmp/a", absent},
		{"noise", "srv/run/socket", absent},
		{"noise", "srv/run/file", func(f file, _ bool) bool { return f.Size == 5 }},
		{"noise", "etc/machine-id", func(f file, there bool) bool { return !there || f.Size == 0 }},
		{"kept", "etc/machine-id", func(f file, _ bool) bool { return f.Size == 3 }},
		{"kept", "var/cache/apt/archives/x.deb", func(f file, _ bool) bool { return f.Size == 4 }},
		{"kept", "tmp/keep", func(f file, _ bool) bool { return f.Size == 2 }},
		{"kept", "tmp/lost", absent},
		{"many", "srv/m/d/300", func(f file, _ bool) bool { return f.Type == tar.TypeDir }},
		{"many", "srv/m/d/300/f", absent},
		{"many", "srv/m/sparse", func(f file, _ bool) bool { return f.Size == 5<<20 }},
		{"many", "srv/m/fifo", func(f file, _ bool) bool { return f.Type == tar.TypeFifo }},
		{"many", "srv/m/\377\376 odd\tname", func(f file, there bool) bool { return there && f.Type == tar.TypeReg }},
		{"copied", "srv/tree/bin/run", func(f file, _ bool) bool { return f.Mode&0o7777 == 0o755 && f.UID == 4001 && f.GID == 4000 }},
		{"copied", "srv/tree/x.skip", absent},
		{"copied", "srv/from-links/three", func(f file, _ bool) bool { return f.Size == 4 }},
	} {
		f, there := trees[c.image][c.path]
		if !c.want(f, there) {
			t.Errorf("%s: /%s: there %t: %+v", c.image, c.path, there, f)
		}
	}
	for _, p := range []string{"opt", "etc/host.conf", "usr"} {
		if f, there := own["edited"][p]; there {
			t.Errorf("edited: /%s did not change, but is in a layer: %+v", p, f)
		}
	}
	if diff := cmp.Diff(trees["stepped"], trees["squashed"]); diff != "" {
		t.Errorf("steps in one layer make another tree (-stepped +squashed):\n%s", diff)
	}
}

func absent(_ file, there bool) bool { return !there }

func attr(name, value string) func(file, bool) bool {
	return func(f file, _ bool) bool { return f.Attrs[name] == value }
}

// testRuns runs the web image as docker run does, and asks it.
func testRuns(t *testing.T, s site, netns, image string) {
	t.Helper()
	var made struct{ ID string }
	port := map[string]any{"8080/tcp": []map[string]string{{"HostIp": "127.0.0.1", "HostPort": ""}}}
	config := map[string]any{"Image": image, "HostConfig": map[string]any{"PortBindings": port}}
	if err := api(t.Context(), s.host, http.MethodPost, "/containers/create", config, &made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api(context.Background(), s.host, http.MethodDelete, "/containers/"+made.ID+"?force=1", nil, nil); err != nil {
			t.Error(err)
		}
	})
	if err := api(t.Context(), s.host, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	var info struct {
		NetworkSettings struct {
			Ports map[string][]struct{ HostPort string }
		}
	}
	if err := api(t.Context(), s.host, http.MethodGet, "/containers/"+made.ID+"/json", nil, &info); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
		if netns == "" {
			return net.Dial(network, address)
		}
		inside := inNetns(netns, func() error { conn, err = net.Dial(network, address); return nil })
		return conn, errors.Join(inside, err)
	}}}
	url := "http://127.0.0.1:" + info.NetworkSettings.Ports["8080/tcp"][0].HostPort
	for path, want := range map[string]string{"/": "<html", "/cgi-bin/status": `{"service":"web","version":"1.0.0","status":"ok"}`} {
		var got string
		eventually(t, 20*time.Second, "the web image answers "+path, func() bool {
			resp, err := client.Get(url + path)
			if err != nil {
				got = err.Error()
				return false
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			got = string(body)
			return resp.StatusCode == http.StatusOK
		})
		if !strings.Contains(got, want) {
			t.Errorf("%s answers %q, want %q in it", path, got, want)
		}
	}
}

// testHistory holds what docker history shows to be readable: newest first,
// one line a step that says what was done.
func testHistory(t *testing.T, host, image string) {
	var history []struct {
		CreatedBy string
		Size      int64
	}
	if err := api(t.Context(), host, http.MethodGet, "/images/"+image+"/history", nil, &history); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, h := range history {
		lines = append(lines, h.CreatedBy)
	}
	all, at := strings.Join(lines, "\n"), 0
	for _, want := range []string{"version", "app/", "apt-get", "scripts/harden.sh", "apt-get"} {
		i := strings.Index(all[at:], want)
		if i < 0 {
			t.Fatalf("no %q, in this order, in the history:\n%s", want, all)
		}
		at += i + len(want)
	}
	for _, line := range lines {
		if line == "" || len(line) > 200 || strings.ContainsAny(line, "\n\x00") {
			t.Errorf("a line of the history nobody can read: %q", line)
		}
	}
}
