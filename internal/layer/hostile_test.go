package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// tarOf makes a tar of headers; a File's content is its name.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// listTar shows a tar, an entry a line: type, name, link target or content.
func listTar(t *testing.T, data []byte) []string {
	t.Helper()
	var lines []string
	in := tar.NewReader(bytes.NewReader(data))
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
		line := string(h.Typeflag) + " " + h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(content) > 0 {
			line += " = " + string(content)
		}
		lines = append(lines, line)
	}
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
func dir(name string) tar.Header  { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
func sym(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}
func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

// The corpus: what each way of unpacking says. "" is no error.
var hostile = []struct {
	name          string
	headers       []tar.Header
	plain, layer  string // part of the error
	publish       string
	wantInsideOne string // a file that must have been made by both
}{
	{name: "traversal", headers: []tar.Header{file("../canary")}, plain: "leads out", layer: "leads out", publish: "not clean"},
	{name: "traversal deep", headers: []tar.Header{dir("d"), file("d/../../canary")}, plain: "leads out", layer: "leads out", publish: "not clean"},
	{name: "absolute", headers: []tar.Header{file("/canary")}, publish: "not clean", wantInsideOne: "canary"},
	{name: "dots inside", headers: []tar.Header{dir("d/"), file("d/../inside")}, publish: "not clean", wantInsideOne: "inside"},
	{name: "symlink parent out", headers: []tar.Header{sym("l", ".."), file("l/canary")}, plain: "escapes", layer: "", publish: "no parent"},
	{name: "symlink parent absolute", headers: []tar.Header{sym("l", "OUTSIDE"), file("l/canary")}, plain: "escapes", layer: "", publish: "no parent"},
	{name: "symlink chain", headers: []tar.Header{dir("a"), sym("a/b", "../.."), sym("c", "a/b"), file("c/canary")}, plain: "escapes", layer: "", publish: "no parent"},
	{name: "symlink overwritten", headers: []tar.Header{sym("l", "OUTSIDE/canary"), file("l")}, publish: "not in order", wantInsideOne: "l"},
	{name: "symlink loop", headers: []tar.Header{sym("a", "b"), sym("b", "a"), file("a/x")}, plain: "too many", layer: "too many", publish: "not in order"},
	{name: "far symlink is stored", headers: []tar.Header{dir("d/"), sym("d/far", "../../../../../../../../../../etc/x"), file("x")}, wantInsideOne: "x"},
	{name: "hard link out", headers: []tar.Header{hard("h", "../canary")}, plain: "leads out", layer: "leads out", publish: "not in the delta"},
	{name: "hard link absolute", headers: []tar.Header{hard("h", "OUTSIDE/canary")}, plain: "no such file", layer: "no such file", publish: "not in the delta"},
	{name: "hard link by symlink", headers: []tar.Header{sym("a", "OUTSIDE/canary"), hard("h", "a"), file("h")}, plain: "no file of this tar", publish: "not in the delta"},
	{name: "hard link to what was there", headers: []tar.Header{hard("h", "mine")}, plain: "no file of this tar", publish: "not in the delta"},
	{name: "hard link before its file", headers: []tar.Header{hard("a", "z"), file("z")}, plain: "no such file", layer: "no such file", publish: "not in the delta"},
	{name: "hard link to a directory", headers: []tar.Header{dir("d/"), hard("h", "d")}, plain: "no file", layer: "no file", publish: "not in the delta"},
	{name: "twice", headers: []tar.Header{file("x"), file("x")}, publish: "not in order", wantInsideOne: "x"},
	{name: "directory replaced by link", headers: []tar.Header{dir("d/"), sym("d", "OUTSIDE"), file("d/canary")}, plain: "in the way", layer: "", publish: "not in order"},
	{name: "device", headers: []tar.Header{{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}}, plain: "not allowed", layer: "not allowed"},
	{name: "whiteout of the root", headers: []tar.Header{file(".wh.")}, layer: "no name", publish: "not in order"},
	{name: "whiteout out", headers: []tar.Header{file("../.wh.canary")}, plain: "leads out", layer: "leads out", publish: "not clean"},
	{name: "whiteout by dots", headers: []tar.Header{file(".wh...")}, layer: "no name", publish: "not in order"},
	{name: "whiteout through a link", headers: []tar.Header{sym("l", "OUTSIDE"), file("l/.wh.canary")}, plain: "escapes", publish: "no parent"},
	{name: "opaque", headers: []tar.Header{file("mine.d/.wh..wh..opq")}, publish: "not in order"},
	{name: "whiteout of nothing", headers: []tar.Header{file(".wh.none")}, publish: "not there"},
	{name: "opaque fifo", headers: []tar.Header{{Typeflag: tar.TypeFifo, Name: "f"}, file("f/.wh..wh..opq"), file("f/.wh.x")}, plain: "file exists", publish: "not in order"},
	{name: "fifo as parent", headers: []tar.Header{{Typeflag: tar.TypeFifo, Name: "f"}, file("f/x")}, plain: "file exists", layer: "already exists", publish: "no parent"},
	{name: "whiteout device", headers: []tar.Header{{Typeflag: tar.TypeChar, Name: "mine"}}, plain: "not allowed", publish: "whiteout of overlayfs"},
	{name: "file as parent", headers: []tar.Header{file("f"), file("f/x")}, plain: "file exists", layer: "already exists", publish: "no parent"},
	{name: "huge path", headers: []tar.Header{file(strings.Repeat("x/", 2500) + "x")}, plain: "over the limit", layer: "over the limit", publish: "over the limit"},
	{name: "deep path", headers: []tar.Header{file(strings.Repeat("x/", 300) + "x")}, plain: "over the limit", layer: "over the limit", publish: "over the limit"},
	{name: "huge xattr", headers: []tar.Header{{Typeflag: tar.TypeDir, Name: "d/", PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 70<<10)}}},
		plain: "over the limit", layer: "over the limit", publish: "over the limit"},
}

// place makes a root with files of the user's, beside a canary, and replaces
// OUTSIDE in headers.
func hostileRoot(t *testing.T, headers []tar.Header) (root *os.Root, canary string, out []tar.Header) {
	t.Helper()
	outside := t.TempDir()
	inside := filepath.Join(outside, "root")
	canary = filepath.Join(outside, "canary")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(inside, "mine.d"), 0o755),
		os.WriteFile(filepath.Join(inside, "mine"), []byte("mine"), 0o644),
		os.WriteFile(canary, []byte("alive"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for _, h := range headers {
		h.Linkname = strings.ReplaceAll(h.Linkname, "OUTSIDE", outside)
		out = append(out, h)
	}
	return root, canary, out
}

func checkError(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error is %v, want one with %q", what, err, want)
	}
}

func TestHostileTars(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			for _, layer := range []bool{false, true} {
				root, canary, headers := hostileRoot(t, c.headers)
				data := tarOf(t, headers...)
				err := Apply(t.Context(), bytes.NewReader(data), root, ApplyOptions{Layer: layer, Xattrs: true})
				want := c.plain
				if layer {
					want = c.layer
				}
				checkError(t, fmt.Sprintf("apply, layer %v", layer), err, want)
				if got, err := os.ReadFile(canary); string(got) != "alive" {
					t.Errorf("the file outside is %q, %v", got, err)
				}
				if left, _ := os.ReadDir(filepath.Dir(canary)); len(left) != 2 {
					t.Errorf("outside there is %v", left)
				}
				if c.wantInsideOne != "" {
					if info, err := root.Lstat(c.wantInsideOne); err != nil || !info.Mode().IsRegular() {
						t.Errorf("inside: %v, %v", info, err)
					}
				}
				if err == nil && layer {
					if _, err := IndexOf(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }); err != nil && !strings.Contains(c.name, "what was there") {
						t.Errorf("index: %v", err)
					}
				}
			}
			base, err := NewIndex([]Entry{{Path: "mine", Type: File}, {Path: "mine.d", Type: Dir}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = NewTree(base).Publish(t.Context(), bytes.NewReader(tarOf(t, c.headers...)), Policy{Epoch: time.Unix(1, 0)}, io.Discard)
			checkError(t, "publish", err, c.publish)
		})
	}
}

func TestLimits(t *testing.T) {
	many := tarOf(t, file("a"), file("b"), file("c"))
	for name, c := range map[string]struct {
		limits Limits
		ok     bool
	}{
		"entries":     {Limits{Entries: 2}, false},
		"bytes":       {Limits{Bytes: 2}, false},
		"just enough": {Limits{Entries: 3, Bytes: 3}, true},
	} {
		root, _, _ := hostileRoot(t, nil)
		err := Apply(t.Context(), bytes.NewReader(many), root, ApplyOptions{Limits: c.limits})
		if errors.Is(err, ErrLimit) == c.ok || c.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := io.LimitReader(zeroReader{}, 100<<20)
	for name, pack := range map[string]func(w io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
	} {
		var b bytes.Buffer
		w := pack(&b)
		if _, err := io.Copy(w, zeros); err != nil {
			t.Fatal(err)
		}
		zeros = io.LimitReader(zeroReader{}, 100<<20)
		w.Close()
		plain, err := Decompress(&b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, plain)
		if !errors.Is(err, ErrLimit) || n > 80<<20 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		plain.Close()
	}
}

// A large file of zeros in a layer is no bomb, where it is packed as layers are.
func TestZerosInLayer(t *testing.T) {
	layerOf := func(pack func(io.Writer) io.WriteCloser) Opener {
		var b bytes.Buffer
		w := pack(&b)
		out := tar.NewWriter(w)
		out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 100 << 20})
		io.CopyN(out, zeroReader{}, 100<<20)
		out.Close()
		w.Close()
		return bytesOpener(b.Bytes())
	}
	zipped := layerOf(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	packed := layerOf(func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z })
	for name, l := range map[string]Opener{"gzip": zipped, "zstd": packed} {
		if _, err := (&Index{}).Extend(t.Context(), BakeLimits(), l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := IndexOf(t.Context(), l); !errors.Is(err, ErrLimit) {
			t.Errorf("a stranger's %s: %v", name, err)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestDecompressDetects(t *testing.T) {
	want := tarOf(t, file("a"))
	var gz, zs bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(want)
	w.Close()
	z, _ := zstd.NewWriter(&zs)
	z.Write(want)
	z.Close()
	for name, data := range map[string][]byte{"plain": want, "gzip": gz.Bytes(), "zstd": zs.Bytes(), "empty": nil} {
		plain, err := Decompress(bytes.NewReader(data), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(plain)
		if err != nil || name != "empty" && !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if name != "plain" && name != "empty" {
			plain, _ = Decompress(bytes.NewReader(data[:len(data)-9]), Limits{})
			if _, err := io.Copy(io.Discard, plain); err == nil {
				t.Errorf("%s: a truncated stream was accepted", name)
			}
		}
	}
}

func bytesOpener(data []byte) Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func FuzzPublish(f *testing.F) {
	for _, c := range hostile {
		f.Add(tarOf(f, c.headers...))
	}
	f.Add(tarOf(f, file(".wh.mine"), dir("d/"), file("d/x"), hard("d/y", "d/x"), sym("z", "d")))
	f.Fuzz(func(t *testing.T, data []byte) {
		base, err := NewIndex([]Entry{{Path: "mine", Type: File}, {Path: "mine.d", Type: Dir}})
		if err != nil {
			t.Fatal(err)
		}
		tree := NewTree(base)
		var layer, rest bytes.Buffer
		limits := Limits{Bytes: 1 << 20}
		if _, err := tree.Publish(t.Context(), bytes.NewReader(data), Policy{Epoch: time.Unix(9, 0), Limits: limits, Rest: &rest}, &layer); err != nil {
			return
		}
		resumed := NewTree(base)
		if err := resumed.Resume(t.Context(), bytesOpener(layer.Bytes()), bytesOpener(rest.Bytes())); err != nil {
			t.Errorf("resume: %v", err)
		} else if !reflect.DeepEqual(resumed.Raw().entries, tree.Raw().entries) || !reflect.DeepEqual(resumed.Published().entries, tree.Published().entries) {
			t.Errorf("resumed %v, %v\nfrom %v, %v", resumed.Raw().entries, resumed.Published().entries, tree.Raw().entries, tree.Published().entries)
		}
		for _, x := range []*Index{tree.Raw(), tree.Published()} {
			if _, err := checkedIndex(x.entries); err != nil {
				t.Errorf("index: %v", err)
			}
		}
		again := NewTree(base)
		if _, err := again.Publish(t.Context(), bytes.NewReader(layer.Bytes()), Policy{Epoch: time.Unix(9, 0), Limits: limits}, io.Discard); err != nil {
			t.Errorf("a published layer is no good delta: %v", err)
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, c := range hostile {
		f.Add(tarOf(f, c.headers...), true)
		f.Add(tarOf(f, c.headers...), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, layer bool) {
		root, canary, _ := hostileRoot(t, nil)
		limits := Limits{Bytes: 1 << 20, Entries: 1000}
		if err := Apply(t.Context(), bytes.NewReader(data), root, ApplyOptions{Layer: layer, Xattrs: true, Limits: limits}); err == nil && layer {
			if _, err := IndexOf(t.Context(), bytesOpener(data)); err != nil && !bytes.Contains(data, []byte("mine")) {
				t.Errorf("unpacked, but not to be indexed: %v", err)
			}
		}
		if got, _ := os.ReadFile(canary); string(got) != "alive" {
			t.Errorf("the file outside is %q", got)
		}
		if left, _ := os.ReadDir(filepath.Dir(canary)); len(left) != 2 {
			t.Errorf("outside there is %v", left)
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	x, err := NewIndex([]Entry{{Path: "a", Type: Dir}, {Path: "a/b", Type: File, Size: 3, Xattrs: map[string]string{"user.x": "y"}}, {Path: "l", Type: Symlink, Linkname: "a"}})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := x.Encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := DecodeIndex(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := x.Encode(&again); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeIndex(&again); err != nil {
			t.Errorf("not decoded again: %v", err)
		}
	})
}
