package layer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// manyFiles is a tree of small files, as of a package manager for JavaScript.
func manyFiles(b *testing.B, count int) *liveTree {
	l := &liveTree{root: b.TempDir()}
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 4<<10)
	for i := range count {
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		if i%50 == 0 {
			os.MkdirAll(l.path(fmt.Sprintf("node_modules/package-%d/lib", i/50)), 0o755)
		}
		os.WriteFile(l.path(fmt.Sprintf("node_modules/package-%d/lib/file-%d.js", i/50, i)), data[:random.IntN(len(data))], 0o644)
	}
	return l
}

// From a tree with 50,000 new files to the layer.
func BenchmarkPublish(b *testing.B) {
	l := manyFiles(b, 50_000)
	empty, _ := NewIndex(nil)
	b.ReportAllocs()
	for b.Loop() {
		r, w := io.Pipe()
		go func() { w.CloseWithError(Delta(b.Context(), l.root, empty, DeltaOptions{}, w)) }()
		if _, err := NewTree(empty).Publish(b.Context(), r, Policy{Epoch: epoch}, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	l := manyFiles(b, 50_000)
	empty, _ := NewIndex(nil)
	var delta bytes.Buffer
	if err := Delta(b.Context(), l.root, empty, DeltaOptions{}, &delta); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		root, err := os.OpenRoot(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		opts := ApplyOptions{Layer: true, Xattrs: true, SameOwner: os.Getuid() == 0}
		if err := Apply(b.Context(), bytes.NewReader(delta.Bytes()), root, opts); err != nil {
			b.Fatal(err)
		}
		root.Close()
	}
}

// A scan that finds nothing changed.
func BenchmarkDeltaOfNothing(b *testing.B) {
	l := manyFiles(b, 50_000)
	base, err := Scan(b.Context(), l.root, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Delta(b.Context(), l.root, base, DeltaOptions{}, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
