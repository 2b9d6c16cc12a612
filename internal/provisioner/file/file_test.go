package file

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
)

var host = fstest.MapFS{
	"app.conf":           {Data: []byte("conf"), Mode: 0o664},
	"run.sh":             {Data: []byte("#!/bin/sh"), Mode: 0o775},
	"dist/index.html":    {Data: []byte("<p>"), Mode: 0o600},
	"dist/js/a.js":       {Data: []byte("a"), Mode: 0o644},
	"dist/js/a.js.map":   {Data: []byte("map"), Mode: 0o644},
	"dist/link":          {Data: []byte("js/../../../outside"), Mode: fs.ModeSymlink | 0o777},
	"dist/.git/config":   {Data: []byte("token"), Mode: 0o644},
	"dist/x/.netrc":      {Data: []byte("token"), Mode: 0o600},
	"dist/.docker/other": {Data: []byte("fine"), Mode: 0o644},
	"empty":              {Mode: fs.ModeDir | 0o700},
	".git/config":        {Data: []byte("token"), Mode: 0o644},
	".netrc":             {Data: []byte("token"), Mode: 0o644},
}

var passwd = map[string][]baketest.File{
	"/etc/passwd": {{Header: tar.Header{Name: "passwd"}, Content: "root:x:0:0::/root:/bin/sh\nwww-data:x:33:34:www:/var/www:/bin/false\nodd\n"}},
	"/etc/group":  {{Header: tar.Header{Name: "group"}, Content: "root:x:0:\nstaff:x:50:www-data\n"}},
	"/there":      {{Header: tar.Header{Name: "there/"}}},
	"/log":        {{Header: tar.Header{Name: "log/"}}, {Header: tar.Header{Name: "log/a"}, Content: "A"}},
}

func TestSuite(t *testing.T) {
	baketest.ProvisionerSuite(t, baketest.ProvisionerOptions{
		Kind: Kind(), Files: host, Trees: passwd,
		Env: func(_ *testing.T, env *bake.Env) { env.Image = images{} },
		Good: map[string]map[string]any{
			"file":      {"source": "app.conf", "destination": "/etc/app.conf"},
			"directory": {"source": "dist", "destination": "/srv"},
			"sources":   {"sources": []string{"app.conf", "run.sh"}, "destination": "/srv/"},
			"content":   {"content": "hello\n", "destination": "/etc/motd", "mode": "0600"},
			"empty":     {"content": "", "destination": "/etc/motd"},
			"owner":     {"source": "dist/", "destination": "/srv", "owner": "www-data:staff", "exclude": "**/*.map"},
			"from":      {"from": "assets", "source": "/out/", "destination": "/srv"},
			"download":  {"direction": "download", "source": "/log", "destination": "out/"},
		},
		Bad: map[string]map[string]any{
			"nothing":         {"destination": "/x"},
			"no destination":  {"source": "a"},
			"empty dest":      {"source": "a", "destination": ""},
			"both":            {"source": "a", "content": "b", "destination": "/x"},
			"content to dir":  {"content": "b", "destination": "/x/"},
			"content from":    {"content": "b", "from": "x", "destination": "/x"},
			"direction":       {"source": "a", "destination": "/x", "direction": "sideways"},
			"mode":            {"source": "a", "destination": "/x", "mode": "0888"},
			"big mode":        {"source": "a", "destination": "/x", "mode": "100644"},
			"owner":           {"source": "a", "destination": "/x", "owner": "a:b:c"},
			"empty group":     {"source": "a", "destination": "/x", "owner": "a:"},
			"pattern":         {"source": "a", "destination": "/x", "exclude": "[a"},
			"download a text": {"content": "a", "destination": "x", "direction": "download"},
			"download owner":  {"source": "/a", "destination": "x", "direction": "download", "owner": "me"},
		},
	})
}

// images gives one directory whatever is asked, and a link to it as /link.
type images struct{}

func (images) Digest(context.Context, string) (string, error) { return "", nil }

func (images) Files(_ context.Context, ref, p string) (io.ReadCloser, error) {
	when := time.Unix(1_600_000_000, 0)
	files := []baketest.File{
		{Header: tar.Header{Name: "out/", Mode: 0o750, Uid: 5, ModTime: when}},
		{Header: tar.Header{Name: "out/bin", Mode: 0o4755, Uid: 5, ModTime: when, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "cap"}}, Content: "bin"},
		{Header: tar.Header{Name: "out/hard", Typeflag: tar.TypeLink, Linkname: "out/bin", ModTime: when}},
		{Header: tar.Header{Name: "out/soft", Typeflag: tar.TypeSymlink, Linkname: "/bin/x", Mode: 0o777, ModTime: when}},
		{Header: tar.Header{Name: "out/fifo", Typeflag: tar.TypeFifo, ModTime: when}},
		{Header: tar.Header{Name: "out/.netrc", ModTime: when}, Content: "meant to be"},
	}
	switch p {
	case "/out":
	case "/out/bin":
		files = []baketest.File{{Header: tar.Header{Name: "bin", Mode: 0o755, ModTime: when}, Content: "bin"}}
	case "/link":
		files = []baketest.File{{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "out"}}}
	case "/loop":
		files = []baketest.File{{Header: tar.Header{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"}}}
	default:
		return nil, fmt.Errorf("%s of %s: %w", p, ref, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(baketest.Tar(files...))), nil
}

// run provisions on a recorder and lists what was put, one line an entry.
func run(t *testing.T, body map[string]any) ([]string, *baketest.Sink, error) {
	t.Helper()
	p, err := Kind().New(baketest.Body(body))
	if err != nil {
		t.Fatal(err)
	}
	machine, sink := &baketest.Recorder{Trees: passwd}, &baketest.Sink{}
	epoch := time.Unix(1_700_000_000, 0)
	err = p.Provision(t.Context(), bake.Env{Communicator: machine, Files: host, Image: images{}, Sink: sink, Job: bake.Job{Epoch: &epoch}})
	var lines []string
	for _, c := range machine.Of(baketest.OpPut) {
		for _, f := range c.Files {
			line := fmt.Sprintf("%s %s %o %d:%d", c.Path, f.Name, f.Mode, f.Uid, f.Gid)
			if f.Linkname != "" {
				line += " -> " + f.Linkname
			}
			lines = append(lines, line)
			if body["from"] == nil && !f.ModTime.Equal(epoch) {
				t.Errorf("%s has the time %s", f.Name, f.ModTime)
			}
		}
	}
	return lines, sink, err
}

func TestUpload(t *testing.T) {
	tree := func(prefix, dir string) []string {
		return []string{
			prefix + dir + ".docker/ 755 0:0", prefix + dir + ".docker/other 644 0:0", prefix + dir + "index.html 644 0:0",
			prefix + dir + "js/ 755 0:0", prefix + dir + "js/a.js 644 0:0", prefix + dir + "js/a.js.map 644 0:0",
			prefix + dir + "link 777 0:0 -> js/../../../outside", prefix + dir + "x/ 755 0:0",
		}
	}
	tests := map[string]struct {
		body map[string]any
		want []string
	}{
		"file to a path":       {map[string]any{"source": "app.conf", "destination": "/etc/my.conf"}, []string{"/etc my.conf 644 0:0"}},
		"file into":            {map[string]any{"source": "./run.sh", "destination": "/usr/bin/"}, []string{"/usr/bin run.sh 755 0:0"}},
		"relative":             {map[string]any{"source": "app.conf", "destination": "my.conf"}, []string{"/ my.conf 644 0:0"}},
		"contents":             {map[string]any{"source": "dist/", "destination": "/srv/web"}, tree("/srv/web ", "")},
		"contents, slash":      {map[string]any{"source": "dist/", "destination": "/srv/web/"}, tree("/srv/web ", "")},
		"directory":            {map[string]any{"source": "dist", "destination": "/srv/web"}, append([]string{"/srv/web dist/ 755 0:0"}, tree("/srv/web ", "dist/")...)},
		"empty directory":      {map[string]any{"source": "empty", "destination": "/srv"}, []string{"/srv empty/ 755 0:0"}},
		"several":              {map[string]any{"sources": []string{"app.conf", "run.sh"}, "destination": "/opt/"}, []string{"/opt app.conf 644 0:0", "/opt run.sh 755 0:0"}},
		"content":              {map[string]any{"content": "x", "destination": "/etc/motd", "mode": "0640", "owner": "7:8"}, []string{"/etc motd 640 7:8"}},
		"modes":                {map[string]any{"source": "dist/", "destination": "/there", "mode": "0600", "dir_mode": "0700", "exclude": []string{"*", "!js"}}, []string{"/there js/ 700 0:0", "/there js/a.js 600 0:0", "/there js/a.js.map 600 0:0"}},
		"names":                {map[string]any{"source": "app.conf", "destination": "/etc/app", "owner": "www-data"}, []string{"/etc app 644 33:34"}},
		"names and group":      {map[string]any{"source": "app.conf", "destination": "/etc/app", "owner": "www-data:staff"}, []string{"/etc app 644 33:50"}},
		"number":               {map[string]any{"source": "app.conf", "destination": "/etc/app", "owner": "1000"}, []string{"/etc app 644 1000:1000"}},
		"owner, new dir":       {map[string]any{"source": "app.conf", "destination": "/srv/new/", "owner": "7:8"}, []string{"/srv new/ 755 7:8", "/srv new/app.conf 644 7:8"}},
		"owner, old dir":       {map[string]any{"source": "app.conf", "destination": "/there/", "owner": "7:8"}, []string{"/there app.conf 644 7:8"}},
		"exclude":              {map[string]any{"source": "dist/", "destination": "/srv", "exclude": []string{"**/*.map", "link", ".docker", "x"}}, []string{"/srv index.html 644 0:0", "/srv js/ 755 0:0", "/srv js/a.js 644 0:0"}},
		"exclude all but":      {map[string]any{"source": "dist/", "destination": "/srv", "exclude": []string{"*", "!js/a.js"}}, []string{"/srv js/ 755 0:0", "/srv js/a.js 644 0:0"}},
		"credentials back":     {map[string]any{"source": "dist/", "destination": "/srv", "exclude": []string{"*", "!x", "!**/.netrc"}}, []string{"/srv x/ 755 0:0", "/srv x/.netrc 644 0:0"}},
		"guarded by name":      {map[string]any{"source": ".netrc", "destination": "/root/.netrc", "exclude": "!.netrc"}, []string{"/root .netrc 644 0:0"}},
		"from":                 {map[string]any{"from": "assets", "source": "/out/", "destination": "/srv"}, []string{"/srv bin 4755 0:0", "/srv hard 0 0:0 -> bin", "/srv soft 777 0:0 -> /bin/x", "/srv .netrc 644 0:0"}},
		"from, directory":      {map[string]any{"from": "assets", "source": "out", "destination": "/srv", "owner": "3", "exclude": []string{"soft", ".netrc"}}, []string{"/ srv/ 755 3:3", "/ srv/out/ 750 3:3", "/ srv/out/bin 4755 3:3", "/ srv/out/hard 0 3:3 -> srv/out/bin"}},
		"from, a file":         {map[string]any{"from": "assets", "source": "/out/bin", "destination": "/usr/bin/x", "mode": "0700"}, []string{"/usr/bin x 700 0:0"}},
		"from, through a link": {map[string]any{"from": "assets", "source": "/link/", "destination": "/srv", "exclude": []string{"*", "!bin"}}, []string{"/srv bin 4755 0:0"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, _, err := run(t, test.body)
			if err != nil {
				t.Error(err)
			}
			if test.body["from"] != nil { // tar streams say nothing of a hard link's mode
				for i := range got {
					if strings.Contains(got[i], "hard") {
						got[i] = strings.Replace(got[i], " 644 ", " 0 ", 1)
					}
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A tree is packed in the order of whole paths, as layers have it, and what is
// left out is not looked into.
func TestOrder(t *testing.T) {
	tree := fstest.MapFS{}
	for _, name := range []string{"lib/a", "lib/b/c", "lib-2/a", "lib.txt", "out/a", "out-2/a", "z"} {
		tree["src/"+name] = &fstest.MapFile{Data: []byte(name)}
	}
	p, err := Kind().New(baketest.Body(map[string]any{"source": "src/", "destination": "/srv/", "exclude": []any{"out"}}))
	if err != nil {
		t.Fatal(err)
	}
	machine := &baketest.Recorder{Trees: passwd}
	if err := p.Provision(t.Context(), bake.Env{Communicator: machine, Files: tree, Sink: &baketest.Sink{}}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range machine.Of(baketest.OpPut)[0].Files {
		names = append(names, f.Name)
	}
	want := []string{"lib/", "lib-2/", "lib-2/a", "lib.txt", "lib/a", "lib/b/", "lib/b/c", "out-2/", "out-2/a", "z"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestUploadWarns(t *testing.T) {
	_, sink, err := run(t, map[string]any{"source": "dist/", "destination": "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sink.Texts(bake.Warned); len(got) != 1 || !strings.Contains(got[0], "dist/x/.netrc") {
		t.Errorf("warnings: %q", got)
	}
}

func TestUploadRefuses(t *testing.T) {
	tests := map[string]struct {
		body map[string]any
		want string
	}{
		"missing":           {map[string]any{"source": "nope", "destination": "/x"}, "nope"},
		"outside":           {map[string]any{"source": "../x", "destination": "/x"}, "outside"},
		"absolute":          {map[string]any{"source": "/etc/passwd", "destination": "/x"}, "outside"},
		"git":               {map[string]any{"source": ".git/config", "destination": "/x"}, "credentials"},
		"git itself":        {map[string]any{"source": ".git/", "destination": "/x"}, "credentials"},
		"netrc":             {map[string]any{"source": ".netrc", "destination": "/x"}, "credentials"},
		"several to a file": {map[string]any{"sources": []string{"app.conf", "run.sh"}, "destination": "/x"}, "slash"},
		"unknown user":      {map[string]any{"source": "app.conf", "destination": "/x", "owner": "nobody"}, "nobody"},
		"unknown group":     {map[string]any{"source": "app.conf", "destination": "/x", "owner": "0:nogroup"}, "nogroup"},
		"image's missing":   {map[string]any{"from": "assets", "source": "/nope", "destination": "/x"}, "assets"},
		"image's loop":      {map[string]any{"from": "assets", "source": "/loop", "destination": "/x"}, "too many links"},
		"a file's contents": {map[string]any{"from": "assets", "source": "/out/bin/", "destination": "/x"}, "is a file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			lines, _, err := run(t, test.body)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if len(lines) > 0 {
				t.Errorf("put %q", lines)
			}
		})
	}
}

// A source that is a symbolic link is followed inside of the folder only.
func TestLinksCannotLeadOut(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "token")
	work := t.TempDir()
	write(t, filepath.Join(work, "real", "a"), "a")
	for name, target := range map[string]string{
		"in": "real", "out": outside, "file": outside + "/secret", "relative": "../../../../../../../" + outside + "/secret", "nested": "out/secret",
	} {
		if err := os.Symlink(target, filepath.Join(work, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(work)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for source, ok := range map[string]bool{"in": true, "in/": true, "in/a": true, "out": false, "out/": false, "file": false, "relative": false, "nested": false, "out/secret": false} {
		machine := &baketest.Recorder{}
		p, err := Kind().New(baketest.Body(map[string]any{"source": source, "destination": "/x"}))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Provision(t.Context(), bake.Env{Communicator: machine, Files: root.FS()})
		if (err == nil) != ok {
			t.Errorf("%s: got %v", source, err)
		}
		for _, c := range machine.Calls() {
			for _, f := range c.Files {
				if f.Content == "token" {
					t.Errorf("%s: the file outside was copied", source)
				}
			}
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestThroughTar copies a real tree into a directory by real tar, and back.
func TestThroughTar(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 files")
	}
	work, machine := t.TempDir(), t.TempDir()
	for i := range 300 {
		write(t, filepath.Join(work, "tree", fmt.Sprint(i%20), fmt.Sprint(i)), fmt.Sprint("content ", i))
	}
	if err := os.Symlink("/else/where", filepath.Join(work, "tree", "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(work)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	env := bake.Env{Communicator: local.NewCommunicator(machine, os.Environ()), Files: root.FS(), HostDir: work}
	for _, body := range []map[string]any{
		{"source": "tree", "destination": "/srv"},
		{"direction": "download", "source": "/srv/tree", "destination": "back"},
		{"direction": "download", "source": "/srv/tree/7/7", "destination": "one/file"},
	} {
		p, err := Kind().New(baketest.Body(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(t.Context(), env); err != nil {
			t.Fatal(err)
		}
	}
	got, want := listing(t, filepath.Join(work, "back", "tree")), listing(t, filepath.Join(work, "tree"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(filepath.Join(work, "one", "file")); err != nil || string(text) != "content 7" {
		t.Errorf("got %q, %v", text, err)
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		text := ""
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(b)
		case d.Type() == fs.ModeSymlink:
			if text, err = os.Readlink(p); err != nil {
				return err
			}
		}
		out = append(out, fmt.Sprint(rel, " ", d.Type(), " ", text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDownloadStaysInside: no stream of a hostile machine writes outside.
func TestDownloadStaysInside(t *testing.T) {
	link := func(name, to string) baketest.File {
		return baketest.File{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}}
	}
	reg := func(name string) baketest.File {
		return baketest.File{Header: tar.Header{Name: name}, Content: "evil"}
	}
	base := baketest.File{Header: tar.Header{Name: "d/"}}
	outside := t.TempDir()
	write(t, filepath.Join(outside, "canary"), "canary")
	for name, files := range map[string][]baketest.File{
		"dots":             {base, reg("d/../../canary")},
		"absolute":         {base, reg(outside + "/canary")},
		"other base":       {base, reg("e/canary")},
		"through link":     {base, link("d/l", outside), reg("d/l/canary")},
		"through parent":   {base, link("d/l", "../.."), reg("d/l/canary")},
		"over link":        {base, link("d/l", outside+"/canary"), reg("d/l")},
		"base is link":     {link("d", outside), reg("d/canary")},
		"hard link":        {base, {Header: tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/../../canary"}}, reg("d/h")},
		"hard link, link":  {base, link("d/l", outside), {Header: tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/l/canary"}}, reg("d/h")},
		"directory, link":  {base, link("d/l", outside), {Header: tar.Header{Name: "d/l/", Mode: 0o777}}, reg("d/l/canary")},
		"device":           {base, {Header: tar.Header{Name: "d/dev", Typeflag: tar.TypeChar}}},
		"setuid is gone":   {base, {Header: tar.Header{Name: "d/suid", Mode: 0o6777}, Content: "x"}},
		"file, then below": {base, reg("d/f"), reg("d/f/g")},
	} {
		t.Run(name, func(t *testing.T) {
			work := t.TempDir()
			machine := &baketest.Recorder{Trees: map[string][]baketest.File{"/d": files}}
			for _, source := range []string{"/d", "/d/"} {
				p, err := Kind().New(baketest.Body(map[string]any{"direction": "download", "source": source, "destination": "to"}))
				if err != nil {
					t.Fatal(err)
				}
				_ = p.Provision(t.Context(), bake.Env{Communicator: machine, HostDir: work, Sink: &baketest.Sink{}}) // refused or harmless
			}
			if text, err := os.ReadFile(filepath.Join(outside, "canary")); err != nil || string(text) != "canary" {
				t.Errorf("the file outside is %q, %v", text, err)
			}
			_ = filepath.WalkDir(work, func(p string, d fs.DirEntry, err error) error {
				if info, _ := d.Info(); info != nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice) != 0 {
					t.Errorf("%s has mode %v", p, info.Mode())
				}
				return nil
			})
			if entries, _ := os.ReadDir(work); slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != "to" }) {
				t.Errorf("the folder holds %v", entries)
			}
		})
	}
}

func TestDownloadOutsideTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for _, hostAllowed := range []bool{false, true} {
		machine := &baketest.Recorder{Trees: passwd}
		env := bake.Env{Communicator: machine, HostDir: t.TempDir()}
		if hostAllowed {
			env.Host = machine
		}
		p, err := Kind().New(baketest.Body(map[string]any{"direction": "download", "source": "/log/", "destination": dir}))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Provision(t.Context(), env)
		text, readErr := os.ReadFile(filepath.Join(dir, "a"))
		if (err == nil) != hostAllowed || (readErr == nil && string(text) == "A") != hostAllowed {
			t.Errorf("host allowed %v: got %v, %q", hostAllowed, err, text)
		}
	}
}

func TestPutFails(t *testing.T) {
	full := errors.New("disk full")
	for name, c := range map[string]bake.Communicator{
		"at the end": &baketest.Recorder{OnPut: func(context.Context, string, []baketest.File) error { return full }},
		"at once":    refusing{full},
	} {
		p, err := Kind().New(baketest.Body(map[string]any{"source": "dist", "destination": "/srv"}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(t.Context(), bake.Env{Communicator: c, Files: host}); !errors.Is(err, full) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// refusing does not even read the stream.
type refusing struct{ err error }

func (r refusing) Exec(context.Context, bake.Cmd) (int, error)        { return 0, r.err }
func (r refusing) Put(context.Context, string, io.Reader) error       { return r.err }
func (r refusing) Get(context.Context, string) (io.ReadCloser, error) { return nil, r.err }

func TestInputs(t *testing.T) {
	for name, test := range map[string]struct {
		body map[string]any
		want []string
	}{
		"sources":   {map[string]any{"sources": []string{"a", "b/"}, "destination": "/x/"}, []string{"a", "b/"}},
		"from":      {map[string]any{"source": "a", "from": "i", "destination": "/x/"}, nil},
		"download":  {map[string]any{"source": "a", "direction": "download", "destination": "x"}, nil},
		"generated": {map[string]any{"source": "a", "generated": true, "destination": "/x"}, nil},
		"content":   {map[string]any{"content": "a", "destination": "/x"}, nil},
	} {
		var got []string
		for _, in := range Kind().Inputs(baketest.Body(test.body)) {
			got = append(got, in.Path)
			if !slices.Contains(in.Exclude, "**/.git") {
				t.Errorf("%s: excludes %q", name, in.Exclude)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTitle(t *testing.T) {
	for want, body := range map[string]map[string]any{
		"dist/ -> /srv":         {"source": "dist/", "destination": "/srv"},
		"a (+1 more) -> /srv/":  {"sources": []string{"a", "b"}, "destination": "/srv/"},
		"text -> /etc/motd":     {"content": "secret", "destination": "/etc/motd"},
		"assets:/out/ -> /srv/": {"from": "assets", "source": "/out/", "destination": "/srv/"},
	} {
		if got := Kind().Title(baketest.Body(body)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
