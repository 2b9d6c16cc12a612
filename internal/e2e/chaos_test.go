//go:build engine

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newDen is a site without any engine, a real registry, and the folder of a
// template there with two stages, the second one twice. Each value of the
// variable n makes other images.
func newDen(t *testing.T) (s site, registry, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root is needed to bake without an engine")
	}
	tinyFrom = rootfs(t)
	registry = dockerRegistry(t)
	tinyBase(t, registry+"/tiny:1")
	dir = write(t, map[string]string{"file.txt": "content", "imgbake.yaml": strings.ReplaceAll(`
variables:
  n: { default: "" }
images:
  base:
    builders: { oci: { image: "REGISTRY/tiny:1" } }
    provisioners:
      - shell: { inline: ["echo ${var.n} > /base; echo left > /tmp/left"] }
      - file: { source: file.txt, destination: /srv/file.txt }
      - shell: { inline: ["cat /tmp/left > /srv/left"] }
    publish: [{ repository: REGISTRY/base, tags: [latest] }]
  left:
    from: base
    provisioners:
      - shell: { inline: ["cat /srv/left > /left"] }
      - shell: { inline: ["mkdir /d; cat /base > /d/left"] }
    publish: [{ repository: REGISTRY/left, tags: [latest] }]
  right:
    from: base
    provisioners: [{ shell: { inline: ["head -c 3000000 /dev/zero > /right"] } }]
    publish: [{ repository: REGISTRY/right, tags: [latest] }]
`, "REGISTRY", registry)})
	return newLair(t), registry, dir
}

// newLair is a site without any engine, with an empty cache.
func newLair(t *testing.T) site {
	t.Helper()
	s := site{cache: mkdir(t, t.TempDir(), "cache")}
	s.env = []string{"TMPDIR=" + s.tmp()}
	if err := os.Mkdir(s.tmp(), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// withoutEngine are the arguments of a bake of the n-th images.
func withoutEngine(n int, more ...string) []string {
	return append([]string{"--engine=oci", "--load=false", "-var", fmt.Sprintf("n=%d", n)}, more...)
}

// clean checks that nothing of a bake is left but its results, once what it
// was killed with had the time to end.
func (s site) clean(t *testing.T) {
	t.Helper()
	eventually(t, 10*time.Second, "all processes end", func() bool { return len(s.processes()) == 0 })
	for _, dir := range []string{s.tmp(), filepath.Join(s.cache, "tmp"), filepath.Join(s.cache, "roots", "0", "work")} {
		left, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range left {
			t.Errorf("left in %s: %s", dir, e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(s.cache)) {
		t.Errorf("something is mounted below %s:\n%s", s.cache, mounts)
	}
}

// whole checks every blob of the store against its name.
func (s site) whole(t *testing.T) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(s.cache, "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("no blobs in the store: %v", err)
	}
	for _, blob := range blobs {
		data, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != filepath.Base(blob) {
			t.Errorf("blob %s is damaged", filepath.Base(blob))
		}
	}
}

// A SIGKILL at any moment of a staged, parallel bake costs time only: the next
// bake makes the right images, and nothing is left of the one before.
func TestChaos(t *testing.T) {
	s, registry, dir := newDen(t)
	undisturbed := newLair(t)
	undisturbed.build(t, dir, withoutEngine(-1)...) // fetches and unpacks the base
	began := time.Now()
	undisturbed.build(t, dir, withoutEngine(-2)...)
	typical := time.Since(began)
	random := rand.New(rand.NewPCG(1, 1))
	killed := 0
	for n := range 50 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			after := time.Duration(random.Float64() * float64(typical))
			b := begin(t, s, dir, withoutEngine(n)...)
			select {
			case <-time.After(after):
				killed++
			case <-b.ended:
			}
			b.cmd.Process.Kill()
			b.end(10 * time.Second)
			eventually(t, 10*time.Second, "all its processes end", func() bool { return len(s.processes()) == 0 })

			got := s.build(t, dir, withoutEngine(n)...).digests()
			want := undisturbed.build(t, dir, withoutEngine(n, "--no-cache")...).digests()
			if !maps.Equal(got, want) {
				t.Errorf("killed after %s: got %v, want %v", after, got, want)
			}
			for bake, digest := range want {
				image, _, _ := strings.Cut(bake, ".")
				if tagged := tagDigest(t, registry, image, "latest"); tagged != digest {
					t.Errorf("killed after %s: %s:latest is %s, want %s", after, image, tagged, digest)
				}
			}
			s.clean(t)
		})
	}
	if killed < 25 {
		t.Errorf("only %d of 50 bakes were killed", killed)
	}
	s.whole(t)
}

// Two processes that bake the same at once both make it, out of one store.
func TestTwoAtOnce(t *testing.T) {
	s, _, dir := newDen(t)
	t.Parallel()
	for n := range 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			files := []string{filepath.Join(t.TempDir(), "one.json"), filepath.Join(t.TempDir(), "two.json")}
			var bakings []*baking
			for _, file := range files {
				bakings = append(bakings, begin(t, s, dir, withoutEngine(n, "--record", file)...))
			}
			for _, b := range bakings {
				if code := b.end(time.Minute); code != 0 {
					t.Fatalf("exit code %d", code)
				}
			}
			one, two := readRecord(t, files[0]).digests(), readRecord(t, files[1]).digests()
			if len(one) != 3 || !maps.Equal(one, two) {
				t.Errorf("got %v and %v", one, two)
			}
		})
	}
	s.clean(t)
	s.whole(t)
}

// Whatever file of the store is cut, empty, changed or gone, the next bake
// makes the right images, and mends what it used.
func TestDamagedStore(t *testing.T) {
	s, _, dir := newDen(t)
	t.Parallel()
	want := s.build(t, dir, withoutEngine(1)...).digests()
	undisturbed := newLair(t)
	changed := undisturbed.build(t, dir, withoutEngine(2)...).digests()
	damages := map[string]func([]byte) []byte{
		"cut":     func(data []byte) []byte { return data[:len(data)/2] },
		"empty":   func([]byte) []byte { return nil },
		"changed": func(data []byte) []byte { data[len(data)/2] ^= 4; return data },
	}
	for how, damage := range damages {
		var files []string
		err := filepath.WalkDir(s.cache, func(path string, e fs.DirEntry, err error) error {
			if e.Name() == "roots" {
				return fs.SkipDir
			}
			if e.Type().IsRegular() && e.Name() != "lock" {
				files = append(files, path)
			}
			return err
		})
		if err != nil || len(files) < 10 {
			t.Fatalf("files of the store: %q, %v", files, err)
		}
		for _, file := range files {
			name, _ := filepath.Rel(s.cache, file)
			t.Run(how+"/"+name, func(t *testing.T) {
				data, err := os.ReadFile(file)
				if os.IsNotExist(err) || len(data) == 0 {
					return // an earlier damage made it superfluous
				}
				if err := os.WriteFile(file, damage(bytes.Clone(data)), 0o600); err != nil {
					t.Fatal(err)
				}
				if how == "changed" { // what is unpacked already is not read again
					if err := os.RemoveAll(filepath.Join(s.cache, "roots")); err != nil {
						t.Fatal(err)
					}
				}
				if got := s.build(t, dir, withoutEngine(1)...).digests(); !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				// A changed first step runs on what the store has of the base.
				if got := s.build(t, dir, withoutEngine(2)...).digests(); !maps.Equal(got, changed) {
					t.Errorf("changed: got %v, want %v", got, changed)
				}
			})
		}
	}
}
