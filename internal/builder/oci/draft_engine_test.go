//go:build engine

package oci_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/builder/oci"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/store"
)

func TestMain(m *testing.M) {
	if sandbox.Is(os.Args) {
		os.Exit(sandbox.Main())
	}
	if guest.Is(os.Args) {
		os.Exit(guest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// missing skips a test, or fails it where everything must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("IMGBAKE_REQUIRE") == "all" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

func newBaker(t *testing.T) *oci.Baker {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return oci.New(oci.Deps{Store: s})
}

func newBuilder(t *testing.T, b *oci.Baker, rootfs string) bake.Builder {
	t.Helper()
	body := map[string]any{"rootfs": rootfs}
	if rootfs == "" {
		body = map[string]any{} // from another image
	}
	made, err := b.Kind().New(baketest.Body(body))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newJob(t *testing.T, files bool) bake.Job { return newJobFrom(t, files, nil) }

func newJobFrom(t *testing.T, files bool, from *bake.Artifact) bake.Job {
	epoch := time.Unix(1_700_000_000, 0)
	return bake.Job{From: from, RunID: "test", Name: "t", Type: "oci", Epoch: &epoch, Dir: t.TempDir(), Files: files, Each: true, Notify: func(text string) { t.Log(text) }}
}

func start(t *testing.T, b bake.Builder, job bake.Job) bake.Machine {
	t.Helper()
	m, err := b.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Machines keep what they promise, whether a sandbox is there at once or not
// before something needs one.
func TestSuite(t *testing.T) {
	base := debian(t)
	for _, files := range []bool{false, true} {
		t.Run(fmt.Sprintf("files %t", files), func(t *testing.T) {
			b := newBaker(t)
			baketest.BuilderSuite(t, baketest.BuilderOptions{
				New:          func(t *testing.T) (bake.Builder, bake.Job) { return newBuilder(t, b, base), newJob(t, files) },
				Communicator: baketest.CommunicatorOptions{Root: true, User: "www-data"},
			})
		})
	}
}

func debian(t *testing.T) string {
	t.Helper()
	base := os.Getenv("IMGBAKE_TEST_ROOTFS")
	if base == "" {
		missing(t, "IMGBAKE_TEST_ROOTFS, a tar of a Debian root file system")
	}
	return base
}

// oddBase is an image with what makes a difference to files put into it, below /x.
func oddBase(t *testing.T, baker *oci.Baker) *bake.Artifact {
	t.Helper()
	old := time.Unix(1_500_000_000, 0)
	header := func(kind byte, name, to string, mode int64) baketest.File {
		return baketest.File{Header: tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: mode, ModTime: old}}
	}
	file := func(name, content string) baketest.File {
		f := header(tar.TypeReg, name, "", 0o644)
		f.Content = content
		return f
	}
	dir := func(name string, mode int64) baketest.File { return header(tar.TypeDir, name+"/", "", mode) }
	link := func(name, to string) baketest.File { return header(tar.TypeSymlink, name, to, 0o777) }
	hard := func(name, to string) baketest.File { return header(tar.TypeLink, name, to, 0o644) }
	m := start(t, newBuilder(t, baker, debian(t)), newJob(t, false))
	content := baketest.Tar(
		dir("a", 0o755), file("a/a", "0"), file("a/b", "same"), dir("b", 0o700), link("b/b", "../a"), dir("c", 0o2775), dir("c/c", 0o755),
		link("d", "a"), link("e", "nowhere/else"), link("f", "/x/b/b"), link("g", "h"), link("h", "g"), file("i", "x"), hard("j", "i"), hard("k", "i"),
		link("l", "a/.."), link("m", "/etc"), link("o", "/proc"),
	)
	if err := m.Communicator().Put(t.Context(), "/x", bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: "odd"})
	if err != nil {
		t.Fatal(err)
	}
	return &a
}

// one is a tar and where it is put.
type one struct {
	dst string
	tar []byte
}

// randomPut makes tars of few names, so that they often meet what is there.
func randomPut(r *rand.Rand) one {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "i", "j", "k", "l", "m", "n", "o", "a-a", "hosts"}
	name := func() string {
		p := names[r.IntN(len(names))]
		for r.IntN(3) > 0 {
			p = path.Join(p, names[r.IntN(len(names))])
		}
		return p
	}
	owner := []int{0, 0, 0, 33, 70_000}
	modes := []int64{0o644, 0o755, 0o600, 0o4755, 0o2775, 0o1777, 0o000}
	var files []baketest.File
	for range 1 + r.IntN(8) {
		h := tar.Header{Name: name(), Mode: modes[r.IntN(len(modes))], Uid: owner[r.IntN(len(owner))], Gid: owner[r.IntN(len(owner))],
			ModTime: time.Unix(1_400_000_000+int64(r.IntN(5))*100_000_000, int64(r.IntN(2))*500)}
		f := baketest.File{Header: h}
		switch r.IntN(12) {
		case 0, 1, 2:
			f.Typeflag = tar.TypeDir
			f.Name += "/"
			if r.IntN(8) == 0 {
				f.Name = "./"
			}
		case 3:
			f.Typeflag, f.Linkname = tar.TypeSymlink, []string{"a", "../a", "/x/b/b", "nowhere", name()}[r.IntN(5)]
		case 4:
			f.Typeflag, f.Linkname = tar.TypeLink, name()
			if n := len(files); n > 0 && r.IntN(4) > 0 {
				f.Linkname = files[r.IntN(n)].Name
			}
		case 5:
			if r.IntN(4) == 0 {
				f.Typeflag = tar.TypeFifo
				break
			}
			f.PAXRecords = map[string]string{"SCHILY.xattr.user.color": "blue"}
			f.Content = "with an attribute"
		default:
			f.Content = []string{"0", "same", "x", "", strings.Repeat("long ", 100_000)}[r.IntN(5)]
		}
		files = append(files, f)
	}
	dsts := []string{"/", "/x", "/x", "/x", "/x/a", "/x/b/b", "/x/d", "/x/l/l", "/x/m", "/new/er", "/var/log", "/tmp", "/x/c/x", "/x/c", "/etc", "/x/f", "/x/e", "/proc", "/x/i/x", "/x/" + name()}
	return one{dsts[r.IntN(len(dsts))], baketest.Tar(files...)}
}

// step is what one step did: whether it could be done, and the digests of what
// it recorded.
type step struct {
	Failed    bool
	Published string
	Rest      string
	Removed   []string
	Partial   bool
}

// carryOut puts tars and commits after some of them.
func carryOut(t *testing.T, m bake.Machine, puts []one, commits []bool) []step {
	var steps []step
	for i, p := range puts {
		err := m.Communicator().Put(t.Context(), p.dst, bytes.NewReader(p.tar))
		if err != nil {
			t.Logf("put %d: %v", i, err)
		}
		s := step{Failed: err != nil}
		if commits[i] || err != nil {
			failed := s.Failed
			s = committed(t, m, fmt.Sprint(i))
			s.Failed = failed
		}
		steps = append(steps, s)
	}
	return steps
}

func committed(t *testing.T, m bake.Machine, name string) step {
	t.Helper()
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: name})
	if err != nil {
		t.Fatalf("commit %s: %v", name, err)
	}
	made := a.Steps[len(a.Steps)-1]
	return step{Published: digestOf(t, made.Layer), Rest: digestOf(t, made.Rest), Removed: made.Removed, Partial: made.Partial}
}

func digestOf(t *testing.T, l v1.Layer) string {
	if l == nil {
		return ""
	}
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// Without a sandbox files make the layers that they make in one, to the byte,
// whatever is put where.
func TestDraftSameDigest(t *testing.T) {
	baker := newBaker(t)
	base := oddBase(t, baker)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		var puts []one
		var commits []bool
		for range 1 + r.IntN(5) {
			puts, commits = append(puts, randomPut(r)), append(commits, r.IntN(3) > 0)
		}
		commits[len(commits)-1] = true
		want := carryOut(t, start(t, newBuilder(t, baker, ""), newJobFrom(t, false, base)), puts, commits)
		got := carryOut(t, start(t, newBuilder(t, baker, ""), newJobFrom(t, true, base)), puts, commits)
		if diff := cmp.Diff(want, got); diff != "" {
			for i, p := range puts {
				files, _ := baketest.Untar(bytes.NewReader(p.tar))
				t.Logf("put %d to %s:", i, p.dst)
				for _, f := range files {
					t.Logf("  %c %q -> %q %o %d:%d %d bytes", f.Typeflag, f.Name, f.Linkname, f.Mode, f.Uid, f.Gid, f.Size)
				}
			}
			t.Fatalf("seed %d: with a sandbox (-) and without (+):\n%s", seed, diff)
		}
	}
}

// So they do where there is nothing yet, not even the directories that a machine
// needs for itself.
func TestDraftFromScratch(t *testing.T) {
	baker := newBaker(t)
	commit := func(files bool) step {
		b, err := baker.Kind().New(baketest.Body(map[string]any{"scratch": true}))
		if err != nil {
			t.Fatal(err)
		}
		return committed(t, start(t, b, newJob(t, files)), "nothing")
	}
	if diff := cmp.Diff(commit(false), commit(true)); diff != "" {
		t.Errorf("with a sandbox (-) and without (+):\n%s", diff)
	}
}

// Files go into an image on a machine that allows no sandbox, and what is there
// can be asked.
func TestDraftWithoutSandbox(t *testing.T) {
	baker := newBaker(t)
	base := oddBase(t, baker)
	work := filepath.Join(oci.Dir(baker), "roots", "0", "work", "*")
	before, _ := filepath.Glob(work)
	m := start(t, newBuilder(t, baker, ""), newJobFrom(t, true, base))
	c := m.Communicator()
	get := func(name string) string {
		stream, err := c.Get(t.Context(), name)
		if err != nil {
			return err.Error()
		}
		defer stream.Close()
		files, err := baketest.Untar(stream)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %d files, %v", name, len(files), err)
		}
		return files[0].Name + "=" + files[0].Content
	}
	if got := get("/x/d/b"); got != "b=same" {
		t.Errorf("a file of the base: %q", got)
	}
	if _, err := c.Get(t.Context(), "/n/o"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	put := baketest.Tar(baketest.File{Header: tar.Header{Name: "b", Mode: 0o644}, Content: "new"})
	if err := c.Put(t.Context(), "/x/f", bytes.NewReader(put)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/x/a/b", "/x/f/b"} {
		if got := get(name); got != "b=new" {
			t.Errorf("%s, put before: %q", name, got)
		}
	}
	if stream, err := c.Get(t.Context(), "/x/a"); err != nil {
		t.Error(err)
	} else if err := stream.Close(); err != nil {
		t.Error(err)
	}
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: "files"})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Steps) != 1 || a.Steps[0].Layer == nil || a.Steps[0].Rest != nil {
		t.Errorf("steps: %+v", a.Steps)
	}
	if after, _ := filepath.Glob(work); len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("a sandbox was started: %v, before %v", after, before)
	}
}

// A stage may start from what an earlier one filled with zeros. An image from
// elsewhere that unpacks to so much more than it is, is refused.
func TestZeros(t *testing.T) {
	baker := newBaker(t)
	m := start(t, newBuilder(t, baker, debian(t)), newJob(t, false))
	if status, err := m.Communicator().Exec(t.Context(), bake.Cmd{Args: []string{"truncate", "-s", "1G", "/zeros"}}); err != nil || status != 0 {
		t.Fatal(status, err)
	}
	a, err := m.Commit(t.Context(), bake.LayerInfo{CreatedBy: "zeros"})
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []bool{false, true} {
		start(t, newBuilder(t, baker, ""), newJobFrom(t, files, &a))
	}
	layers, err := a.Image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	bomb, err := layers[len(layers)-1].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer bomb.Close()
	name := filepath.Join(t.TempDir(), "bomb.tar.gz")
	content, err := io.ReadAll(bomb)
	if err == nil {
		err = os.WriteFile(name, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []bool{false, true} {
		m, err := newBuilder(t, newBaker(t), name).Start(t.Context(), newJob(t, files))
		if !errors.Is(err, layer.ErrLimit) {
			t.Errorf("files %t: %v", files, err)
		}
		if err == nil {
			m.Close()
		}
	}
}
