package actions

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestAdopt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{"made", "deep/made", "cache/roots/made", "cache/blob", "stranger"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "stranger"), 5, 5); err != nil {
		t.Fatal(err)
	}
	if err := (Disk{}).Adopt(dir, Owner{1001, 1002}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantUID(t, filepath.Join(dir, "made"), 0) // it was there before
	if err := (Disk{}).Adopt(dir, Owner{1001, 1002}, time.Now().Add(-time.Hour), "cache/roots"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{
		".": 1001, "made": 1001, "deep": 1001, "deep/made": 1001, "cache/blob": 1001, "link": 1001, "stranger": 5, "cache/roots": 0, "cache/roots/made": 0,
	} {
		wantUID(t, filepath.Join(dir, name), want)
	}
	wantUID(t, outside, 0)
}

func wantUID(t *testing.T, file string, want uint32) {
	t.Helper()
	info, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
		t.Errorf("%s belongs to %d, want %d", file, got, want)
	}
}
