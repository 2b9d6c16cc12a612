package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func layersOf(t *testing.T, layers ...[]tar.Header) []Opener {
	var openers []Opener
	for _, headers := range layers {
		data := tarOf(t, headers...)
		openers = append(openers, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	}
	return openers
}

// What a stack of layers means.
var stacks = map[string]struct {
	layers [][]tar.Header
	want   []string // paths of the tree
}{
	"top wins":                  {[][]tar.Header{{dir("d/"), file("d/x")}, {file("d")}}, []string{"d"}},
	"whiteout":                  {[][]tar.Header{{dir("d/"), file("d/x"), file("d/y")}, {file("d/.wh.x")}}, []string{"d", "d/y"}},
	"whiteout of a directory":   {[][]tar.Header{{dir("d/"), file("d/x")}, {file(".wh.d")}}, nil},
	"whiteout spares its layer": {[][]tar.Header{{dir("d/"), file("d/x")}, {dir("d/"), file("d/z"), file(".wh.d")}}, []string{"d", "d/z"}},
	"opaque":                    {[][]tar.Header{{dir("d/"), file("d/x")}, {dir("d/"), file("d/new"), file("d/.wh..wh..opq")}}, []string{"d", "d/new"}},
	"implied directory":         {[][]tar.Header{{file("d/e/x")}}, []string{"d", "d/e", "d/e/x"}},
	"through a link":            {[][]tar.Header{{dir("usr/"), dir("usr/lib/"), sym("lib", "/usr/lib")}, {file("lib/x")}}, []string{"lib", "usr", "usr/lib", "usr/lib/x"}},
	"leading dots":              {[][]tar.Header{{dir("./"), dir("./d/"), file("./d/x")}}, []string{"d", "d/x"}},
	"link to a lower layer":     {[][]tar.Header{{file("x")}, {hard("y", "x")}}, []string{"x", "y"}},
	"file becomes directory":    {[][]tar.Header{{file("x")}, {file("x/y")}, {dir("x/"), file("x/y")}}[:1], []string{"x"}},
}

func TestIndexOf(t *testing.T) {
	for name, c := range stacks {
		t.Run(name, func(t *testing.T) {
			x, err := IndexOf(t.Context(), layersOf(t, c.layers...)...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for e := range x.Below("") {
				got = append(got, e.Path)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if e, ok := x.Lookup("y"); ok && e.LinkGroup != "x" {
				t.Errorf("link group of y = %q", e.LinkGroup)
			}
		})
	}
}

func TestMerged(t *testing.T) {
	layers := layersOf(t,
		[]tar.Header{dir("srv/"), dir("srv/www/"), file("srv/www/index"), file("srv/www/old"), hard("srv/www/same", "srv/www/index"), sym("data", "/srv")},
		[]tar.Header{file("srv/www/.wh.old"), file("srv/www/new"), hard("srv/www/again", "srv/www/index"), sym("srv/www/link", "index")})
	for path, want := range map[string][]string{
		"/srv/www":       {"5 www/", "2 www/link -> index", "0 www/again = srv/www/index", "1 www/index -> www/again", "1 www/same -> www/again", "0 www/new = srv/www/new"},
		"srv/www/new":    {"0 new = srv/www/new"},
		"/data/www/new":  {"0 new = srv/www/new"},
		"/srv/www/link":  {"2 link -> index"},
		"/data":          {"2 data -> /srv"},
		"/srv/www/same/": {"0 same = srv/www/index"},
	} {
		r, err := Merged(t.Context(), layers, path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if diff := cmp.Diff(want, listTar(t, data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	for _, path := range []string{"/srv/www/old", "/none", "/srv/www/new/x"} {
		if _, err := Merged(t.Context(), layers, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v", path, err)
		}
	}
	r, err := Merged(t.Context(), layers, "/data/")
	if err != nil {
		t.Fatal(err)
	}
	r.Close() // early: the writer must end
}

func TestMergedRoot(t *testing.T) {
	r, err := Merged(t.Context(), layersOf(t, []tar.Header{dir("d/"), file("d/x")}), "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, _ := io.ReadAll(r)
	if got := listTar(t, data); !slices.Equal(got, []string{"5 ./", "5 d/", "0 d/x = d/x"}) {
		t.Errorf("got %q", got)
	}
}

func TestKeepPatterns(t *testing.T) {
	if _, err := newNoise([]string{"[", "/x"}); err == nil {
		t.Error("a broken pattern was accepted")
	}
	for pattern, paths := range map[string][]string{"/run": {"run/x", "run/x/y"}, "tmp/*.log": {"tmp/a.log"}, "**/lists": {"var/lib/apt/lists/x"}, "/var/cache/apt/": {"var/cache/apt/x"}} {
		n, err := newNoise([]string{pattern})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if n.rule(p) != nil {
				t.Errorf("keep %s does not keep %s", pattern, p)
			}
		}
		if n.rule("tmp/other") == nil {
			t.Errorf("keep %s keeps tmp/other", pattern)
		}
	}
}

func TestNoise(t *testing.T) {
	n, err := newNoise(nil)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"dev/null": "engine file", "etc/hosts": "engine file", "etc/hosts.allow": "", "etc": "", "tmp": "", "tmp/a/b": "temporary file",
		"root/.bash_history": "shell history", "home/u/.zsh_history": "shell history", "root/.bashrc": "",
		"usr/lib/python3/__pycache__/x.pyc": "", "var/log/journal/1/system.journal": "system log", "var/log/nginx/access.log": "log",
		"var/log/nginx/access.log.1": "system log", "var/lib/dpkg/status": "", "etc/shadow": "", "etc/shadow-": "backup",
		"var/cache/apt/archives/partial/x": "package cache", "var/lib/apt/extended_states": "", "var/cache/nginx/x": "",
	} {
		got := ""
		if r := n.rule(p); r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", p, got, want)
		}
	}
}

func TestNewIndexChecks(t *testing.T) {
	for name, entries := range map[string][]Entry{
		"twice": {{Path: "a", Type: File}, {Path: "a", Type: File}}, "no parent": {{Path: "a/b", Type: File}},
		"file as parent": {{Path: "a", Type: File}, {Path: "a/b", Type: File}}, "not clean": {{Path: "../x", Type: File}}, "slash": {{Path: "/x", Type: File}},
	} {
		if _, err := NewIndex(entries); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
