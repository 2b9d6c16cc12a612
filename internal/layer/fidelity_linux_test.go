package layer

import (
	"archive/tar"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// randomHeader is an entry that the ones before may or may not allow.
func randomHeader(random *rand.Rand) tar.Header {
	names := []string{"a", "b", "a/b", "a/a", "a/b/a", "b/a", "c", "a-b", "mine.d/x", "mine"}
	name := func() string { return names[random.IntN(len(names))] }
	h := tar.Header{Name: name(), Mode: int64([]int{0o755, 0o700, 0o1777, 0o644}[random.IntN(4)]), ModTime: time.Unix(random.Int64N(1000), 0)}
	switch random.IntN(10) {
	case 0, 1, 2:
		h.Typeflag = tar.TypeDir
	case 3, 4:
		h.Typeflag = tar.TypeReg
	case 5:
		h.Typeflag, h.Linkname = tar.TypeSymlink, []string{"a", "../b", "/a", "b/..", "c"}[random.IntN(5)]
	case 6:
		h.Typeflag, h.Linkname = tar.TypeLink, name()
	case 7:
		h.Typeflag, h.Name = tar.TypeReg, name()+"/.wh..wh..opq"
	case 8:
		h.Typeflag, h.Name = tar.TypeReg, []string{".wh.a", "a/.wh.b", "a/b/.wh.a", "c/.wh.a", "mine.d/.wh.x"}[random.IntN(5)]
	case 9:
		h.Typeflag = []byte{tar.TypeFifo, tar.TypeChar}[random.IntN(2)] // 0:0
	}
	return h
}

// What strange layers make on disk is what IndexOf says, times included, or
// both are errors.
func TestApplyIsIndexOf(t *testing.T) {
	bad := 0
	const seeds = 150
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 3))
		root := newTree(t)
		var layers [][]byte
		var openers []Opener
		for range 1 + random.IntN(3) {
			var headers []tar.Header
			for range random.IntN(12) {
				headers = append(headers, randomHeader(random))
			}
			data := tarOf(t, headers...)
			layers, openers = append(layers, data), append(openers, opener(data))
		}
		want, wantErr := IndexOf(t.Context(), openers...)
		var err error
		for _, data := range layers {
			if err = root.tryApply(data); err != nil {
				break
			}
		}
		if (err == nil) != (wantErr == nil) {
			t.Errorf("seed %d: apply: %v, index: %v", seed, err, wantErr)
		}
		if err != nil || wantErr != nil {
			bad++
			continue
		}
		if diff := cmp.Diff(toCompare(want), toCompare(root.scan())); diff != "" {
			t.Errorf("seed %d: tree (-index +live):\n%s", seed, diff)
			for _, data := range layers {
				t.Logf("%q", listTar(t, data))
			}
		}
	}
	if bad > seeds*9/10 {
		t.Errorf("only %d of %d were no errors", seeds-bad, seeds)
	}
}

// An index that was kept goes on where the layers it tells of ended.
func TestExtend(t *testing.T) {
	good := 0
	for seed := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, 4))
		var openers []Opener
		for range 2 + random.IntN(3) {
			var headers []tar.Header
			for range random.IntN(12) {
				headers = append(headers, randomHeader(random))
			}
			openers = append(openers, opener(tarOf(t, headers...)))
		}
		want, wantErr := IndexOf(t.Context(), openers...)
		for at := range len(openers) + 1 {
			kept, err := IndexOf(t.Context(), openers[:at]...)
			if err == nil {
				kept, err = kept.Extend(t.Context(), Limits{}, openers[at:]...)
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d from %d: got %v, want %v", seed, at, err, wantErr)
			}
			if err != nil {
				continue
			}
			good++
			if diff := cmp.Diff(want.entries, kept.entries); diff != "" {
				t.Fatalf("seed %d from %d (-whole +kept):\n%s", seed, at, diff)
			}
		}
	}
	if good < 100 {
		t.Errorf("only %d were no errors", good)
	}
}

// toCompare is a tree without its root, and without owners where only root
// can give them.
func toCompare(x *Index) []Entry {
	var out []Entry
	for e := range x.Below("") {
		if os.Getuid() != 0 {
			e.UID, e.GID = 0, 0
		}
		out = append(out, e)
	}
	return out
}

// Directories that a layer has something in, but not an entry for, keep their
// times; it does not matter in which order a layer says what.
func TestApplyTimes(t *testing.T) {
	l := newTree(t)
	l.write("kept/sub/old", "x")
	l.write("kept/gone", "x")
	for _, p := range []string{"kept/sub", "kept", ""} {
		l.touch(p, time.Unix(1000, 5))
	}
	at := func(h tar.Header, sec int64) tar.Header { h.ModTime = time.Unix(sec, 0); return h }
	l.apply(tarOf(t, file("kept/.wh.gone"), at(file("kept/sub/new"), 7), at(dir("d/"), 5), at(file("d/x"), 6), at(dir("d/"), 8), at(sym("l", "d"), 9)))
	for p, want := range map[string]time.Time{"": time.Unix(1000, 5), "kept": time.Unix(1000, 5), "kept/sub": time.Unix(1000, 5),
		"kept/sub/new": time.Unix(7, 0), "d": time.Unix(8, 0), "d/x": time.Unix(6, 0), "l": time.Unix(9, 0)} {
		info, err := os.Lstat(l.path(p))
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("time of %q is %v, want %v", p, info.ModTime(), want)
		}
	}
}

func TestApplyReplacesXattrs(t *testing.T) {
	l := newTree(t)
	l.dir("d")
	l.xattr("d", "user.was", "1")
	l.xattr("d", "user.both", "1")
	h := dir("d/")
	h.PAXRecords = map[string]string{"SCHILY.xattr.user.both": "2", "SCHILY.xattr.user.new": "\x00\n="}
	data := tarOf(t, h)
	l.apply(data)
	e, _ := l.scan().Lookup("d")
	if diff := cmp.Diff(map[string]string{"user.both": "2", "user.new": "\x00\n="}, e.Xattrs); diff != "" {
		t.Errorf("xattrs (-want +got):\n%s", diff)
	}
}

func FuzzResume(f *testing.F) {
	for _, c := range hostile {
		f.Add(tarOf(f, c.headers...), []byte(nil))
		f.Add(tarOf(f, file("x")), tarOf(f, c.headers...))
	}
	f.Add(tarOf(f, dir("d/"), file("d/x")), tarOf(f, dir("./"), hard("d/y", "d/x"), file("d/x"), hard("mine", "d/x"), file(".wh.mine.d")))
	f.Fuzz(func(t *testing.T, layer, rest []byte) {
		base, err := NewIndex([]Entry{{Path: "mine", Type: File}, {Path: "mine.d", Type: Dir}, {Path: "mine.d/x", Type: Symlink, Linkname: "y"}})
		must(t, err)
		tree := NewTree(base)
		if err := tree.Resume(t.Context(), opener(layer), opener(rest)); err != nil {
			if tree.Raw() != base || tree.Published() != base {
				t.Error("an error changed the tree")
			}
			return
		}
		for _, x := range []*Index{tree.Raw(), tree.Published()} {
			if _, err := checkedIndex(x.entries); err != nil {
				t.Error(err)
			}
			groups := map[string]Entry{}
			for e := range x.All() {
				if first, ok := groups[e.LinkGroup]; ok && e.LinkGroup != "" && (first.Digest != e.Digest || first.Size != e.Size) {
					t.Errorf("%q and %q are one file with two contents", first.Path, e.Path)
				}
				groups[e.LinkGroup] = e
			}
		}
	})
}

// A tar that was cut short inside of an entry is an error, at once.
func TestApplyTruncated(t *testing.T) {
	data := tarOf(t, dir("d/"), file("d/x"), file("d/y"))
	for _, n := range []int{1, 100, 512, 513, 1024 + 1, 1024 + 2, 1024 + 512 + 100} {
		if err := newTree(t).tryApply(data[:n]); err == nil && n%512 != 0 {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
}

func TestEmptyXattr(t *testing.T) {
	l := newTree(t)
	l.dir("d")
	base := l.scan()
	before := copyOf(l)
	l.xattr("d", "user.empty", "")
	before.apply(l.delta(base))
	sameTree(t, before.scan(), l.scan())
}
