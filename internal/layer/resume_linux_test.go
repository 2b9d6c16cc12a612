package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sameNow checks that after settling a resumed tree cannot be told from the
// one that ran, times included, and that nothing is left for another delta.
func sameNow(t *testing.T, resumed, ran *liveTree, raw *Index) {
	t.Helper()
	var trees [2][]Entry
	for i, l := range []*liveTree{ran, resumed} {
		must(t, Settle(t.Context(), l.root, raw, SettleOptions{}))
		trees[i] = l.scan().entries
		if left := listTar(t, l.delta(raw)); len(left) > 0 {
			t.Errorf("left for the next delta: %q", left)
		}
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
		t.Errorf("tree (-ran +resumed):\n%s", diff)
	}
	if diff := cmp.Diff(raw.entries, trees[1]); diff != "" {
		t.Errorf("tree (-index +resumed):\n%s", diff)
	}
}

// With patterns to keep inside of noise, directories are in the layer that are
// noise themselves.
func TestResumeKeeps(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			l := newTree(t)
			for range 40 {
				randomEdit(random, l)
			}
			tree := NewTree(l.scan())
			complete := copyOf(l)
			policy := Policy{Keep: []string{[]string{"tmp/x/a", "**/b", "run", "tmp/*/a/a"}[random.IntN(4)]}}
			for range 5 {
				for range 15 {
					randomEdit(random, l)
				}
				layer, rest, _ := checkpoint(t, tree, l.delta(tree.Raw()), policy)
				complete.apply(layer)
				complete.apply(rest)
				sameNow(t, complete, l, tree.Raw())
			}
		})
	}
}

// Where noise made a file of what is published as a directory, the layer brings
// the directory again before what it has in it.
func TestResumeDirectoryThatWasNoise(t *testing.T) {
	for name, steps := range map[string][]func(l *liveTree){
		"dropped": {
			func(l *liveTree) { l.remove("tmp/x"); l.write("tmp/x", "file") },
			func(l *liveTree) { l.remove("tmp/x"); l.write("tmp/x/keep", "k") },
		},
		"published": {
			func(l *liveTree) { l.remove("var/cache/man/x"); l.write("var/cache/man/x", "file") },
			func(l *liveTree) {
				l.remove("var/cache/man/x")
				l.dir("var/cache/man/x")
				l.symlink("to", "var/cache/man/x/link")
			},
		},
	} {
		l := newTree(t)
		l.dir("tmp/x")
		l.dir("var/cache/man/x")
		tree := NewTree(l.scan())
		complete := copyOf(l)
		for i, edit := range steps {
			edit(l)
			layer, rest, _ := checkpoint(t, tree, l.delta(tree.Raw()), Policy{Keep: []string{"**/keep"}})
			t.Logf("%s, step %d: layer %q, rest %q", name, i, listTar(t, layer), listTar(t, rest))
			complete.apply(layer)
			complete.apply(rest)
			sameNow(t, complete, l, tree.Raw())
		}
	}
}

func TestRest(t *testing.T) {
	cases := map[string]struct {
		base, edit  func(l *liveTree)
		layer, rest []string
	}{
		"nothing left out": {edit: func(l *liveTree) { l.write("a", "1") }, layer: []string{"0 a = 1"}},
		"noise": {edit: func(l *liveTree) { l.write("tmp/x", "1"); l.chmod("tmp", 0o700) },
			layer: []string{"5 tmp/"}, rest: []string{"0 tmp/x = 1"}},
		"truncated": {edit: func(l *liveTree) { l.write("var/log/a", "1"); l.write("var/log/b", "") },
			layer: []string{"5 var/", "5 var/log/", "0 var/log/a", "0 var/log/b"}, rest: []string{"0 var/log/a = 1"}},
		"whiteout of noise": {base: func(l *liveTree) { l.write("etc/hosts", "1"); l.write("tmp/x", "2") },
			edit:  func(l *liveTree) { l.remove("etc/hosts"); l.remove("tmp/x") },
			layer: []string{"0 tmp/.wh.x"}, rest: []string{"0 etc/.wh.hosts"}},
		"link to noise": {base: func(l *liveTree) { l.dir("tmp") },
			edit:  func(l *liveTree) { l.write("a", "1"); l.link("a", "tmp/a"); l.link("a", "z") },
			layer: []string{"0 a = 1", "1 z -> a"}, rest: []string{"1 tmp/a -> a"}},
		"link from noise": {base: func(l *liveTree) { l.dir("tmp") },
			edit:  func(l *liveTree) { l.write("tmp/a", "1"); l.link("tmp/a", "y"); l.link("tmp/a", "z") },
			layer: []string{"0 y = 1", "1 z -> y"}, rest: []string{"0 tmp/a = 1", "1 y -> tmp/a", "1 z -> tmp/a"}},
		"root": {edit: func(l *liveTree) { l.chmod("", 0o700) }, rest: []string{"5 ./"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newTree(t)
			if c.base != nil {
				c.base(l)
			}
			tree := NewTree(l.scan())
			complete := copyOf(l)
			c.edit(l)
			layer, rest, result := checkpoint(t, tree, l.delta(tree.Raw()), Policy{})
			wantLines(t, changes(listTar(t, layer), c.layer), c.layer...)
			wantLines(t, changes(listTar(t, rest), c.rest), c.rest...)
			if result.Empty != (c.layer == nil) || result.RestEmpty != (c.rest == nil) {
				t.Errorf("result = %+v", result)
			}
			complete.apply(layer)
			complete.apply(rest)
			sameNow(t, complete, l, tree.Raw())
		})
	}
}

func TestResumeRefuses(t *testing.T) {
	l := baseTree(t)
	tree := NewTree(l.scan())
	l.write("a/new", "content")
	l.write("tmp/x", "content")
	after := *tree
	layer, rest, _ := checkpoint(t, &after, l.delta(tree.Raw()), Policy{})
	broken := errors.New("digest mismatch")
	cases := map[string]struct{ layer, rest Opener }{
		"truncated layer":  {opener(layer[:len(layer)-1024]), nil},
		"truncated rest":   {opener(layer), opener(rest[:512])},
		"published root":   {opener(tarOf(t, dir("./"))), nil},
		"not there":        {opener(tarOf(t, file(".wh.none"))), nil},
		"by a symlink":     {opener(tarOf(t, file("link/x"))), nil},
		"out":              {opener(tarOf(t, file("../x"))), nil},
		"opaque":           {opener(tarOf(t, file("a/.wh..wh..opq"))), nil},
		"old link":         {opener(tarOf(t, hard("x", "a/one"))), nil},
		"link to itself":   {opener(tarOf(t, file("x"), hard("x", "x"))), nil},
		"whiteout of new":  {opener(tarOf(t, file("x"), file(".wh.x"))), nil},
		"parent goes":      {opener(tarOf(t, file("a/x"))), opener(tarOf(t, file(".wh.a")))},
		"parent to a file": {opener(tarOf(t, file("a/x"))), opener(tarOf(t, file("a")))},
		"long trailer":     {opener(append(bytes.Clone(layer), make([]byte, 2<<20)...)), nil},
		"digest":           {func() (io.ReadCloser, error) { return verifying{bytes.NewReader(layer), broken}, nil }, nil},
		"missing":          {func() (io.ReadCloser, error) { return nil, os.ErrNotExist }, nil},
	}
	for name, c := range cases {
		was := *tree
		if err := tree.Resume(t.Context(), c.layer, c.rest); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if *tree != was {
			t.Fatalf("%s changed the tree", name)
		}
	}
}

// verifying complains when it is closed.
type verifying struct {
	io.Reader
	err error
}

func (v verifying) Close() error { return v.err }
