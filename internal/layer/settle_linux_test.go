package layer

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSettle(t *testing.T) {
	early := time.Unix(1000, 0)
	l := baseTree(t)
	for _, p := range []string{"a/one", "a/two", "a/sub/three", "a/sub", "a", "a-b", "bin/tool", "bin", "empty", ""} {
		l.touch(p, early)
	}
	tree := NewTree(l.scan())
	var before unix.Stat_t
	must(t, unix.Stat(l.path("a-b"), &before))

	l.write("a/one", "edited")
	l.touch("a/two", time.Unix(5, 0))            // no change to speak of
	l.write("a/sub/new", "n")                    // its directory changes
	l.touch("a/sub/new", time.Unix(2000, 999))   // earlier than the epoch
	l.symlink("x", "empty/link")                 // a link's own time
	l.write(".imgbake/helper", "h")              // not ours
	l.write("skip/file", "x")                    // not ours
	l.touch(".imgbake/helper", time.Unix(77, 7)) // as is skip/file
	l.touch("skip/file", time.Unix(77, 7))
	publish(t, tree, l.delta(tree.Raw()), Policy{})
	must(t, Settle(t.Context(), l.root, tree.Raw(), SettleOptions{Skip: []string{"/skip"}}))

	for p, want := range map[string]time.Time{"a/one": epoch, "a/two": early, "a/sub/new": time.Unix(2000, 0), "a/sub": epoch, "a": epoch,
		"": early, "empty": epoch, "empty/link": epoch, ".imgbake/helper": time.Unix(77, 7), "skip/file": time.Unix(77, 7)} {
		info, err := os.Lstat(l.path(p))
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("time of %q is %v, want %v", p, info.ModTime(), want)
		}
	}
	var after unix.Stat_t
	must(t, unix.Stat(l.path("a-b"), &after))
	if after.Ctim != before.Ctim {
		t.Error("a file that nobody touched was touched")
	}
	if left := listTar(t, l.delta(tree.Raw())); len(left) != 0 {
		t.Errorf("settling changed %q", left)
	}
}

// With Since, a file of the base keeps its fraction of a second.
func TestSettleSince(t *testing.T) {
	l := baseTree(t)
	l.touch("a/one", time.Unix(1000, 5))
	tree := NewTree(l.scan())
	for since, want := range map[time.Time]time.Time{time.Now().Add(time.Hour): time.Unix(1000, 5), {}: time.Unix(1000, 0)} {
		l.touch("a/one", time.Unix(1000, 5))
		must(t, Settle(t.Context(), l.root, tree.Raw(), SettleOptions{Since: since}))
		info, err := os.Lstat(l.path("a/one"))
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("since %v: time is %v, want %v", since, info.ModTime(), want)
		}
	}
}

// What nobody here may touch, as a file whose owner is outside of the user
// namespace, keeps its time: no step made it.
func TestSettleForeign(t *testing.T) {
	const immutable = 0x10 // FS_IMMUTABLE_FL, ioctl_iflags(2)
	l := baseTree(t)
	l.touch("a/one", time.Unix(1000, 5))
	l.touch("a/two", time.Unix(1000, 5))
	f, err := os.Open(l.path("a/one"))
	must(t, err)
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Skipf("SKIPPED: no file can be made immutable here: %v", err)
	}
	defer func() { must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)) }()
	must(t, Settle(t.Context(), l.root, NewTree(l.scan()).Raw(), SettleOptions{}))
	for p, want := range map[string]time.Time{"a/one": time.Unix(1000, 5), "a/two": time.Unix(1000, 0)} {
		info, err := os.Lstat(l.path(p))
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("time of %q is %v, want %v", p, info.ModTime(), want)
		}
	}
}
