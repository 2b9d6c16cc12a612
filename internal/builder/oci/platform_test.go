package oci

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// registered is a host where an emulator of arm64 is registered with the flags.
func registered(flags string) fs.FS {
	const magic = "7f454c460201010000000000000000000200b700"
	return fstest.MapFS{
		"proc/sys/fs/binfmt_misc/status": &fstest.MapFile{Data: []byte("enabled\n")},
		"proc/sys/fs/binfmt_misc/qemu-aarch64": &fstest.MapFile{
			Data: []byte("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: " + flags + "\noffset 0\nmagic " + magic + "\n"),
		},
	}
}

func TestEmulation(t *testing.T) {
	for name, c := range map[string]struct {
		arch     string
		host     fs.FS
		how, why string
	}{
		"its own":            {arch: "amd64", host: fstest.MapFS{}},
		"not said":           {host: fstest.MapFS{}},
		"a near one":         {arch: "386", host: fstest.MapFS{}},
		"registered":         {arch: "arm64", host: registered("OCF"), how: "linux/arm64 run by emulation"},
		"not from inside":    {arch: "arm64", host: registered("OC"), why: "without the flag F"},
		"another registered": {arch: "s390x", host: registered("F"), why: "no emulator is registered for it"},
		"none":               {arch: "arm64", host: fstest.MapFS{}, why: "linux/arm64 cannot run on this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			how, err := emulation(v1.Platform{OS: "linux", Architecture: c.arch}, "amd64", c.host)
			if !strings.Contains(how, c.how) || how != "" && c.how == "" {
				t.Errorf("how: %q, want %q", how, c.how)
			}
			if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("problem: %v, want %q", err, c.why)
			}
		})
	}
}
