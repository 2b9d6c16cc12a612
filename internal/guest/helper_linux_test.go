package guest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func pack(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(tw, h.Name)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func TestPutAndGet(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "new", "dir")
	old := time.Unix(1_000_000_000, 0)
	err := put(dst, pack(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o751, ModTime: old},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, ModTime: old},
		tar.Header{Typeflag: tar.TypeLink, Name: "d/hard", Linkname: "d/f"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "/no/where"},
		tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o600, ModTime: old},
	))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := get(filepath.Join(dst, "d"), &buf); err != nil {
		t.Fatal(err)
	}
	var got []string
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name + " " + string(h.Typeflag) + " " + h.Linkname
		if h.Typeflag != tar.TypeSymlink {
			line += h.FileInfo().Mode().String() + " " + h.ModTime.UTC().Format("2006")
		}
		got = append(got, line)
	}
	want := []string{"d/ 5 drwxr-x--x 2001", "d/f 0 urwxr-xr-x 2001", "d/fifo 6 prw------- 2001", "d/hard 1 d/furwxr-xr-x 2001", "d/link 2 /no/where"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestPutReplaces(t *testing.T) {
	dst := t.TempDir()
	os.MkdirAll(filepath.Join(dst, "real"), 0o755)
	os.Symlink("real", filepath.Join(dst, "dirlink"))
	os.Symlink("/etc/passwd", filepath.Join(dst, "filelink"))
	err := put(dst, pack(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "dirlink/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "dirlink/f", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "filelink", Mode: 0o644},
	))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dst, "real", "f")); err != nil || string(text) != "dirlink/f" {
		t.Errorf("a directory behind a link: %q, %v", text, err)
	}
	if info, err := os.Lstat(filepath.Join(dst, "filelink")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("a link was not replaced: %v, %v", info, err)
	}
}

func TestPutRefuses(t *testing.T) {
	dst := t.TempDir()
	os.Mkdir(filepath.Join(dst, "dir"), 0o755)
	tests := map[string]io.Reader{
		"leads out of the directory": pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "../x"}),
		"is a directory":             pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "dir"}),
		"reading the tar":            strings.NewReader(strings.Repeat("no tar ", 200)),
		"../../etc/passwd":           pack(t, tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../../etc/passwd"}),
	}
	for want, stream := range tests {
		if err := put(dst, stream); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestGetLinksAndMissing(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644)
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	os.Symlink("d", filepath.Join(dir, "link"))
	for src, want := range map[string]byte{"link": tar.TypeSymlink, "link/": tar.TypeDir, "f": tar.TypeReg} {
		var buf bytes.Buffer
		if err := get(dir+"/"+src, &buf); err != nil {
			t.Fatal(err)
		}
		if h, err := tar.NewReader(&buf).Next(); err != nil || h.Typeflag != want {
			t.Errorf("%s: %v, %v", src, h, err)
		}
	}
	if err := get(filepath.Join(dir, "none"), io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	var stderr bytes.Buffer
	if status := Main([]string{Get, filepath.Join(dir, "none")}, nil, io.Discard, &stderr); status != StatusMissing {
		t.Errorf("status %d, %s", status, &stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"helper-none"}, {Put}, {Exec, "id", "/"}} {
		if status := Main(args, nil, io.Discard, io.Discard); status != StatusUsage {
			t.Errorf("%v: status %d", args, status)
		}
	}
	if Is([]string{"imgbake", "build"}) || Is([]string{"imgbake"}) || !Is([]string{"imgbake", Pause}) {
		t.Error("Is is wrong")
	}
}

func TestReadProcess(t *testing.T) {
	p, ok := readProcess("/proc/self")
	if ok {
		t.Errorf("a name that is no number: %+v", p)
	}
	found := find("/proc", func(p process) bool { return p.pid == os.Getpid() })
	if len(found) != 1 || found[0].parent != os.Getppid() || found[0].args[0] != os.Args[0] {
		t.Errorf("got %+v", found)
	}
}
