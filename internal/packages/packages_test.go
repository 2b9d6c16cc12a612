package packages

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dpkg = `Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 2.41-12
Description: GNU C Library
 Package: evil
 .
 Version: 666
Homepage: https://x

Package: removed
Status: deinstall ok config-files
Version: 1
Architecture: all

Package: half
Status: install ok half-installed
Version: 1
Architecture: all

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.152
Conffiles:
 /etc/adduser.conf 0123
`

const apk = "C:Q1abc=\nP:musl\nV:1.2.5-r10\nA:x86_64\nS:1\nF:lib\nR:ld.so\na:0:0:755\nZ:Q1=\n\nP:.build-deps\nV:20260101.120000\nA:noarch\n\n"

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		format Format
		in     string
		want   []Package
	}{
		{"dpkg", Dpkg, dpkg, []Package{{"adduser", "3.152", "all"}, {"libc6", "2.41-12", "amd64"}}},
		{"distroless", Dpkg, "Package: tzdata\nVersion: 2026a-0+deb13u1\nArchitecture: all\nDescription: x", []Package{{"tzdata", "2026a-0+deb13u1", "all"}}},
		{"apk", Apk, apk, []Package{{".build-deps", "20260101.120000", "noarch"}, {"musl", "1.2.5-r10", "x86_64"}}},
		{"carriage returns and blank lines", Dpkg, "\r\n\nPackage: a\r\nVersion: 1:2~3^4\r\n \t\r\n\n", []Package{{"a", "1:2~3^4", ""}}},
		{"first of two counts", Dpkg, "Package: a\nVersion: 1\nVersion: 2\n", []Package{{"a", "1", ""}}},
		{"no separator", Dpkg, "Package: a\nnonsense\nVersion: 1\n", []Package{{"a", "1", ""}}},
		{"empty", Dpkg, "", nil},
		{"no format", None, dpkg, nil},
	} {
		got, err := Read(strings.NewReader(c.in), c.format)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"link":         "Package: [x](javascript:alert)\nVersion: 1\n",
		"control":      "Package: a\x1b[31m\nVersion: 1\n",
		"bidi":         "Package: a\u202eb\nVersion: 1\n",
		"pipe":         "Package: a|b\nVersion: 1\n",
		"space":        "Package: a b\nVersion: 1\n",
		"no version":   "Package: a\n",
		"version":      "Package: a\nVersion: <img>\n",
		"mention":      "Package: a\nVersion: @x\n",
		"architecture": "Package: a\nVersion: 1\nArchitecture: a`b\n",
		"option":       "Package: -rf\nVersion: 1\n",
		"long name":    "Package: " + strings.Repeat("a", 300) + "\nVersion: 1\n",
	} {
		if got, err := Read(strings.NewReader(in), Dpkg); err == nil {
			t.Errorf("%s: read as %v", name, got)
		} else if strings.ContainsAny(err.Error(), "\x1b\u202e") || len(err.Error()) > 300 {
			t.Errorf("%s: message %q", name, err)
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	line := "Package: a\nVersion: 1\nDescription: x\n"
	for name, r := range map[string]io.Reader{
		"long line":     io.MultiReader(strings.NewReader(line), &endless{text: []byte("x")}),
		"long field":    io.MultiReader(strings.NewReader(line), &endless{text: []byte(" x\n")}),
		"many fields":   io.MultiReader(strings.NewReader(line), &endless{text: []byte("Description: " + strings.Repeat("x", 4000) + "\n")}),
		"many packages": &endless{text: []byte("Package: a\nVersion: 1\n\n")},
	} {
		if _, err := Read(r, Dpkg); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := Read(io.MultiReader(strings.NewReader(dpkg), errorReader{broken}), Dpkg); !errors.Is(err, broken) {
		t.Errorf("broken stream: %v", err)
	}
}

// endless repeats a text for ever.
type endless struct {
	text []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.at == 0 {
		e.text = bytes.Repeat(e.text, 1+4096/len(e.text))
	}
	e.at++
	return copy(p, e.text), nil
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{
		"var/lib/dpkg/status": Dpkg, "var/lib/dpkg/status.d/base": Dpkg, "var/lib/dpkg/status.d/base.md5sums": None,
		"var/lib/dpkg/status.d/": None, "var/lib/dpkg/status-old": None, "var/lib/dpkg/status.d/x/y": None, "lib/apk/db/installed": Apk,
		"usr/lib/apk/db/installed": Apk, "etc/lib/apk/db/installed": None, "": None,
	} {
		if got := FormatOf(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	before := []Package{{"libc6", "1", "amd64"}, {"libc6", "1", "i386"}, {"gone", "3", "all"}, {"same", "1", "amd64"}, {"linux", "6.1", "amd64"}, {"linux", "6.2", "amd64"}, {"port", "1", "amd64"}}
	now := []Package{{"libc6", "2", "amd64"}, {"libc6", "1", "i386"}, {"new", "1", "all"}, {"same", "1", "amd64"}, {"linux", "6.2", "amd64"}, {"port", "1", "arm64"}}
	want := []Change{{"libc6:amd64", "1", "2"}, {"linux", "6.1, 6.2", "6.2"}, {"new", "", "1"}, {"gone", "3", ""}}
	if diff := cmp.Diff(want, Diff(before, now)); diff != "" {
		t.Error(diff)
	}
	if got := Diff(now, now); got != nil {
		t.Errorf("with itself: %v", got)
	}
	if got := Diff(nil, now[:1]); len(got) != 1 || got[0] != (Change{"libc6", "", "2"}) {
		t.Errorf("from nothing: %v", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(dpkg), true)
	f.Add([]byte(apk), false)
	f.Fuzz(func(t *testing.T, data []byte, isDpkg bool) {
		format := Apk
		if isDpkg {
			format = Dpkg
		}
		got, err := Read(bytes.NewReader(data), format)
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(got, compare) {
			t.Errorf("not sorted: %v", got)
		}
		for _, p := range got {
			if p.check() != nil || strings.ContainsAny(p.Name+p.Version+p.Arch, "@|`<>[]()\n \\") {
				t.Errorf("read %q", p)
			}
		}
		if changes := Diff(got, got); changes != nil {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}
