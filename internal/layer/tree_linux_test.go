package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// step edits, takes the delta and publishes it.
func step(t *testing.T, l *liveTree, tree *Tree, policy Policy, edit func(l *liveTree)) ([]byte, Result) {
	t.Helper()
	edit(l)
	return publish(t, tree, l.delta(tree.Raw()), policy)
}

func TestPublish(t *testing.T) {
	type edits = []func(l *liveTree)
	cases := map[string]struct {
		base    func(l *liveTree)
		steps   edits
		keep    []string
		want    []string // the last layer
		removed []string
	}{
		"noise is left out": {
			steps: edits{func(l *liveTree) {
				l.write("etc/hosts", "h")
				l.write("tmp/x/y", "t")
				l.write("run/sshd.pid", "1")
				l.write("etc/ssh/ssh_host_rsa_key", "secret")
				l.write("etc/ssh/sshd_config", "c")
				l.write("var/log/apt/term.log", "l")
				l.write("var/log/app.log", "l")
				l.symlink("/dev/stdout", "var/log/out.log")
			}},
			want: []string{"5 etc/", "5 etc/ssh/", "0 etc/ssh/sshd_config = c", "5 run/", "5 tmp/", "5 var/", "5 var/log/", "0 var/log/app.log", "5 var/log/apt/",
				"2 var/log/out.log -> /dev/stdout"},
			removed: []string{"/etc/hosts", "/etc/ssh/ssh_host_rsa_key", "/run/sshd.pid", "/tmp/x", "/tmp/x/y", "/var/log/app.log", "/var/log/apt/term.log"},
		},
		"keep": {
			steps: edits{func(l *liveTree) { l.write("tmp/x/y", "t"); l.write("tmp/z", "t") }},
			keep:  []string{"/tmp/x"}, want: []string{"5 tmp/", "5 tmp/x/", "0 tmp/x/y = t"}, removed: []string{"/tmp/z"},
		},
		"keep deep: its parents come with it": {
			steps: edits{func(l *liveTree) { l.write("tmp/x/y/z", "t") }, func(l *liveTree) { l.write("tmp/x/y/keep", "t") }},
			keep:  []string{"**/keep"}, want: []string{"5 tmp/x/", "5 tmp/x/y/", "0 tmp/x/y/keep = t"},
		},
		"deletion of noise that was published": {
			base:  func(l *liveTree) { l.write("var/cache/apt/x.bin", "b") },
			steps: edits{func(l *liveTree) { l.remove("var/cache/apt/x.bin") }},
			want:  []string{"0 var/cache/apt/.wh.x.bin"},
		},
		"deletion of noise that was not": {
			steps: edits{func(l *liveTree) { l.write("tmp/x", "b") }, func(l *liveTree) { l.remove("tmp/x") }},
		},
		"deletion of the engine's": {
			base:  func(l *liveTree) { l.write("etc/hosts", "b") },
			steps: edits{func(l *liveTree) { l.remove("etc/hosts") }},
		},
		"machine ID": {
			base:    func(l *liveTree) { l.write("etc/machine-id", "") },
			steps:   edits{func(l *liveTree) { l.write("etc/machine-id", "1234") }},
			removed: []string{"/etc/machine-id"},
		},
		"machine ID made": {
			base:    func(l *liveTree) { l.dir("etc") },
			steps:   edits{func(l *liveTree) { l.write("etc/machine-id", "1234") }},
			want:    []string{"0 etc/machine-id"},
			removed: []string{"/etc/machine-id"},
		},
		"hard link from noise": {
			base:    func(l *liveTree) { l.dir("cache"); l.dir("run"); l.dir("usr"); l.dir("z") },
			steps:   edits{func(l *liveTree) { l.write("run/a", "shared"); l.link("run/a", "usr/b"); l.link("run/a", "z/c") }},
			want:    []string{"0 usr/b = shared", "1 z/c -> usr/b"},
			removed: []string{"/run/a"},
		},
		"hard link to earlier noise": {
			base:    func(l *liveTree) { l.dir("run"); l.dir("usr") },
			steps:   edits{func(l *liveTree) { l.write("run/a", "shared") }, func(l *liveTree) { l.link("run/a", "usr/b") }},
			want:    []string{"0 usr/b = shared"},
			removed: []string{"/run/a"},
		},
		"second step": {
			steps: edits{func(l *liveTree) { l.write("a", "1"); l.write("b", "1") }, func(l *liveTree) { l.write("a", "2"); l.remove("b") }},
			want:  []string{"0 a = 2", "0 .wh.b"},
		},
		"nothing": {steps: edits{func(l *liveTree) {}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newTree(t)
			if c.base != nil {
				c.base(l)
			}
			tree := NewTree(l.scan())
			applied, complete := copyOf(l), copyOf(l)
			var result Result
			var layer, rest []byte
			for _, edit := range c.steps {
				edit(l)
				layer, rest, result = checkpoint(t, tree, l.delta(tree.Raw()), Policy{Keep: c.keep})
				applied.apply(layer)
				complete.apply(layer)
				complete.apply(rest)
				sameNow(t, complete, l, tree.Raw())
			}
			wantLines(t, changes(listTar(t, layer), c.want), c.want...)
			wantLines(t, result.Removed, c.removed...)
			if result.Empty != (len(c.want) == 0) || result.Entries != len(listTar(t, layer)) {
				t.Errorf("result = %+v", result)
			}
			sameTree(t, tree.Raw(), l.scan())
			sameTree(t, applied.scan(), tree.Published())
		})
	}
}

func TestPublishClampsTimes(t *testing.T) {
	l := newTree(t)
	tree := NewTree(l.scan())
	layer, _ := step(t, l, tree, Policy{}, func(l *liveTree) {
		l.write("new", "")
		l.write("old", "")
		l.touch("old", time.Unix(1000, 999))
	})
	x, err := IndexOf(t.Context(), opener(layer))
	must(t, err)
	for path, want := range map[string]int64{"new": epoch.Unix(), "old": 1000} {
		if e, _ := x.Lookup(path); e.ModTime != want {
			t.Errorf("time of %s = %d, want %d", path, e.ModTime, want)
		}
	}
}

func TestRemovedIsSummarised(t *testing.T) {
	l := newTree(t)
	tree := NewTree(l.scan())
	_, result := step(t, l, tree, Policy{}, func(l *liveTree) {
		for i := range 9 {
			l.write(fmt.Sprintf("var/lib/apt/lists/%d", i), "x")
		}
		l.write("tmp/one", "x")
	})
	wantLines(t, result.Removed, "/tmp/one", "/var/lib/apt/lists/ (9 x package list)")
}

// Whatever is done to a tree, in several steps, the published layers make it
// again, but for the noise.
func TestPublishedLayersMakeTheTree(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			l := newTree(t)
			for range 40 {
				randomEdit(random, l)
			}
			base := l.scan()
			applied, complete := copyOf(l), copyOf(l)
			tree, squashed := NewTree(base), NewTree(base)
			for range 3 {
				for range 12 {
					randomEdit(random, l)
				}
				layer, rest, _ := checkpoint(t, tree, l.delta(tree.Raw()), Policy{})
				applied.apply(layer)
				complete.apply(layer)
				complete.apply(rest)
				sameNow(t, complete, l, tree.Raw())
			}
			sameTree(t, tree.Raw(), l.scan())
			sameTree(t, applied.scan(), tree.Published())
			publish(t, squashed, l.delta(base), Policy{})
			sameTree(t, withoutNoise(t, squashed.Published()), withoutNoise(t, l.scan()))
			sameTree(t, withoutNoise(t, tree.Published()), withoutNoise(t, l.scan()))
		})
	}
}

// withoutNoise drops noise and everything about link groups that noise may be
// a part of.
func withoutNoise(t *testing.T, x *Index) *Index {
	t.Helper()
	n, err := newNoise(nil)
	must(t, err)
	set, gone := map[string]Entry{}, map[string]bool{}
	for e := range x.All() {
		if n.rule(e.Path) != nil {
			gone[e.Path] = true
		}
	}
	return x.with(set, gone)
}

// randomEdit does one thing to a tree; some of its names are noise.
func randomEdit(random *rand.Rand, l *liveTree) {
	names := []string{"a", "b", "a-b", "tmp", "tmp/x", "run", "run/p", "é\xff"}
	pick := func() string {
		p := names[random.IntN(len(names))]
		for range random.IntN(3) {
			p += "/" + names[random.IntN(3)]
		}
		return p
	}
	p := pick()
	info, exists := l.lookup(p)
	inDir := l.isDir(parent(p))
	switch random.IntN(8) {
	case 0, 1:
		if inDir && !exists || exists && info == File {
			l.write(p, strings.Repeat("x", random.IntN(3))+fmt.Sprint(random.IntN(3)))
		}
	case 2:
		if !exists && inDir {
			l.dir(p)
		}
	case 3:
		if exists && random.IntN(3) == 0 {
			l.remove(p)
		}
	case 4:
		if exists && info != Symlink {
			l.chmod(p, []uint32{0o755, 0o700, 0o4711, 0o1777}[random.IntN(4)])
		}
	case 5:
		q := pick()
		if kind, ok := l.lookup(q); ok && kind == File && !exists && inDir {
			l.link(q, p)
		}
	case 6:
		q := pick()
		if _, there := l.lookup(q); exists && !there && l.isDir(parent(q)) && !under(q, p) {
			l.rename(p, q)
		}
	case 7:
		if !exists && inDir {
			l.symlink(pick(), p)
		}
	}
}

func TestIndexCodec(t *testing.T) {
	l := baseTree(t)
	l.write("a/\xff\nodd", "x")
	want := l.scan()
	var b bytes.Buffer
	must(t, want.Encode(&b))
	data := b.Bytes()
	got, err := DecodeIndex(bytes.NewReader(data))
	must(t, err)
	if !slices.EqualFunc(got.entries, want.entries, func(a, b Entry) bool {
		return a.same(b) && a.LinkGroup == b.LinkGroup && a.ModTime == b.ModTime
	}) {
		t.Error("decoding is not the inverse of encoding")
	}
	for n := range data {
		if _, err := DecodeIndex(bytes.NewReader(data[:n])); err == nil {
			t.Errorf("the first %d of %d bytes were taken for an index", n, len(data))
		}
	}
}

func TestIndexWalks(t *testing.T) {
	x := baseTree(t).scan()
	names := func(seq func(func(Entry) bool)) []string {
		var out []string
		for e := range seq {
			out = append(out, e.Path)
		}
		return out
	}
	wantLines(t, names(x.Children("a")), "a/one", "a/sub", "a/two")
	wantLines(t, names(x.Below("a")), "a/one", "a/sub", "a/sub/three", "a/two")
	wantLines(t, names(x.Children("")), "a", "a-b", "bin", "empty", "link")
	if _, ok := x.Lookup("a/none"); ok {
		t.Error("found what is not there")
	}
	e, _ := x.Lookup("bin/tool3")
	if e.LinkGroup != "bin/tool" || e.Size != 4 {
		t.Errorf("bin/tool3 = %+v", e)
	}
}

func TestPublishFailureKeepsTheTree(t *testing.T) {
	l := baseTree(t)
	tree := NewTree(l.scan())
	l.write("a/new", "content")
	delta := l.delta(tree.Raw())
	for n := range len(delta) {
		if n%511 != 0 && n < len(delta)-1024 {
			continue
		}
		if _, err := tree.Publish(t.Context(), bytes.NewReader(delta[:n]), Policy{Epoch: epoch}, &bytes.Buffer{}); err == nil {
			t.Fatalf("the first %d of %d bytes of a delta were accepted", n, len(delta))
		}
	}
	layer, _ := publish(t, tree, delta, Policy{})
	wantLines(t, listTar(t, layer), "5 a/", "0 a/new = content")
}

// changes leaves out the directories that are named only for what is in them.
func changes(got, want []string) []string {
	return slices.DeleteFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "5 ") && line != "5 ./" && !slices.Contains(want, line)
	})
}

// Every directory above a change is named, as it is, before it: engines that
// unpack each layer alone would else make one of their own.
func TestParentsAreNamed(t *testing.T) {
	l := newTree(t)
	for path, mode := range map[string]uint32{"root": 0o700, "var": 0o755, "var/mail": 0o2775, "tmp": 0o1777} {
		l.dir(path)
		l.chmod(path, mode)
	}
	l.write("var/mail/old", "1")
	tree := NewTree(l.scan())
	l.write("root/x", "1")
	l.write("tmp/x", "2")
	l.remove("var/mail/old")
	layer, rest, _ := checkpoint(t, tree, l.delta(tree.Raw()), Policy{})
	wantLines(t, listTar(t, layer), "5 root/", "0 root/x = 1", "5 var/", "5 var/mail/", "0 var/mail/.wh.old")
	wantLines(t, listTar(t, rest), "5 tmp/", "0 tmp/x = 2")
	for _, tarball := range [][]byte{layer, rest} {
		for tr := tar.NewReader(bytes.NewReader(tarball)); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if e, ok := tree.Raw().Lookup(strings.TrimSuffix(h.Name, "/")); h.Typeflag == tar.TypeDir && (!ok || int64(e.Mode) != h.Mode) {
				t.Errorf("%s has the mode %o, want %o", h.Name, h.Mode, e.Mode)
			}
		}
	}
}
