//go:build engine && linux

package layer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		need(t, "root", os.ErrPermission)
	}
}

func upperOf(l *liveTree) string { return filepath.Join(filepath.Dir(l.root), "upper") }

// deltaUpper takes the delta both ways, which must give the same bytes.
func deltaUpper(t *testing.T, l *liveTree, base *Index, opts DeltaOptions) []byte {
	t.Helper()
	want := l.delta(base)
	var got bytes.Buffer
	must(t, DeltaUpper(t.Context(), l.root, upperOf(l), base, opts, &got))
	if !bytes.Equal(got.Bytes(), want) {
		wantLines(t, listTar(t, got.Bytes()), listTar(t, want)...)
		t.Fatal("the upper directory gives another delta than the merged tree")
	}
	return want
}

// settled checks that the tree has the times of the index.
func settled(t *testing.T, l *liveTree, raw *Index) {
	t.Helper()
	times := map[string]int64{}
	for e := range l.scan().All() {
		times[e.Path] = e.ModTime
	}
	for e := range raw.All() {
		if times[e.Path] != e.ModTime {
			t.Errorf("time of %q is %d, want %d", e.Path, times[e.Path], e.ModTime)
		}
	}
}

// Whatever is done to an overlay, in several steps, its upper directory tells
// the same as the merged tree.
func TestDeltaUpperIsDelta(t *testing.T) {
	needRoot(t)
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			lower := newTree(t)
			for range 60 {
				randomEdit(random, lower)
			}
			tree := NewTree(lower.scan())
			l := overlayOf(t, lower, ",redirect_dir=off,metacopy=off,index=off")
			for range 4 {
				opts := DeltaOptions{Since: time.Now().Add(ctimeSlack - 10*time.Millisecond), TrustCtime: true}
				if random.IntN(2) == 0 {
					opts = DeltaOptions{}
				}
				for range 15 {
					randomEdit(random, l)
				}
				publish(t, tree, deltaUpper(t, l, tree.Raw(), opts), Policy{})
				must(t, Settle(t.Context(), l.root, tree.Raw(), SettleOptions{Upper: upperOf(l)}))
				settled(t, l, tree.Raw())
				if rest := listTar(t, deltaUpper(t, l, tree.Raw(), DeltaOptions{})); len(rest) > 0 {
					t.Fatalf("settling changed %q", rest)
				}
			}
		})
	}
}

func TestDeltaUpperCases(t *testing.T) {
	needRoot(t)
	lower := baseTree(t)
	lower.write("a/sub/deep/file", "x")
	lower.write("d/only", "x")
	cases := map[string]func(l *liveTree){
		"nothing":                        func(l *liveTree) {},
		"opaque":                         func(l *liveTree) { l.remove("a"); l.write("a/two", "2"); l.write("a/sub/new", "n") },
		"opaque and emptied":             func(l *liveTree) { l.remove("d"); l.dir("d") },
		"whiteout of a whiteout":         func(l *liveTree) { l.remove("a/one"); l.write("a/one", "n"); l.remove("a/one") },
		"directory to file and back":     func(l *liveTree) { l.remove("a"); l.write("a", "f"); l.remove("a"); l.dir("a"); l.write("a/one", "1") },
		"file to directory and back":     func(l *liveTree) { l.remove("a/one"); l.dir("a/one"); l.remove("a/one"); l.write("a/one", "1") },
		"directory to symlink":           func(l *liveTree) { l.remove("bin"); l.symlink("a", "bin") },
		"rename over a directory":        func(l *liveTree) { l.dir("new"); l.write("new2/f", "x"); l.rename("new2", "new") },
		"rename":                         func(l *liveTree) { l.rename("a", "z") },
		"link edited":                    func(l *liveTree) { l.write("bin/tool2", "new") },
		"first link edited":              func(l *liveTree) { l.write("bin/tool", "new") },
		"link touched":                   func(l *liveTree) { l.touch("bin/tool3", time.Unix(5, 0)) },
		"first link touched":             func(l *liveTree) { l.touch("bin/tool", time.Unix(5, 0)) },
		"link added":                     func(l *liveTree) { l.link("bin/tool", "a/tool") },
		"link removed":                   func(l *liveTree) { l.remove("bin/tool") },
		"links removed with all":         func(l *liveTree) { l.remove("bin") },
		"links removed and one replaced": func(l *liveTree) { l.remove("bin"); l.write("bin/tool2", "tool") },
		"links all over": func(l *liveTree) {
			l.touch("bin/tool2", time.Unix(5, 0))
			l.link("bin/tool3", "x3")
			l.link("bin/tool", "x1")
		},
		"mode and back":               func(l *liveTree) { l.chmod("a/one", 0o600); l.chmod("a/one", 0o644) },
		"root":                        func(l *liveTree) { l.chmod("", 0o700) },
		"helper":                      func(l *liveTree) { l.write(".imgbake/helper", "x") },
		"xattrs":                      func(l *liveTree) { l.xattr("a/one", "user.x", "y"); l.xattr("a/sub", "security.capability", netRaw) },
		"edit with the time restored": editKeepingTime,
		"socket in place of a file": func(l *liveTree) {
			l.remove("a/one")
			must(l.t, unix.Mknod(l.path("a/one"), unix.S_IFSOCK|0o600, 0))
		},
		"devices": func(l *liveTree) {
			l.remove("a/one")
			must(l.t, unix.Mknod(l.path("a/one"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			must(l.t, unix.Mkfifo(l.path("fifo"), 0o600))
		},
	}
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			base := lower.scan()
			l := overlayOf(t, lower, ",redirect_dir=off,metacopy=off,index=off")
			edit(l)
			before := copyOf(lower)
			before.apply(deltaUpper(t, l, base, DeltaOptions{}))
			sameTree(t, before.scan(), l.scan())
		})
	}
}

// What a step made and the next deletes leaves no whiteout; directories made
// by the overlay's user may be renamed, with all their old ctimes.
func TestDeltaUpperSecondStep(t *testing.T) {
	needRoot(t)
	lower := baseTree(t)
	tree := NewTree(lower.scan())
	l := overlayOf(t, lower, ",redirect_dir=off,metacopy=off,index=off")
	l.write("a/new", "1")
	l.write("made/x/f", "first")
	l.write("made/y/f", "other")
	l.write("gone/deep/f", "1")
	publish(t, tree, deltaUpper(t, l, tree.Raw(), DeltaOptions{}), Policy{})
	time.Sleep(20 * time.Millisecond) // the kernel's clock goes on
	since := time.Now().Add(ctimeSlack - 10*time.Millisecond)
	l.remove("a/new")
	l.remove("gone")
	l.rename("made/x", "made/t")
	l.rename("made/y", "made/x")
	l.rename("made/t", "made/y")
	delta := deltaUpper(t, l, tree.Raw(), DeltaOptions{TrustCtime: true, Since: since})
	wantLines(t, listTar(t, delta), "0 a/.wh.new", "0 .wh.gone", "0 made/x/f = other", "0 made/y/f = first")
}

func TestDeltaUpperSkips(t *testing.T) {
	needRoot(t)
	lower := baseTree(t)
	base := lower.scan()
	l := overlayOf(t, lower, ",redirect_dir=off,metacopy=off,index=off")
	l.write("mnt/hidden", "x")
	l.remove("a/sub")
	l.remove("bin/tool")
	l.write("a/one", "new")
	must(t, unix.Mount("tmpfs", l.path("mnt"), "tmpfs", 0, ""))
	defer unix.Unmount(l.path("mnt"), 0)
	l.write("mnt/not-ours", "x")
	opts := DeltaOptions{Skip: []string{"/a/sub", "bin/tool"}}
	var got, want bytes.Buffer
	must(t, DeltaUpper(t.Context(), l.root, upperOf(l), base, opts, &got))
	must(t, Delta(t.Context(), l.root, base, opts, &want))
	wantLines(t, listTar(t, got.Bytes()), listTar(t, want.Bytes())...)
	wantLines(t, listTar(t, got.Bytes()), "0 a/one = new")
}

func TestDeltaUpperRefusesMetacopy(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		options string
		edit    func(l *liveTree)
	}{
		{",metacopy=on", func(l *liveTree) { l.chmod("a/one", 0o600) }},
		{",redirect_dir=on", func(l *liveTree) { l.rename("a", "z") }},
	} {
		lower := baseTree(t)
		base := lower.scan()
		l := overlayOf(t, lower, c.options)
		c.edit(l)
		err := DeltaUpper(t.Context(), l.root, upperOf(l), base, DeltaOptions{}, &bytes.Buffer{})
		checkError(t, c.options, err, "redirect_dir or metacopy")
	}
}
