package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/patternmatcher"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// digestNow is an input's digest before anything was read.
func digestNow(files *folder, in bake.Input) (string, error) {
	content, err := newInput("", files, in)
	if err != nil {
		return "", err
	}
	return content.Digest()
}

func folderOf(t *testing.T, dir string) *folder {
	t.Helper()
	files, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// later is a digest that is not made yet.
func later(t *testing.T, files *folder, in bake.Input) func() (string, error) {
	t.Helper()
	return laterInput(t, files, in).Digest
}

func laterInput(t *testing.T, files *folder, in bake.Input) *input {
	t.Helper()
	content, err := newInput("", files, in)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// upload reads a folder as a step does that copies it: whole, or what pick says of
// it, from each file as many bytes as amount says; -1: all.
func upload(files fs.FS, root string, amount func(name string) int64) error {
	below, err := fs.Sub(files, root)
	if err != nil {
		return err
	}
	return fs.WalkDir(below, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSymlink {
			_, err = fs.ReadLink(below, name)
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := below.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if n := amount(name); n >= 0 {
			_, err = io.CopyN(io.Discard, f, n)
		} else {
			_, err = io.Copy(io.Discard, f)
		}
		if err == io.EOF {
			err = nil
		}
		return err
	})
}

func whole(string) int64 { return -1 }

// someTree makes a folder of random files, directories and links.
func someTree(t *testing.T, r *rand.Rand) string {
	t.Helper()
	dir := t.TempDir()
	folders := []string{"in"}
	for i := range r.IntN(8) {
		folders = append(folders, path.Join(folders[r.IntN(len(folders))], fmt.Sprint("d", i)))
	}
	for _, name := range folders {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range r.IntN(150) {
		name := filepath.Join(dir, folders[r.IntN(len(folders))], []string{"f", "F.txt", "a-", "ü "}[r.IntN(4)]+fmt.Sprint(i))
		var err error
		switch r.IntN(8) {
		case 0:
			err = os.Symlink([]string{"f1", "../in", "/etc/passwd", "nowhere"}[r.IntN(4)], name)
		case 1:
			err = os.WriteFile(name, nil, 0o755)
		case 2:
			err = os.WriteFile(name, []byte(strings.Repeat(fmt.Sprint(i), r.IntN(100_000))), 0o644)
		default:
			err = os.WriteFile(name, []byte(fmt.Sprint("content ", r.IntN(20))), 0o600|fs.FileMode(r.IntN(2))*0o100)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plainDigest is the digest of the folder "in", as plainly as it can be made.
func plainDigest(t *testing.T, dir string, exclude []string) string {
	t.Helper()
	skip, err := patternmatcher.New(exclude)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	err = filepath.WalkDir(filepath.Join(dir, "in"), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(filepath.Join(dir, "in"), name)
		if rel == "." {
			rel = ""
		} else if left, err := skip.MatchesOrParentMatches(rel); left || err != nil {
			return err
		}
		line := d.Type().String()
		switch {
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(name)
			line = fmt.Sprintf("link %q", target)
		case d.Type() == 0:
			info, _ := d.Info()
			data, _ := os.ReadFile(name)
			line = fmt.Sprintf("%t sha256:%x", info.Mode()&0o111 != 0, sha256.Sum256(data))
		}
		fmt.Fprintf(h, "%q %s\n", rel, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// A digest is the same before anything was read and afterwards, whatever was.
func TestDigestIsTheSameLater(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := someTree(t, r)
		exclude := [][]string{nil, {"**/*.txt*"}, {"d0", "!d0/f*"}, {"f*", "d1"}}[r.IntN(4)]
		in := bake.Input{Path: "in", Exclude: exclude}
		want := plainDigest(t, dir, exclude)
		if got, err := digestNow(folderOf(t, dir), in); err != nil || got != want {
			t.Fatalf("seed %d, before: %s, %v; want %s", seed, got, err, want)
		}
		for name, amount := range map[string]func(string) int64{
			"all is read":  whole,
			"some is read": func(string) int64 { return []int64{-1, 0, 3, 10, 1 << 30}[r.IntN(5)] },
		} {
			files := folderOf(t, dir)
			digest := later(t, files, in)
			if err := upload(files, "in", amount); err != nil {
				t.Fatal(err)
			}
			if got, err := digest(); err != nil || got != want {
				t.Fatalf("seed %d, %s: %s, %v; want %s", seed, name, got, err, want)
			}
		}
	}
}

// A file by itself has the digest of what is in it, also behind a link.
func TestDigestOfAFile(t *testing.T) {
	dir := tree(t, map[string]string{"a": "A", "empty": "", "in/link": "->../a"})
	for name, content := range map[string]string{"a": "A", "./a": "A", "empty": "", "in/link": "A"} {
		files := folderOf(t, dir)
		digest := later(t, files, bake.Input{Path: name})
		if got, err := fs.ReadFile(files, path.Clean(name)); err != nil || string(got) != content {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		if got, ok := files.reads.at(path.Clean(name)); !ok || got.content == "" {
			t.Errorf("%s: nothing is remembered", name)
		}
		want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
		if got, err := digest(); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

// Inputs are checked before anything runs, and not read.
func TestInputsAreChecked(t *testing.T) {
	dir := tree(t, map[string]string{"a": "A", "d/b": "B", "out": "->/etc/passwd"})
	files := folderOf(t, dir)
	for name, want := range map[string]string{
		"a": "", "d": "", "d/": "", ".": "", "no": "no such file", "d/no": "no such file", "a/b": "not a directory",
		"../a": "outside the template's folder", "/etc/passwd": "outside the template's folder", "out": "escapes",
		filepath.Join(dir, "a"): "",
	} {
		digest, err := newInput(dir, files, bake.Input{Path: name})
		if want == "" && (err != nil || digest == nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := newInput(dir, files, bake.Input{Path: "d", Exclude: []string{"["}}); err == nil {
		t.Error("a pattern that is none")
	}
	if _, err := newInput(dir, files, bake.Input{Path: "no"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// tick waits until what changes now has another time than what is in the folder.
func tick(t *testing.T, dir string) {
	t.Helper()
	var last time.Time
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	probe := filepath.Join(t.TempDir(), "probe")
	for {
		if err := os.WriteFile(probe, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(probe); err != nil || info.ModTime().After(last.Add(20*time.Millisecond)) {
			return
		}
	}
}

// What changes between reading and digesting is noticed.
func TestChangesAreNoticed(t *testing.T) {
	for name, change := range map[string]func(in string) error{
		"in place": func(in string) error { return os.WriteFile(in+"/d/a", []byte("B"), 0o644) },
		"longer":   func(in string) error { return os.WriteFile(in+"/d/a", []byte("AA"), 0o644) },
		"replaced": func(in string) error {
			return errors.Join(os.WriteFile(in+"/new", []byte("A"), 0o644), os.Rename(in+"/new", in+"/d/a"))
		},
		"by a link":         func(in string) error { return errors.Join(os.Remove(in+"/d/a"), os.Symlink("b", in+"/d/a")) },
		"touched":           func(in string) error { return os.Chtimes(in+"/d/a", time.Now(), time.Now()) },
		"made executable":   func(in string) error { return os.Chmod(in+"/d/a", 0o755) },
		"removed":           func(in string) error { return os.Remove(in + "/d/a") },
		"empty, and filled": func(in string) error { return os.WriteFile(in+"/d/empty", []byte("B"), 0o644) },
		"added":             func(in string) error { return os.WriteFile(in+"/d/c", nil, 0o644) },
		"a folder is added": func(in string) error { return os.Mkdir(in+"/d/c", 0o755) },
		"a link is another": func(in string) error { return errors.Join(os.Remove(in+"/d/link"), os.Symlink("b", in+"/d/link")) },
		"the folder is another": func(in string) error {
			return errors.Join(os.Rename(in+"/d", in+"/e"), os.Mkdir(in+"/d", 0o755), os.Link(in+"/e/a", in+"/d/a"))
		},
		"put back": func(in string) error {
			return errors.Join(os.Rename(in+"/d/a", in+"/d/c"), os.Rename(in+"/d/c", in+"/d/a"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"in/d/a": "A", "in/d/b": "B", "in/d/empty": "", "in/d/link": "->a", "in/z": "Z"})
			files := folderOf(t, dir)
			digest := later(t, files, bake.Input{Path: "in"})
			tick(t, dir)
			if err := upload(files, "in", whole); err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(dir, "in")); err != nil {
				t.Fatal(err)
			}
			if got, err := digest(); err == nil || !strings.Contains(err.Error(), "in/d") || !strings.Contains(err.Error(), "changed while it was baked") {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

// So it is where a file was not read to its end, where it was read again after it
// changed, and where it stands by itself or behind a link.
func TestChangesOfOneFile(t *testing.T) {
	read := func(files fs.FS, name string, n int64) error {
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(io.Discard, f, n)
		return err
	}
	for _, name := range []string{"a", "link"} {
		for what, again := range map[string]bool{"in part": false, "twice": true} {
			dir := tree(t, map[string]string{"a": "AAAA", "link": "->a"})
			files := folderOf(t, dir)
			digest := later(t, files, bake.Input{Path: name})
			tick(t, dir)
			err := errors.Join(read(files, name, 2), os.WriteFile(filepath.Join(dir, "a"), []byte("BBBB"), 0o644))
			if again {
				err = errors.Join(err, read(files, name, 4))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := digest(); err == nil || err.Error() != name+" changed while it was baked" {
				t.Errorf("%s %s: %s, %v", name, what, got, err)
			}
		}
	}
}

// A file is hashed by its reader while a digest is wanted that nobody has, and what
// was seen of inputs is remembered; of other files nothing is.
func TestWhatReadersHash(t *testing.T) {
	files := folderOf(t, tree(t, map[string]string{"in/a": "A", "in/b": "B", "other": "O", "inner": "I"}))
	digest := later(t, files, bake.Input{Path: "in", Exclude: []string{"b"}})
	listens := func(name string) bool {
		t.Helper()
		f, err := files.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.(*plainFile).ear != nil
	}
	for _, name := range []string{"other", "inner"} {
		if _, seen := files.reads.at(name); seen || listens(name) {
			t.Errorf("%s is no input's", name)
		}
	}
	if !listens("in/a") {
		t.Error("nobody listens")
	}
	if _, err := fs.ReadFile(files, "in/a"); err != nil || listens("in/a") {
		t.Errorf("it is hashed again; %v", err)
	}
	if _, err := digest(); err != nil || listens("in/b") {
		t.Errorf("the digest is made: %v", err)
	}
	if was, _ := files.reads.at("in/a"); was.content == "" {
		t.Error("it is forgotten")
	}
}

// What is not read by itself, but for a digest, is not read once more for another.
func TestDigestsOfTheSameFiles(t *testing.T) {
	files := folderOf(t, tree(t, map[string]string{"in/a": "A", "in/d/b": "B", "in/link": "->a"}))
	all, some, one := later(t, files, bake.Input{Path: "in"}), later(t, files, bake.Input{Path: "in", Exclude: []string{"a"}}), later(t, files, bake.Input{Path: "in/d/b"})
	if _, err := all(); err != nil {
		t.Fatal(err)
	}
	before := files.reads.seen["in/d/b"].content
	files.reads.seen["in/d/b"].content = "sha256:known"
	if got, err := one(); err != nil || got != "sha256:known" || before == "" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := some(); err != nil {
		t.Error(err)
	}
}

// A step that reads something else than the digest is of, which is made already, is
// noticed, be it put back afterwards or not.
func TestChangesAfterTheDigest(t *testing.T) {
	for name, change := range map[string]func(in string) error{
		"in place": func(in string) error { return os.WriteFile(in+"/d/a", []byte("B"), 0o644) },
		"put back": func(in string) error {
			return errors.Join(os.WriteFile(in+"/d/a", []byte("B"), 0o644), os.WriteFile(in+"/d/a", []byte("A"), 0o644))
		},
		"added":     func(in string) error { return os.WriteFile(in+"/d/c", nil, 0o644) },
		"removed":   func(in string) error { return os.Remove(in + "/d/a") },
		"a link":    func(in string) error { return errors.Join(os.Remove(in+"/d/link"), os.Symlink("b", in+"/d/link")) },
		"a folder":  func(in string) error { return errors.Join(os.Remove(in+"/d/a"), os.Mkdir(in+"/d/a", 0o755)) },
		"no folder": func(in string) error { return errors.Join(os.RemoveAll(in+"/d"), os.WriteFile(in+"/d", nil, 0o644)) },
	} {
		for _, read := range []bool{false, true} { // before the digest is made
			t.Run(fmt.Sprint(name, read), func(t *testing.T) {
				dir := tree(t, map[string]string{"in/d/a": "A", "in/d/link": "->a", "in/z": "Z", "z": ""})
				files := folderOf(t, dir)
				in, other := laterInput(t, files, bake.Input{Path: "in"}), laterInput(t, files, bake.Input{Path: "in", Exclude: []string{"d"}})
				tick(t, dir)
				if read {
					if err := upload(files, "in", whole); err != nil {
						t.Fatal(err)
					}
				}
				for _, in := range []*input{in, other} {
					if _, err := in.Digest(); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(upload(files, "in", whole), in.Still(), change(filepath.Join(dir, "in"))); err != nil {
					t.Fatal(err)
				}
				if err := in.Still(); err != nil {
					t.Errorf("nobody has read it yet: %v", err)
				}
				if err := upload(files, "in", whole); err != nil {
					t.Fatal(err)
				}
				if err := in.Still(); err == nil || !strings.Contains(err.Error(), "in/d") {
					t.Errorf("read once more: %v", err)
				}
				if err := other.Still(); err != nil {
					t.Errorf("without that folder: %v", err)
				}
			})
		}
	}
}

// So it is where a file changes while it is read, whatever it is afterwards.
func TestChangesWhileReading(t *testing.T) {
	for _, early := range []bool{false, true} {
		dir := tree(t, map[string]string{"a": "AAAA"})
		files := folderOf(t, dir)
		in := laterInput(t, files, bake.Input{Path: "a"})
		if early {
			if _, err := in.Digest(); err != nil {
				t.Fatal(err)
			}
		}
		tick(t, dir)
		f, err := files.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		write := func(text string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte(text), 0o644) }
		_, err = io.CopyN(io.Discard, f, 2)
		err = errors.Join(err, write("BBBB"))
		_, err2 := io.Copy(io.Discard, f)
		if err := errors.Join(err, err2, write("AAAA"), f.Close()); err != nil {
			t.Fatal(err)
		}
		if err := in.Still(); err == nil {
			t.Errorf("digest first: %t: it is not noticed", early)
		}
	}
}

// What an input leaves out may come and go, but not take the place of what it has.
func TestWhatIsLeftOutMayChange(t *testing.T) {
	in := bake.Input{Path: "in", Exclude: []string{"**/*.log", "left"}}
	for what, wantErr := range map[string]bool{"in/new.log": false, "in/d/new.log": false, "in/left/x": false, "in/d/new": true} {
		for _, early := range []bool{false, true} {
			dir := tree(t, map[string]string{"in/old.log": "", "in/d/a": "A"})
			files := folderOf(t, dir)
			in := laterInput(t, files, in)
			err := upload(files, "in", whole)
			if early {
				_, err = in.Digest()
			}
			full := filepath.Join(dir, what)
			if err := errors.Join(err, os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, nil, 0o644), os.Remove(filepath.Join(dir, "in/old.log")), upload(files, "in", whole)); err != nil {
				t.Fatal(err)
			}
			if !early {
				_, err = in.Digest()
			}
			if err := errors.Join(err, in.Still()); (err != nil) != wantErr {
				t.Errorf("%s, digest first: %t: %v", what, early, err)
			}
		}
	}
}

// A folder that is left out, but for something in it, is missed, and noticed.
func TestFolderThatIsLeftOutInPart(t *testing.T) {
	for _, early := range []bool{false, true} { // it is there for the digest, not for the step, or the other way
		dir := tree(t, map[string]string{"in/a": "A", "out/f": "F"})
		files := folderOf(t, dir)
		in := laterInput(t, files, bake.Input{Path: "in", Exclude: []string{"d", "x.log", "!d/f"}})
		from, to := filepath.Join(dir, "out"), filepath.Join(dir, "in/d")
		if early {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
			from, to = to, from
		}
		if _, err := in.Digest(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "in/x.log"), nil, 0o644), upload(files, "in", whole), in.Still()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(from, to), upload(files, "in", whole)); err != nil {
			t.Fatal(err)
		}
		if err := in.Still(); err == nil || !strings.Contains(err.Error(), "in/d changed") {
			t.Errorf("there before: %t: %v", early, err)
		}
	}
}

// What cannot be looked at has not changed for that.
func TestWhatCannotBeLookedAt(t *testing.T) {
	dir := tree(t, map[string]string{"in/a": "A"})
	files := folderOf(t, dir)
	digest := later(t, files, bake.Input{Path: "in/a"})
	if _, err := fs.ReadFile(files, "in/a"); err != nil {
		t.Fatal(err)
	}
	files.root.Close() // as good as any error
	files.forget()
	if _, err := digest(); err == nil || strings.Contains(err.Error(), "changed") {
		t.Errorf("got %v", err)
	}
}

// Several bakes read, and have digests made, at once.
func TestReadsAtOnce(t *testing.T) {
	dir := someTree(t, rand.New(rand.NewPCG(7, 7)))
	want := plainDigest(t, dir, nil)
	files := folderOf(t, dir)
	var group sync.WaitGroup
	for range 8 {
		digest := later(t, files, bake.Input{Path: "in"})
		group.Go(func() {
			if err := upload(files, "in", whole); err != nil {
				t.Error(err)
			}
			if got, err := digest(); err != nil || got != want {
				t.Errorf("%s, %v; want %s", got, err, want)
			}
		})
	}
	group.Wait()
}
