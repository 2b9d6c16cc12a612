package file

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

// raw gives one stream whatever is asked.
type raw struct {
	bake.Communicator
	stream []byte
}

func (r raw) Get(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(r.stream)), nil
}

// FuzzDownload: whatever a machine sends, nothing outside the destination changes.
func FuzzDownload(f *testing.F) {
	f.Add(baketest.Tar(baketest.File{Header: tar.Header{Name: "d/"}}, baketest.File{Header: tar.Header{Name: "d/a"}, Content: "x"}))
	f.Add(baketest.Tar(baketest.File{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "../canary"}}))
	f.Add(baketest.Tar(baketest.File{Header: tar.Header{Name: "d/"}},
		baketest.File{Header: tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}},
		baketest.File{Header: tar.Header{Name: "d/l/canary"}, Content: "evil"}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		top := t.TempDir()
		work, canary := filepath.Join(top, "work"), filepath.Join(top, "canary")
		write(t, canary, "canary")
		write(t, filepath.Join(work, "keep"), "keep")
		for _, source := range []string{"/d", "/d/"} {
			p, err := Kind().New(baketest.Body(map[string]any{"direction": "download", "source": source, "destination": "to/"}))
			if err != nil {
				t.Fatal(err)
			}
			_ = p.Provision(t.Context(), bake.Env{Communicator: raw{stream: stream}, HostDir: work}) // refused or harmless
		}
		for name, want := range map[string]string{canary: "canary", filepath.Join(work, "keep"): "keep"} {
			if text, err := os.ReadFile(name); err != nil || string(text) != want {
				t.Errorf("%s is %q, %v", name, text, err)
			}
		}
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 2 {
			t.Errorf("found %v, %v", entries, err)
		}
	})
}

// A sparse entry would turn a few bytes into any number.
func TestSparse(t *testing.T) {
	for want, h := range map[bool]tar.Header{
		true:  {PAXRecords: map[string]string{"GNU.sparse.major": "1"}},
		false: {PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1"}},
	} {
		if got := sparse(&h); got != want {
			t.Errorf("%v: got %v", h.PAXRecords, got)
		}
	}
	if !sparse(&tar.Header{Typeflag: tar.TypeGNUSparse}) {
		t.Error("the old GNU type is not seen")
	}
}
