package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// put is a tar and where it goes.
type put struct {
	dst string
	tar []byte
}

// published is a layer and the tree it makes.
type published struct {
	layer  string
	result layer.Result
	tree   string
}

// same tells what differs; "": nothing.
func (p published) same(o published) string {
	switch {
	case p.layer != o.layer:
		return fmt.Sprintf("the layers differ: %q, not %q", p.layer, o.layer)
	case p.tree != o.tree:
		return "the trees differ"
	}
	return cmp.Diff(p.result, o.result)
}

func end(t *testing.T, tree *layer.Tree, w *bytes.Buffer, result layer.Result, err error) published {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	for _, x := range []*layer.Index{tree.Raw(), tree.Published()} {
		if err := x.Encode(&index); err != nil {
			t.Fatal(err)
		}
	}
	return published{w.String(), result, index.String()}
}

// follow puts tars into a draft that a publication follows. It returns what that
// made, if it got all, and what Publish makes of the delta.
func follow(t *testing.T, base *layer.Index, puts ...put) (atOnce, afterwards published, followed bool) {
	t.Helper()
	d, other := draftFrom(t, base), draftFrom(t, base)
	policy := layer.Policy{Epoch: time.Unix(draftEpoch-1, 0)}
	var early, late bytes.Buffer
	tree := layer.NewTree(base)
	p, err := tree.Begin(policy, &early)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	plain := func(w io.Writer) (int64, error) { n, err := w.Write(early.Bytes()); return int64(n), err }
	if !d.Follow(p, plain) {
		t.Fatal("not followed from the start")
	}
	for _, one := range puts {
		for _, d := range []*layer.Draft{d, other} {
			rest, err := d.Put(t.Context(), one.dst, bytes.NewReader(one.tar))
			if rest != nil {
				rest.Close()
			}
			if err != nil && !layer.Beyond(err) {
				t.Logf("put to %s: %v", one.dst, err)
			}
		}
	}
	if len(puts) > 0 && d.Follow(p, plain) {
		t.Error("followed in the middle")
	}
	want := changesOf(t, other)
	if followed = d.Followed(); followed {
		result, err := p.End()
		atOnce = end(t, tree, &early, result, err)
		if !result.RestEmpty {
			t.Error("followed, though a part is not in the layer")
		}
	} else if !bytes.Equal(changesOf(t, d), want) {
		t.Error("what was not followed to its end has another content than what was not followed at all")
	}
	tree = layer.NewTree(base)
	result, err := tree.Publish(t.Context(), bytes.NewReader(want), policy, &late)
	return atOnce, end(t, tree, &late, result, err), followed
}

func changesOf(t *testing.T, d *layer.Draft) []byte {
	t.Helper()
	var delta bytes.Buffer
	if err := d.Delta(t.Context(), &delta); err != nil {
		t.Fatal(err)
	}
	return delta.Bytes()
}

func followBase(t *testing.T) *layer.Index {
	t.Helper()
	base, err := layer.NewIndex([]layer.Entry{
		{Path: "a", Type: layer.File, Mode: 0o644, Size: 1}, {Path: "lib", Type: layer.Dir, Mode: 0o755}, {Path: "lib/x", Type: layer.File, Mode: 0o644, Size: 5},
		{Path: "srv", Type: layer.Dir, Mode: 0o755, ModTime: 7}, {Path: "var", Type: layer.Dir, Mode: 0o755}, {Path: "var/log", Type: layer.Dir, Mode: 0o755},
		{Path: "www", Type: layer.Symlink, Mode: 0o777, Linkname: "srv"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// What comes in the order of a layer is the layer already, also what the draft
// makes by itself; what does not is told, so that it is read again.
func TestFollow(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600} }
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750} }
	link := tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "x"}
	of := func(dst string, headers ...tar.Header) put {
		content, err := io.ReadAll(packed(t, headers...))
		if err != nil {
			t.Fatal(err)
		}
		return put{dst, content}
	}
	for name, c := range map[string]struct {
		puts []put
		want bool
	}{
		"nothing":                                 {nil, true},
		"in order":                                {[]put{of("/srv", dir("d"), file("d-"), file("d/a"), link)}, true},
		"directories that are made":               {[]put{of("/srv/new/er", file("a/b"), file("a/c"), file("b"))}, true},
		"dst itself":                              {[]put{of("/srv/new", dir("./"), file("a"))}, true},
		"by a link":                               {[]put{of("/www", file("a"))}, true},
		"before what the draft makes":             {[]put{of("/", file("b"))}, true},
		"behind it":                               {[]put{of("/", file("b"), file("z"))}, true},
		"a file with another mode":                {[]put{of("/", file("a"))}, true},
		"in the place of a link":                  {[]put{of("/", file("www"))}, true},
		"a directory as it is, a file in it":      {[]put{of("/", tar.Header{Typeflag: tar.TypeDir, Name: "srv", Mode: 0o755}, file("srv/a"))}, true},
		"a directory with another mode":           {[]put{of("/", dir("srv"), file("srv/a"))}, true},
		"two tars, one behind the other":          {[]put{of("/lib", file("y")), of("/srv", file("a"))}, true},
		"out of order":                            {[]put{of("/srv", file("b"), file("a"))}, false},
		"a directory after what is in it":         {[]put{of("/srv", file("d/a"), dir("d"))}, false},
		"two tars, one before the other":          {[]put{of("/srv", file("a")), of("/lib", file("y"))}, false},
		"the same again":                          {[]put{of("/srv", file("a")), of("/srv", file("a"))}, false},
		"a file that may be as it was":            {[]put{of("/", tar.Header{Typeflag: tar.TypeReg, Name: "lib/x", Mode: 0o644})}, false},
		"further names":                           {[]put{of("/srv", file("a"), tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"})}, false},
		"what is published without its content":   {[]put{of("/var/log", file("a"))}, false},
		"what is not published":                   {[]put{of("/tmp", file("a"))}, false},
		"directories that are not published":      {[]put{of("/", dir("tmp"), dir("tmp/x"))}, false},
		"what takes a kernel":                     {[]put{of("/srv", file("a"), tar.Header{Typeflag: tar.TypeFifo, Name: "b"})}, true}, // what came before it is whole
		"a directory that is made and then named": {[]put{of("/srv", file("d/a")), of("/srv", dir("d"))}, false},
	} {
		t.Run(name, func(t *testing.T) {
			atOnce, afterwards, followed := follow(t, followBase(t), c.puts...)
			if followed != c.want {
				t.Fatalf("followed: %t, want %t", followed, c.want)
			}
			if diff := atOnce.same(afterwards); followed && diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever is put: if the publication got it all, it made the same layer and tree.
func TestFollowSame(t *testing.T) {
	base := followBase(t)
	all, orderly := 0, 0
	for seed := range 400 {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		var puts []put
		for range 1 + r.IntN(2) {
			puts = append(puts, put{[]string{"/", "/srv", "/srv/a", "/www", "/lib", "/var/log"}[r.IntN(6)], randomTar(t, r)})
		}
		atOnce, afterwards, followed := follow(t, base, puts...)
		if !followed {
			continue
		}
		all++
		if !afterwards.result.Empty && strings.Count(afterwards.layer, "ustar") > 6 {
			orderly++
		}
		if diff := atOnce.same(afterwards); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
	t.Logf("followed %d times, %d worth it", all, orderly)
	if all < 100 || orderly < 30 {
		t.Errorf("followed %d times, and %d times what is worth it", all, orderly)
	}
}

// randomTar has few names, most often in order.
func randomTar(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	names := []string{"a", "a-", "a/a", "a/b", "lib", "lib/x", "lib.d", "srv", "www", "www/q", "etc", "tmp", "tmp/x", "z", "z/" + strings.Repeat("long/", 30) + "x"}
	var headers []tar.Header
	for range 1 + r.IntN(8) {
		h := tar.Header{Typeflag: tar.TypeReg, Name: names[r.IntN(len(names))], Mode: []int64{0o644, 0o600, 0o755}[r.IntN(3)], Uid: r.IntN(2), ModTime: time.Unix([]int64{-5, 0, 500, draftEpoch * 2}[r.IntN(4)], 0)}
		switch r.IntN(8) {
		case 0, 1:
			h.Typeflag = tar.TypeDir
		case 2:
			h.Typeflag, h.Linkname = tar.TypeSymlink, names[r.IntN(len(names))]
		case 3:
			h.Size = 200_000
		default:
			h.Size = int64(r.IntN(6))
		}
		headers = append(headers, h)
	}
	if r.IntN(4) > 0 {
		slices.SortFunc(headers, func(a, b tar.Header) int { return strings.Compare(a.Name, b.Name) })
		headers = slices.CompactFunc(headers, func(a, b tar.Header) bool { return a.Name == b.Name })
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		content := strings.Repeat(fmt.Sprint(r.IntN(1000), " "), int(h.Size))
		if _, err := io.WriteString(w, content[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is over the limits of a layer is not followed, so that Publish refuses it:
// it could not be read again.
func TestFollowLimits(t *testing.T) {
	base := followBase(t)
	for name, c := range map[string]struct {
		path string
		want bool
	}{"deep": {strings.Repeat("d/", 254) + "f", true}, "too deep": {strings.Repeat("d/", 256) + "f", false}} {
		d, other := draftFrom(t, base), draftFrom(t, base)
		p, err := layer.NewTree(base).Begin(layer.Policy{}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		d.Follow(p, func(io.Writer) (int64, error) { return 0, nil })
		for _, d := range []*layer.Draft{d, other} {
			if rest, err := d.Put(t.Context(), "/srv", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: c.path, Mode: 0o600})); err != nil || rest != nil {
				t.Fatalf("%s: rest %v, %v", name, rest, err)
			}
		}
		_, err = layer.NewTree(base).Publish(t.Context(), bytes.NewReader(changesOf(t, other)), layer.Policy{}, io.Discard)
		if got := d.Followed(); got != c.want || (err == nil) != c.want {
			t.Errorf("%s: followed: %t, published: %v", name, got, err)
		}
	}
}

// A full disk ends what is put, and nothing of it counts as put: the one that the
// layer is on, and the one with the scratch file, when contents come there.
func TestFollowFull(t *testing.T) {
	base := followBase(t)
	full := errors.New("no space left on device")
	var big bytes.Buffer
	w := tar.NewWriter(&big)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o600, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	d := draftFrom(t, base)
	p, err := layer.NewTree(base).Begin(layer.Policy{}, failing{full})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.Follow(p, func(io.Writer) (int64, error) { return 0, full })
	if _, err := d.Put(t.Context(), "/srv", bytes.NewReader(big.Bytes())); !errors.Is(err, full) || !strings.Contains(err.Error(), fmt.Sprintf("%q", "srv/big")) {
		t.Errorf("a disk that takes nothing: %v", err)
	}
	if d.Followed() {
		t.Error("what could not be kept was followed")
	}

	d = draftFrom(t, base)
	if p, err = layer.NewTree(base).Begin(layer.Policy{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.Follow(p, func(io.Writer) (int64, error) { return 0, full })
	if _, err := d.Put(t.Context(), "/srv", bytes.NewReader(big.Bytes())); err != nil {
		t.Fatal(err)
	}
	d.Leave()
	if err := d.Delta(t.Context(), io.Discard); !errors.Is(err, full) {
		t.Errorf("contents that could not be kept: %v", err)
	}

	// What is put again, when there is room, is there.
	d = draftFrom(t, base)
	if p, err = layer.NewTree(base).Begin(layer.Policy{}, failing{full}); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.Follow(p, func(io.Writer) (int64, error) { return 0, full })
	for i, want := range []error{full, nil} {
		if _, err := d.Put(t.Context(), "/srv", bytes.NewReader(big.Bytes())); !errors.Is(err, want) {
			t.Errorf("attempt %d: %v", i+1, err)
		}
	}
	if d.Followed() {
		t.Error("followed after an error")
	}
	if len(changesOf(t, d)) < 1<<20 {
		t.Error("the second attempt left nothing")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A file that was just put can be read.
func TestFollowOpen(t *testing.T) {
	base := followBase(t)
	d := draftFrom(t, base)
	var out bytes.Buffer
	p, err := layer.NewTree(base).Begin(layer.Policy{}, &out)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.Follow(p, func(w io.Writer) (int64, error) { n, err := w.Write(out.Bytes()); return int64(n), err })
	if _, err := d.Put(t.Context(), "/srv", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "name", Mode: 0o600})); err != nil {
		t.Fatal(err)
	}
	e, _, err := d.Lookup("/srv/name")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(d.Open(e)); string(got) != "name" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// What was followed to its end is in the layer, and not asked of the draft again.
func TestFollowedContent(t *testing.T) {
	base := followBase(t)
	d := draftFrom(t, base)
	p, err := layer.NewTree(base).Begin(layer.Policy{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.Follow(p, func(io.Writer) (int64, error) { return 0, nil })
	if _, err := d.Put(t.Context(), "/srv", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o600, Size: 3})); err != nil || !d.Followed() {
		t.Fatalf("not followed, %v", err)
	}
	if err := d.Delta(t.Context(), io.Discard); err == nil {
		t.Error("a delta without its contents")
	}
	if err := d.Rebase(base); err != nil {
		t.Fatal(err)
	}
	if err := d.Delta(t.Context(), io.Discard); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
