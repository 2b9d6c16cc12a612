package packages

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tarOf is a layer: pairs of a path and a content.
func tarOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1]))}
		if strings.HasSuffix(pairs[i], "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func status(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString("Package: " + n + "\nStatus: install ok installed\nVersion: 1\n\n")
	}
	return b.String()
}

func TestDatabase(t *testing.T) {
	const dpkg, part, apkDB = "var/lib/dpkg/status", "var/lib/dpkg/status.d/", "lib/apk/db/installed"
	for _, c := range []struct {
		name   string
		layers [][]string // highest first
		want   string
		whole  int // layers until it is complete; 0: never
	}{
		{"none", [][]string{{"etc/passwd", "x"}}, "", 0},
		{"the highest counts", [][]string{{"etc/x", ""}, {"./" + dpkg, status("b")}, {dpkg, status("a")}}, "b", 2},
		{"apk", [][]string{{apkDB, "P:musl\nV:1\n\n"}}, "musl", 1},
		{"merged usr", [][]string{{"usr/" + apkDB, "P:musl\nV:1\n\n"}}, "musl", 1},
		{"parts add up", [][]string{{part + "b", status("b")}, {part, "", part + "a", status("a"), part + "b", status("old")}}, "a b", 0},
		{"a part is deleted", [][]string{{part + ".wh.a", ""}, {part + "a", status("a"), part + "b", status("b")}}, "b", 0},
		{"a part is made anew", [][]string{{part + "a", status("new")}, {part + ".wh.a", ""}, {part + "a", status("a")}}, "new", 0},
		{"whiteout and file of one layer", [][]string{{"var/lib/.wh.dpkg", "", dpkg, status("b")}, {dpkg, status("a")}}, "b", 1},
		{"opaque folder", [][]string{{part + ".wh..wh..opq", "", part + "b", status("b")}, {part + "a", status("a")}}, "b", 0},
		{"all is deleted", [][]string{{"var/lib/.wh.dpkg", ""}, {dpkg, status("a")}}, "", 1},
		{"the root is opaque", [][]string{{".wh..wh..opq", ""}, {dpkg, status("a")}}, "", 1},
		{"checksums are no database", [][]string{{part + "a.md5sums", "x"}}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Database
			whole := 0
			for i, pairs := range c.layers {
				l, err := ReadLayer(bytes.NewReader(tarOf(t, pairs...)))
				if err != nil {
					t.Fatal(err)
				}
				d.Under(l)
				if whole == 0 && d.Complete() {
					whole = i + 1
				}
			}
			var got []string
			for _, p := range d.Packages() {
				got = append(got, p.Name)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || whole != c.whole {
				t.Errorf("complete after %d, want %d; (-want +got):\n%s", whole, c.whole, diff)
			}
		})
	}
}

func TestLayerEmpty(t *testing.T) {
	for name, want := range map[string]bool{
		"etc/passwd": true, "var/lib/.wh.other": true, "var/lib/dpkg/info/x.list": true, "var/lib/dpkg/.wh.lock": true,
		"var/lib/dpkg/status": false, "var/.wh.lib": false, ".wh..wh..opq": false, "lib/apk/db/.wh.installed": false,
		"var/lib/dpkg/status.d/.wh.tzdata": false,
	} {
		l, err := ReadLayer(bytes.NewReader(tarOf(t, name, "")))
		if err != nil || l.Empty() != want {
			t.Errorf("%s: empty %v, %v", name, l.Empty(), err)
		}
	}
}

func TestReadLayerRefuses(t *testing.T) {
	var link bytes.Buffer
	w := tar.NewWriter(&link)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "var/lib/dpkg/status", Linkname: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := tarOf(t, "a", "bbbb")
	for name, in := range map[string][]byte{
		"a link": link.Bytes(), "cut short": whole[:514], "no package": tarOf(t, "lib/apk/db/installed", "P:a b\nV:1\n\n"), "no tar": bytes.Repeat([]byte("x"), 1024),
	} {
		if _, err := ReadLayer(bytes.NewReader(in)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzReadLayer(f *testing.F) {
	f.Add(tarOf(f, "var/lib/dpkg/status", status("a", "b"), "var/lib/dpkg/status.d/x", status("c"), "lib/apk/.wh..wh..opq", ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := ReadLayer(bytes.NewReader(in))
		if err != nil {
			return
		}
		var d Database
		d.Under(l)
		for _, p := range d.Packages() {
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
