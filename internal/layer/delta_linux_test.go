package layer

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A base tree that the cases below edit.
func baseTree(t *testing.T) *liveTree {
	l := newTree(t)
	l.write("a/one", "1")
	l.write("a/two", "2")
	l.write("a/sub/three", "3")
	l.write("a-b", "sorts between a and a/one")
	l.write("bin/tool", "tool")
	l.link("bin/tool", "bin/tool2")
	l.link("bin/tool", "bin/tool3")
	l.symlink("a/one", "link")
	l.dir("empty")
	return l
}

func TestDelta(t *testing.T) {
	cases := map[string]struct {
		edit func(l *liveTree)
		want []string
	}{
		"nothing":              {func(l *liveTree) {}, nil},
		"touched":              {func(l *liveTree) { l.touch("a/one", time.Unix(5, 0)); l.touch("a", time.Unix(5, 0)) }, nil},
		"rewritten the same":   {func(l *liveTree) { l.write("a/one", "1") }, nil},
		"new file":             {func(l *liveTree) { l.write("a/new", "n") }, []string{"0 a/new = n"}},
		"new directory":        {func(l *liveTree) { l.write("d/e/f", "x") }, []string{"5 d/", "5 d/e/", "0 d/e/f = x"}},
		"edited":               {func(l *liveTree) { l.write("a/one", "other") }, []string{"0 a/one = other"}},
		"mode of a file":       {func(l *liveTree) { l.chmod("a/one", 0o4755) }, []string{"0 a/one = 1"}},
		"mode of a directory":  {func(l *liveTree) { l.chmod("a", 0o1777) }, []string{"5 a/"}},
		"deleted file":         {func(l *liveTree) { l.remove("a/one") }, []string{"0 a/.wh.one"}},
		"deleted directory":    {func(l *liveTree) { l.remove("a") }, []string{"0 .wh.a"}},
		"order":                {func(l *liveTree) { l.remove("a/sub"); l.write("a-b", "x"); l.remove("a/one"); l.write("a/sub2", "y") }, []string{"0 a-b = x", "0 a/.wh.one", "0 a/.wh.sub", "0 a/sub2 = y"}},
		"directory to file":    {func(l *liveTree) { l.remove("a"); l.write("a", "file") }, []string{"0 a = file"}},
		"file to directory":    {func(l *liveTree) { l.remove("a/one"); l.write("a/one/x", "x") }, []string{"5 a/one/", "0 a/one/x = x"}},
		"directory to symlink": {func(l *liveTree) { l.remove("a"); l.symlink("bin", "a") }, []string{"2 a -> bin"}},
		"replaced directory":   {func(l *liveTree) { l.remove("a"); l.write("a/two", "2"); l.write("a/four", "4") }, []string{"0 a/four = 4", "0 a/.wh.one", "0 a/.wh.sub"}},
		"renamed directory": {func(l *liveTree) { l.rename("a", "z") },
			[]string{"0 .wh.a", "5 z/", "0 z/one = 1", "5 z/sub/", "0 z/sub/three = 3", "0 z/two = 2"}},
		"swapped directories": {func(l *liveTree) { l.rename("a", "t"); l.rename("empty", "a"); l.rename("t", "empty") },
			[]string{"0 a/.wh.one", "0 a/.wh.sub", "0 a/.wh.two", "0 empty/one = 1", "5 empty/sub/", "0 empty/sub/three = 3", "0 empty/two = 2"}},
		"symlink target":      {func(l *liveTree) { l.remove("link"); l.symlink("../../etc", "link") }, []string{"2 link -> ../../etc"}},
		"link edited":         {func(l *liveTree) { l.write("bin/tool2", "new") }, []string{"0 bin/tool = new", "1 bin/tool2 -> bin/tool", "1 bin/tool3 -> bin/tool"}},
		"link added":          {func(l *liveTree) { l.link("bin/tool", "a/tool") }, []string{"0 a/tool = tool", "1 bin/tool -> a/tool", "1 bin/tool2 -> a/tool", "1 bin/tool3 -> a/tool"}},
		"link removed":        {func(l *liveTree) { l.remove("bin/tool") }, []string{"0 bin/.wh.tool"}},
		"link broken, same":   {func(l *liveTree) { l.remove("bin/tool2"); l.write("bin/tool2", "tool") }, []string{"0 bin/tool2 = tool"}},
		"link broken, edited": {func(l *liveTree) { l.remove("bin/tool"); l.write("bin/tool", "x") }, []string{"0 bin/tool = x"}},
		"link group split": {func(l *liveTree) { l.remove("bin/tool"); l.write("bin/tool", "tool"); l.link("bin/tool", "bin/tool0") },
			[]string{"0 bin/tool = tool", "1 bin/tool0 -> bin/tool"}},
		"files joined": {func(l *liveTree) { l.remove("a/two"); l.link("a/one", "a/two") }, []string{"0 a/one = 1", "1 a/two -> a/one"}},
		"fifo":         {func(l *liveTree) { must(l.t, unix.Mkfifo(l.path("fifo"), 0o600)) }, []string{"6 fifo"}},
		"odd names":    {func(l *liveTree) { l.write("a/\xff\n=é", "o") }, []string{"0 a/\xff\n=é = o"}},
		"long name": {func(l *liveTree) { l.write(longName, "o") },
			[]string{"5 " + longName[:201] + "", "0 " + longName + " = o"}},
		"helper":         {func(l *liveTree) { l.write(".imgbake/helper", "h") }, nil},
		"same size, old": {editKeepingTime, []string{"0 a/one = X"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := baseTree(t)
			base := l.scan()
			before := copyOf(l)
			sameTree(t, before.scan(), base)
			c.edit(l)
			delta := l.delta(base)
			wantLines(t, listTar(t, delta), c.want...)
			before.apply(delta)
			sameTree(t, before.scan(), l.scan())
		})
	}
}

var longName = string(bytes.Repeat([]byte("d"), 200)) + "/" + string(bytes.Repeat([]byte("f"), 200))

func editKeepingTime(l *liveTree) {
	info, err := os.Stat(l.path("a/one"))
	must(l.t, err)
	l.write("a/one", "X")
	l.touch("a/one", info.ModTime())
}

func TestDeltaXattrs(t *testing.T) {
	l := baseTree(t)
	l.xattr("a/one", "user.was", "x")
	base := l.scan()
	before := copyOf(l)
	l.xattr("a/two", "user.new", "\x00bytes\xff")
	l.xattr("a/sub", "user.dir", "d")
	l.xattr("a/two", "user.overlay.origin", "bookkeeping")
	must(t, unix.Removexattr(l.path("a/one"), "user.was"))
	delta := l.delta(base)
	wantLines(t, listTar(t, delta), "0 a/one = 1", "5 a/sub/", "0 a/two = 2")
	before.apply(delta)
	sameTree(t, before.scan(), l.scan())
}

func TestDeltaSkip(t *testing.T) {
	l := baseTree(t)
	base := l.scan()
	l.remove("a/sub")
	l.write("a/one", "changed")
	l.write("a/new", "n")
	var b bytes.Buffer
	must(t, Delta(t.Context(), l.root, base, DeltaOptions{Skip: []string{"/a/sub", "a/one"}}, &b))
	wantLines(t, listTar(t, b.Bytes()), "0 a/new = n")
}

func TestDeltaTrustsCtime(t *testing.T) {
	l := baseTree(t)
	base := l.scan()
	editKeepingTime(l)
	l.touch("a/two", time.Unix(5, 0))
	for name, c := range map[string]struct {
		since time.Time
		want  []string
	}{
		"changed since":      {time.Now(), []string{"0 a/one = X"}},
		"too early to count": {time.Now().Add(time.Hour), nil},
	} {
		var b bytes.Buffer
		must(t, Delta(t.Context(), l.root, base, DeltaOptions{Since: c.since, TrustCtime: true}, &b))
		t.Log(name)
		wantLines(t, listTar(t, b.Bytes()), c.want...)
	}
}

func TestDeltaReservedName(t *testing.T) {
	l := baseTree(t)
	base := l.scan()
	l.write("a/.wh.one", "")
	if err := Delta(t.Context(), l.root, base, DeltaOptions{}, &bytes.Buffer{}); err == nil {
		t.Error("a file with a whiteout's name was accepted")
	}
}

func TestDeltaTarIsDelta(t *testing.T) {
	l := baseTree(t)
	base := l.scan()
	l.write("bin/tool2", "new")
	l.link("bin/tool", "0tool")
	l.remove("a/sub")
	l.write("a/new", string(bytes.Repeat([]byte("long "), 300_000)))
	l.chmod("a", 0o700)
	empty, err := NewIndex(nil)
	must(t, err)
	export := l.delta(empty)
	var got bytes.Buffer
	must(t, DeltaTar(t.Context(), bytes.NewReader(export), int64(len(export)), base, DeltaOptions{}, &got))
	if want := l.delta(base); !bytes.Equal(got.Bytes(), want) {
		wantLines(t, listTar(t, got.Bytes()), listTar(t, want)...)
		t.Error("the bytes differ")
	}
}

func TestParseMounts(t *testing.T) {
	const info = "22 1 0:5 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l,redirect_dir=on\n" +
		"30 22 0:6 / /mnt/a\\040b rw - tmpfs tmpfs rw\nbroken\n" +
		"31 22 0:7 / /over rw master:1 propagate_from:2 - overlay none rw,lowerdir=/l\n"
	mounts := parseMounts(info)
	if len(mounts) != 3 || mounts[1].point != "/mnt/a b" {
		t.Fatalf("mounts = %q", mounts)
	}
	for path, want := range map[string]bool{"/": false, "/etc": false, "/mnt/a b/c": false, "/over": true, "/over/x": true, "/overt": false} {
		if got := trustworthy(mountOf(mounts, path), true); got != want {
			t.Errorf("trustworthy(%s) = %v, want %v", path, got, want)
		}
	}
	if trustworthy(mountOf(mounts, "/over"), false) {
		t.Error("overlay is trusted though the kernel redirects by default")
	}
}
