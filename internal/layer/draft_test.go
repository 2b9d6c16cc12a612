package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/layer"
)

const draftEpoch = 1_000_000_000

// newDraft is one on entries and a directory etc.
func newDraft(t *testing.T, entries ...layer.Entry) *layer.Draft {
	t.Helper()
	return newDraftOn(t, append(entries, layer.Entry{Path: "etc", Type: layer.Dir, Mode: 0o755})...)
}

func newDraftOn(t *testing.T, entries ...layer.Entry) *layer.Draft {
	t.Helper()
	base, err := layer.NewIndex(entries)
	if err != nil {
		t.Fatal(err)
	}
	return draftFrom(t, base)
}

func draftFrom(t *testing.T, base *layer.Index) *layer.Draft {
	t.Helper()
	scratch, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	d := layer.NewDraft(base, draftEpoch, []string{"proc", "etc/hosts"}, 1<<32-2, scratch)
	t.Cleanup(func() { d.Close() })
	return d
}

// packed is a tar of headers; a regular file holds its own name.
func packed(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		h.ModTime = time.Unix(500, 0)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// shown is what a tar holds, a line for each entry.
func shown(t *testing.T, r io.Reader) []string {
	t.Helper()
	var lines []string
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(strings.Join([]string{string(h.Typeflag), h.Name, h.Linkname, string(content), h.ModTime.UTC().Format("2006")}, " ")))
	}
}

func deltaOf(t *testing.T, d *layer.Draft) []string {
	t.Helper()
	var out bytes.Buffer
	if err := d.Delta(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return shown(t, &out)
}

// What is put is followed through links, makes directories that are missing, and
// is no change where it is as it was.
func TestDraft(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	base := []layer.Entry{
		{Path: "srv", Type: layer.Dir, Mode: 0o755}, {Path: "www", Type: layer.Symlink, Mode: 0o777, Linkname: "/srv"},
		{Path: "srv/up", Type: layer.Symlink, Mode: 0o777, Linkname: "../srv/new"},
	}
	for name, c := range map[string]struct {
		dst  string
		put  []tar.Header
		want []string
	}{
		"nothing, to a directory that is there": {"/srv", nil, nil},
		"nothing, to one that is not":           {"/a/b", nil, []string{"5 a/   2001", "5 a/b/   2001"}},
		"a directory as it is":                  {"/", []tar.Header{{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o755}}, nil},
		"a directory that gets another mode":    {"/", []tar.Header{{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o700}}, []string{"5 srv/   1970"}},
		"by a link":                             {"/www", []tar.Header{file("a")}, []string{"0 srv/a  a 1970"}},
		"in order, and with what is between": {"/", []tar.Header{file("b/c/d"), file("b-"), file("a")},
			[]string{"0 a  a 1970", "5 b/   2001", "0 b-  b- 1970", "5 b/c/   2001", "0 b/c/d  b/c/d 1970"}},
		"the time of a directory in the tar": {"/", []tar.Header{{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, file("d/f")},
			[]string{"5 d/   1970", "0 d/f  d/f 1970"}},
		"dst itself, when it was made": {"/d", []tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}}, []string{"5 d/   1970"}},
		"dst itself, when it was not":  {"/srv", []tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}}, nil},
		"links": {"/srv", []tar.Header{file("b"), {Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}, {Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../x"}},
			[]string{"0 srv/a  b 1970", "1 srv/b srv/a  1970", "2 srv/l ../x  1970"}},
		"in the place of a link": {"/", []tar.Header{file("www")}, []string{"0 www  www 1970"}},
		"twice":                  {"/", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "x"}, file("a")}, []string{"0 a  a 1970"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(t, base...)
			rest, err := d.Put(t.Context(), c.dst, packed(t, c.put...))
			if err != nil || rest != nil {
				t.Fatalf("rest %v, %v", rest, err)
			}
			if diff := cmp.Diff(c.want, deltaOf(t, d)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What takes a kernel is left to one: what came before it is done, and the rest
// has names as seen from the root, and the times of the tar's directories.
func TestDraftBeyond(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	base := []layer.Entry{
		{Path: "acl", Type: layer.Dir, Mode: 0o755, Xattrs: map[string]string{"system.posix_acl_default": "x"}},
		{Path: "dangling", Type: layer.Symlink, Mode: 0o777, Linkname: "no/where"}, {Path: "loop", Type: layer.Symlink, Mode: 0o777, Linkname: "loop"},
		{Path: "one", Type: layer.File, Mode: 0o644, LinkGroup: "one"}, {Path: "other", Type: layer.File, Mode: 0o644, LinkGroup: "one"},
		{Path: "sgid", Type: layer.Dir, Mode: 0o2755}, {Path: "sticky", Type: layer.Dir, Mode: 0o1777}, {Path: "sticky/l", Type: layer.Symlink, Mode: 0o777, Linkname: "/d", UID: 33}, {Path: "toproc", Type: layer.Symlink, Mode: 0o777, Linkname: "proc"},
	}
	for name, odd := range map[string]tar.Header{
		"a fifo":                        {Typeflag: tar.TypeFifo, Name: "p", Mode: 0o644},
		"an attribute":                  {Typeflag: tar.TypeReg, Name: "p", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		"a link to what is not here":    {Typeflag: tar.TypeLink, Name: "p", Linkname: "one"},
		"a file over a directory":       file("sgid"),
		"a file below a file":           file("one/p"),
		"one of several names":          file("one"),
		"what a machine shows":          file("etc/hosts"),
		"a file below /proc":            file("proc/p"),
		"a way through /proc":           file("toproc/p"),
		"a dangling way":                file("dangling/p"),
		"a loop":                        file("loop/p"),
		"a link that is protected":      file("sticky/l/p"),
		"an owner that is none":         {Typeflag: tar.TypeReg, Name: "p", Mode: 0o644, Uid: 1<<32 - 1},
		"a directory over a dead link":  {Typeflag: tar.TypeDir, Name: "dangling/", Mode: 0o755},
		"a default ACL":                 file("acl/p"),
		"a new directory below setgid":  file("sgid/new/p"),
		"a name that images reserve":    file(".wh.p"),
		"a name that no kernel takes":   file(strings.Repeat("n", 256)),
		"a directory with attributes":   {Typeflag: tar.TypeDir, Name: "acl/", Mode: 0o700},
		"a character device, elsewhere": {Typeflag: tar.TypeChar, Name: "p", Mode: 0o644},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(t, base...)
			dir := tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}
			rest, err := d.Put(t.Context(), "/", packed(t, dir, file("before"), odd, file("after")))
			if err != nil || rest == nil {
				t.Fatalf("rest %v, %v", rest, err)
			}
			defer rest.Close()
			if got, want := deltaOf(t, d), []string{"0 before  before 1970", "5 d/   1970"}; !slices.Equal(got, want) {
				t.Errorf("done %q, want %q", got, want)
			}
			var replayed bytes.Buffer
			if err := d.Replay(&replayed); err != nil {
				t.Fatal(err)
			}
			if got, want := shown(t, &replayed), []string{"0 before  before 1970", "5 d/   1970"}; !slices.Equal(got, want) {
				t.Errorf("replayed %q, want %q", got, want)
			}
			lines := shown(t, rest)
			if len(lines) != 3 || !strings.Contains(lines[0], strings.TrimSuffix(odd.Name, "/")) || lines[1] != "0 after  after 1970" || !strings.HasPrefix(lines[2], "5 d") {
				t.Errorf("rest: %q", lines)
			}
		})
	}
	for _, dst := range []string{"/proc", "/one/x", "/dangling", "/sgid/new", "/acl/new", "/etc/hosts/x"} {
		d := newDraft(t, base...)
		in := packed(t, file("a"))
		if rest, err := d.Put(t.Context(), dst, in); rest != nil || !layer.Beyond(err) || !d.Empty() {
			t.Errorf("%s: rest %v, %v", dst, rest, err)
		}
		if got := shown(t, in); len(got) != 1 { // still whole
			t.Errorf("%s: %q is left", dst, got)
		}
	}
}

// A bad tar is an error, and no rest.
func TestDraftBadTar(t *testing.T) {
	for name, in := range map[string]io.Reader{
		"cut short": io.LimitReader(packed(t, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("x", 99), Mode: 0o644}), 550),
		"leads out": packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "../x", Mode: 0o644}),
		"no tar":    strings.NewReader(strings.Repeat("no tar", 1000)),
	} {
		if rest, err := newDraft(t).Put(t.Context(), "/a", in); err == nil || layer.Beyond(err) || rest != nil {
			t.Errorf("%s: rest %v, %v", name, rest, err)
		}
	}
}

// A machine makes the directories that it needs for what it shows, and so does a
// draft.
func TestDraftWithoutEtc(t *testing.T) {
	d := newDraftOn(t)
	if _, err := d.Put(t.Context(), "/", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "app", Mode: 0o755})); err != nil {
		t.Fatal(err)
	}
	base, err := layer.NewIndex([]layer.Entry{{Path: "etc", Type: layer.Dir, Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := deltaOf(t, d), []string{"0 app  app 1970", "5 etc/   2001"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := d.Rebase(base); err != nil || !d.Empty() {
		t.Errorf("with it: %v", err)
	}
}

// After a checkpoint a draft goes on from the tree that it made.
func TestDraftRebase(t *testing.T) {
	base, err := layer.NewIndex([]layer.Entry{{Path: "etc", Type: layer.Dir, Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	d, tree := newDraftOn(t, slices.Collect(base.All())...), layer.NewTree(base)
	for _, name := range []string{"a/x", "a/y"} {
		if _, err := d.Put(t.Context(), "/", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600})); err != nil {
			t.Fatal(err)
		}
		var delta bytes.Buffer
		if err := d.Delta(t.Context(), &delta); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Publish(t.Context(), &delta, layer.Policy{Epoch: time.Unix(draftEpoch, 0)}, io.Discard); err != nil {
			t.Fatal(err)
		}
		if err := d.Rebase(tree.Raw()); err != nil {
			t.Fatal(err)
		}
		if !d.Empty() {
			t.Error("something is left of what was recorded")
		}
	}
	paths := map[string]bool{}
	for e := range tree.Raw().All() {
		paths[e.Path] = true
	}
	if got := slices.Sorted(maps.Keys(paths)); !slices.Equal(got, []string{"", "a", "a/x", "a/y", "etc"}) {
		t.Errorf("the tree is %q", got)
	}
	if e, there, err := d.Lookup("/a/x"); err != nil || !there || d.Open(e) != nil {
		t.Errorf("a file of the tree: %v %t %v", e, there, err)
	}
}

// A draft that was left takes no more, also in the middle of a tar.
func TestDraftLeft(t *testing.T) {
	d := newDraft(t)
	in := packed(t, tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o644}, tar.Header{Typeflag: tar.TypeReg, Name: "b", Mode: 0o644})
	reads := 0
	rest, err := d.Put(t.Context(), "/", readerFunc(func(p []byte) (int, error) {
		if reads++; reads == 4 { // behind d, and a with its content
			d.Leave()
		}
		return io.LimitReader(in, 512).Read(p)
	}))
	if err != nil || rest == nil {
		t.Fatalf("rest %v, %v", rest, err)
	}
	defer rest.Close()
	done := deltaOf(t, d)
	if got := shown(t, rest); len(done) != 2 || len(got) != 2 || got[0] != "0 b  b 1970" || !strings.HasPrefix(got[1], "5 d") {
		t.Errorf("done %q, rest %q", done, got)
	}
	if _, err := d.Put(t.Context(), "/", in); !layer.Beyond(err) {
		t.Errorf("after that: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
