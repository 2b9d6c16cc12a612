package baketest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// CommunicatorOptions say what a CommunicatorSuite works on.
type CommunicatorOptions struct {
	// New makes a communicator to a machine with sh, cat and tar, for one test.
	New func(t *testing.T) bake.Communicator
	// Root: commands run as root, so owners can be changed.
	Root bool
	// User is a user of the machine other than root, "" for none to try.
	User string
}

// work is the directory of the machine that the suite works in.
const work = "/imgbake-suite"

// CommunicatorSuite checks what bake.Communicator promises.
func CommunicatorSuite(t *testing.T, o CommunicatorOptions) {
	tests := map[string]func(*testing.T, bake.Communicator, CommunicatorOptions){
		"exit status":      testStatus,
		"environment":      testEnvironment,
		"directory":        testDirectory,
		"user":             testUser,
		"standard input":   testStdin,
		"output":           testOutput,
		"cancel":           testCancel,
		"cancelled before": testCancelledBefore,
		"concurrent":       testConcurrent,
		"round trip":       testRoundTrip,
		"many files":       testManyFiles,
		"get missing":      testGetMissing,
		"get closed early": testGetClosedEarly,
		"put broken":       testPutBroken,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := o.New(t)
			put(t, c, work, File{Header: tar.Header{Name: "here", Mode: 0o644}})
			test(t, c, o)
		})
	}
}

// sh runs a script in the work directory and returns what it prints.
func sh(t *testing.T, c bake.Communicator, script string, change ...func(*bake.Cmd)) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd := bake.Cmd{Args: []string{"/bin/sh", "-c", script}, Dir: work, Stdout: &out, Stderr: &out}
	for _, f := range change {
		f(&cmd)
	}
	status, err := c.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatalf("exec %q: %v", script, err)
	}
	return out.String(), status
}

func put(t *testing.T, c bake.Communicator, dst string, files ...File) {
	t.Helper()
	if err := c.Put(t.Context(), dst, bytes.NewReader(Tar(files...))); err != nil {
		t.Fatalf("put to %s: %v", dst, err)
	}
}

func get(t *testing.T, c bake.Communicator, src string) []File {
	t.Helper()
	stream, err := c.Get(t.Context(), src)
	if err != nil {
		t.Fatalf("get %s: %v", src, err)
	}
	files, err := Untar(stream)
	if err := errors.Join(err, stream.Close()); err != nil {
		t.Fatalf("get %s: %v", src, err)
	}
	return files
}

func testStatus(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	for _, want := range []int{0, 1, 7, 127, 255} {
		if _, got := sh(t, c, fmt.Sprintf("exit %d", want)); got != want {
			t.Errorf("exit %d gives status %d", want, got)
		}
	}
	if _, got := sh(t, c, "kill -9 $$"); got != 128+9 {
		t.Errorf("a killed command gives status %d, want 137", got)
	}
}

func testEnvironment(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	value := "it's \"5$\" `x`\nand more"
	got, _ := sh(t, c, `printf %s "$SUITE_VALUE"; printf "|%s" "$SUITE_EMPTY" "$PATH"`, func(cmd *bake.Cmd) {
		cmd.Env = []string{"SUITE_VALUE=" + value, "SUITE_EMPTY="}
	})
	if want := value + "||"; !strings.HasPrefix(got, want) || len(got) == len(want) {
		t.Errorf("got %q, want %q and a PATH", got, want)
	}
}

func testDirectory(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	if got, _ := sh(t, c, "pwd; ls"); !strings.HasSuffix(got, work+"\nhere\n") {
		t.Errorf("got %q", got)
	}
}

func testUser(t *testing.T, c bake.Communicator, o CommunicatorOptions) {
	if o.User == "" {
		t.Skip("no other user here")
	}
	got, _ := sh(t, c, "id -un", func(cmd *bake.Cmd) { cmd.User = o.User })
	if want := o.User + "\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testStdin(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	text := strings.Repeat("0123456789abcde\n", 20_000)
	got, _ := sh(t, c, "cat; echo end", func(cmd *bake.Cmd) { cmd.Stdin = strings.NewReader(text) })
	if got != text+"end\n" {
		t.Errorf("%d bytes came back of %d", len(got), len(text))
	}
	if got, status := sh(t, c, "cat; echo end"); got != "end\n" || status != 0 {
		t.Errorf("without standard input: got %q, status %d", got, status)
	}
	if _, status := sh(t, c, "exit 3", func(cmd *bake.Cmd) { cmd.Stdin = strings.NewReader(text) }); status != 3 {
		t.Errorf("a command that does not read: status %d, want 3", status)
	}
}

func testOutput(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	var stdout, stderr bytes.Buffer
	_, err := c.Exec(t.Context(), bake.Cmd{
		Args: []string{"/bin/sh", "-c", "echo out; echo err >&2"}, Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil || stdout.String() != "out\n" || stderr.String() != "err\n" {
		t.Errorf("got %q and %q, %v", stdout.String(), stderr.String(), err)
	}
	if _, err := c.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "echo lost"}}); err != nil {
		t.Errorf("without writers: %v", err)
	}
}

// notify closes a channel when something is written.
type notify struct {
	once sync.Once
	ch   chan struct{}
}

func (n *notify) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.ch) })
	return len(p), nil
}

// testCancel starts a command that would outlive its shell and sees it end.
func testCancel(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := &notify{ch: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, bake.Cmd{
			Args: []string{"/bin/sh", "-c", `sh -c 'echo $$ >pid; echo up; exec sleep 1000' & wait`}, Dir: work, Stdout: started,
		})
		done <- err
	}()
	select {
	case <-started.ch:
	case err := <-done:
		t.Fatalf("the command ended: %v", err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("cancelling did not end the command within 15 s")
	}
	// The sleep itself is ended, perhaps a moment later; a zombie counts as ended.
	script := `i=0; while kill -0 "$(cat pid)" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$(cat pid)/status" 2>/dev/null; do
i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done`
	if _, status := sh(t, c, script); status != 0 {
		t.Error("what the command started is still running")
	}
}

func testCancelledBefore(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Exec(ctx, bake.Cmd{Args: []string{"/bin/sh", "-c", "echo x >ran"}, Dir: work}); err == nil {
		t.Error("exec: got no error")
	}
	if err := c.Put(ctx, work, bytes.NewReader(Tar())); err == nil {
		t.Error("put: got no error")
	}
	if stream, err := c.Get(ctx, work); err == nil {
		stream.Close()
		t.Error("get: got no error")
	}
	if got, _ := sh(t, c, "ls"); got != "here\n" {
		t.Errorf("something ran: %q", got)
	}
}

func testConcurrent(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			var out bytes.Buffer
			status, err := c.Exec(t.Context(), bake.Cmd{Args: []string{"/bin/sh", "-c", "cat; exit $N"}, Stdout: &out,
				Env: []string{fmt.Sprintf("N=%d", i)}, Stdin: strings.NewReader(fmt.Sprint("input ", i))})
			if err != nil || status != i || out.String() != fmt.Sprint("input ", i) {
				t.Errorf("command %d: status %d, %q, %v", i, status, out.String(), err)
			}
		})
	}
	group.Wait()
}

var old = time.Unix(1_000_000_000, 0)

// oddFiles are what a real tree may hold. Nothing is owned by names.
func oddFiles(root bool) []File {
	id := func(n int) int {
		if root {
			return n
		}
		return 0
	}
	h := func(kind byte, name string, mode int64, uid, gid int) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Mode: mode, Uid: id(uid), Gid: id(gid), ModTime: old}
	}
	link := h(tar.TypeSymlink, "tree/link", 0o777, 0, 0)
	link.Linkname = "../../else where/'x'"
	return []File{
		{Header: h(tar.TypeDir, "tree/", 0o755, 0, 0)},
		{Header: h(tar.TypeReg, "tree/-dash", 0o600, 1234, 4321), Content: "dash"},
		{Header: h(tar.TypeReg, "tree/a b'c\"d\\e$f`g*", 0o755, 0, 0), Content: "odd"},
		{Header: h(tar.TypeDir, "tree/empty/", 0o700, 1234, 0)},
		{Header: link},
		{Header: h(tar.TypeReg, "tree/none", 0o444, 0, 0)},
		{Header: h(tar.TypeReg, "tree/"+strings.Repeat("long/", 30)+"é漢", 0o640, 0, 0), Content: "deep"},
		{Header: h(tar.TypeReg, "tree/setuid", 0o4755, 0, 0), Content: "suid"},
	}
}

// summary is what must survive a round trip.
type summary struct {
	Type     string
	Mode     int64
	UID, GID int
	Link     string
	Content  string
	ModTime  time.Time
}

func summaries(files []File, root bool) map[string]summary {
	out := map[string]summary{}
	for _, f := range files {
		if strings.HasSuffix(f.Name, "long/") {
			continue // parents the stream did not name
		}
		s := summary{Type: string(f.Typeflag), Mode: f.Mode & 0o7777, UID: f.Uid, GID: f.Gid, Link: f.Linkname, Content: f.Content, ModTime: f.ModTime.UTC()}
		if !root {
			s.UID, s.GID = 0, 0
		}
		if f.Typeflag == tar.TypeSymlink {
			s.Mode = 0
			s.ModTime = time.Time{}
		}
		out[strings.TrimSuffix(f.Name, "/")] = s
	}
	return out
}

func testRoundTrip(t *testing.T, c bake.Communicator, o CommunicatorOptions) {
	files := oddFiles(o.Root)
	put(t, c, work+"/new/dir", files...)
	got := get(t, c, work+"/new/dir/tree")
	if len(got) == 0 || strings.TrimSuffix(got[0].Name, "/") != "tree" {
		t.Fatalf("the first entry is not the base name: %v", got)
	}
	if diff := cmp.Diff(summaries(files, o.Root), summaries(got, o.Root)); diff != "" {
		t.Errorf("-put +got\n%s", diff)
	}
	one := get(t, c, work+"/new/dir/tree/-dash")
	if len(one) != 1 || one[0].Name != "-dash" || one[0].Content != "dash" {
		t.Errorf("a single file: got %+v", one)
	}
	link := get(t, c, work+"/new/dir/tree/link")
	if len(link) != 1 || link[0].Typeflag != tar.TypeSymlink {
		t.Errorf("a single link: got %+v", link)
	}
	made := get(t, c, work+"/new")
	if made[0].Mode&0o777 != 0o755 || o.Root && made[0].Uid != 0 {
		t.Errorf("the directory made has mode %o and owner %d", made[0].Mode, made[0].Uid)
	}
}

func testManyFiles(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	var files []File
	for i := range 3000 {
		files = append(files, File{Header: tar.Header{Name: fmt.Sprintf("d%d/f%d", i%50, i), Mode: 0o644}, Content: fmt.Sprint(i)})
	}
	put(t, c, work+"/many", files...)
	n := 0
	for _, f := range get(t, c, work+"/many") {
		if f.Typeflag == tar.TypeReg {
			n++
		}
	}
	if n != len(files) {
		t.Errorf("%d files came back of %d", n, len(files))
	}
}

func testGetMissing(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	for _, p := range []string{work + "/nothing", "/no/such/parent"} {
		stream, err := c.Get(t.Context(), p)
		if err == nil {
			stream.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", p, err)
		}
	}
}

func testGetClosedEarly(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	put(t, c, work, File{Header: tar.Header{Name: "big", Mode: 0o644}, Content: strings.Repeat("x", 8<<20)})
	stream, err := c.Get(t.Context(), work+"/big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1000)); err != nil {
		t.Error(err)
	}
	if err := stream.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if got, _ := sh(t, c, "ls"); !slices.Contains(strings.Fields(got), "here") {
		t.Errorf("the machine does not answer: %q", got)
	}
}

func testPutBroken(t *testing.T, c bake.Communicator, _ CommunicatorOptions) {
	whole := Tar(File{Header: tar.Header{Name: "cut", Mode: 0o644}, Content: strings.Repeat("x", 4096)})
	if err := c.Put(t.Context(), work, bytes.NewReader(whole[:1024])); err == nil {
		t.Error("a stream cut off: got no error")
	}
	broken := errors.New("source is gone")
	err := c.Put(t.Context(), work, io.MultiReader(bytes.NewReader(whole[:700]), failing{broken}))
	if err == nil {
		t.Error("a stream that fails: got no error")
	}
}

// failing is a reader that gives an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
