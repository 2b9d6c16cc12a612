package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// tree writes files; a content that starts with -> is a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A file is found by whatever path leads to it inside of the folder, and nothing
// outside of it is.
func TestFolder(t *testing.T) {
	dir := tree(t, map[string]string{
		"in/a": "A", "in/deep/b": "B", "in/deep/near": "->b", "in/deep/far": "->../a", "link": "->in/deep", "in/deep/out": "->../../../secret", "abs": "->/etc/passwd",
	})
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "secret"), []byte("S"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := openFolder(filepath.Join(dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"in/a": "A", "in/deep/b": "B", "in/deep/near": "B", "in/deep/far": "A", "link/b": "B", "link/far": "A"} {
		if got, err := fs.ReadFile(files, name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"in/deep/out", "abs", "../secret", "in/../../secret", "/etc/passwd", "no/where", "in/no"} {
		if f, err := files.Open(name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 50 {
				name, want := "in/a", "A"
				if i%2 == 0 {
					name, want = "in/deep/b", "B"
				}
				f, err := files.Open(name)
				if err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, 1)
				if _, err := f.Read(got); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				f.Close()
			}
		})
	}
	group.Wait()
}

// What a path leads to is looked up again when something is asked about it: a step
// on the host may have put another folder there.
func TestFolderChanges(t *testing.T) {
	dir := tree(t, map[string]string{"v1/app": "1", "v2/app": "2", "now": "->v1"})
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	look := map[string]func() error{
		"Stat":    func() error { _, err := fs.Stat(files, "now/app"); return err },
		"ReadDir": func() error { _, err := fs.ReadDir(files, "now"); return err },
		"Lstat":   func() error { _, err := fs.Lstat(files, "now/app"); return err },
	}
	for name, look := range look {
		for _, version := range []string{"1", "2"} {
			if err := errors.Join(os.Remove(filepath.Join(dir, "now")), os.Symlink("v"+version, filepath.Join(dir, "now")), look()); err != nil {
				t.Fatal(err)
			}
			f, err := files.Open("now/app")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(f)
			if err != nil || string(got) != version {
				t.Errorf("after %s: %q, %v; want %s", name, got, err, version)
			}
			f.Close()
		}
	}
	if f, err := files.Open("fifo/x"); err == nil { // and does not wait for a writer
		f.Close()
		t.Error("a fifo is a directory")
	}
}

// The digest of a folder is that of its listing, whoever reads the files.
func TestFolderDigest(t *testing.T) {
	content := map[string]string{"f/link": "->x", "f/left/a": "no", "f/left/b/c": "no", "f/left.txt": "yes"}
	for i := range 300 {
		content[fmt.Sprintf("f/%02d/%d", i%7, i)] = fmt.Sprint("content ", i)
	}
	files, err := openFolder(tree(t, content))
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	err = fs.WalkDir(files, "f", func(p string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(strings.TrimPrefix(p, "f"), "/")
		if err != nil || rel == "left" || strings.HasPrefix(rel, "left/") {
			return err
		}
		line := d.Type().String()
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			line = `link "x"`
		case d.Type().IsRegular():
			line = fmt.Sprintf("false sha256:%x", sha256.Sum256([]byte(content[p])))
		}
		fmt.Fprintf(h, "%q %s\n", rel, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "sha256:" + hex.EncodeToString(h.Sum(nil))
	for _, exclude := range [][]string{{"left"}, {"left", "!nothing"}} {
		if got, err := digestNow(files, bake.Input{Path: "f", Exclude: exclude}); err != nil || got != want {
			t.Errorf("without %q: %s, %v; want %s", exclude, got, err, want)
		}
	}
}

// A directory is listed as any other file system lists it.
func TestFolderReadDir(t *testing.T) {
	dir := tree(t, map[string]string{"in/b": "B", "in/a": "", "in/a-": "x", "in/d/e": "E", "in/link": "->d", "in/out": "->/etc/passwd", "in/gone": "->nowhere"})
	if err := unix.Mkfifo(filepath.Join(dir, "in", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("in", filepath.Join(dir, "way")); err != nil {
		t.Fatal(err)
	}
	files := folderOf(t, dir)
	plain := os.DirFS(dir)
	for _, name := range []string{".", "in", "way"} {
		got, err := files.ReadDir(name)
		want, wantErr := fs.ReadDir(plain, name)
		if err != nil || wantErr != nil || len(got) != len(want) {
			t.Fatalf("%s: %d entries, want %d; %v, %v", name, len(got), len(want), err, wantErr)
		}
		for i := range want {
			info, err := got[i].Info()
			wantInfo, wantErr := want[i].Info()
			if err != nil || wantErr != nil || fs.FormatDirEntry(got[i]) != fs.FormatDirEntry(want[i]) || fs.FormatFileInfo(info) != fs.FormatFileInfo(wantInfo) {
				t.Errorf("%s: %v, want %v; %v, %v", name, got[i], want[i], err, wantErr)
			}
		}
	}
	for name, want := range map[string]string{"no": "no such file", "../x": "invalid", "/etc": "invalid", "": "invalid"} {
		if list, err := files.ReadDir(name); err == nil || !strings.Contains(err.Error(), want) || len(list) > 0 {
			t.Errorf("%q: %d entries, %v; want %s", name, len(list), err, want)
		}
	}
	list, err := files.ReadDir("in")
	if err != nil {
		t.Fatal(err)
	}
	// Entries are asked about below the folder, whatever has become of it.
	if err := errors.Join(os.Rename(filepath.Join(dir, "in"), filepath.Join(dir, "was")), os.Symlink("/", filepath.Join(dir, "in"))); err != nil {
		t.Fatal(err)
	}
	if info, err := list[0].Info(); err == nil {
		t.Errorf("it leads out: %v", info)
	}
}

// A directory is whole for everybody who lists it at once.
func TestFolderReadDirAtOnce(t *testing.T) {
	files := folderOf(t, tree(t, map[string]string{"in/a": "", "in/b": "", "in/d/c": ""}))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if list, err := fs.ReadDir(files, "in"); err != nil || len(list) != 3 {
					t.Errorf("%d entries, %v", len(list), err)
					return
				}
			}
		})
	}
	group.Wait()
}
