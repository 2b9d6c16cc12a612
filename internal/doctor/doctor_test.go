package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func healthy() Probes {
	return Probes{
		Engine: func(context.Context) (string, error) {
			return "Docker Engine 27.3.1 (API 1.47, linux/amd64, overlay2) at unix:///run/docker.sock", nil
		},
		Helper:     func() (string, error) { return "built in", nil },
		Tool:       func(_ context.Context, name string) (string, error) { return name + " 1.0", nil },
		FreeSpace:  func(string) (int64, error) { return 42e9, nil },
		KVM:        func() error { return nil },
		Registry:   func(context.Context, string) error { return nil },
		Registries: []string{"ghcr.io"},
		CacheDir:   "/cache",
		Getenv:     func(string) string { return "" },
	}
}

func table(t *testing.T, findings []Finding) string {
	t.Helper()
	var b bytes.Buffer
	if err := Table(&b, findings, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAHealthyMachine(t *testing.T) {
	findings := Run(t.Context(), healthy())
	want := `✓ engine        Docker Engine 27.3.1 (API 1.47, linux/amd64, overlay2) at unix:///run/docker.sock
✓ helper        built in
✓ cache folder  /cache, 42.0 GB free
✓ git           git 1.0
✓ KVM           usable
✓ QEMU          qemu-system-x86_64 1.0
✓ registry      ghcr.io answers
✓ CI            none

this machine can bake
`
	if diff := cmp.Diff(want, table(t, findings)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !Healthy(findings) {
		t.Error("it is not found healthy")
	}
}

func TestAnIllMachine(t *testing.T) {
	p := healthy()
	p.Engine = func(context.Context) (string, error) { return "", errors.New("cannot connect\nto the engine") }
	p.Tool = func(context.Context, string) (string, error) { return "", errors.New("not installed") }
	p.FreeSpace = func(string) (int64, error) { return 1e9, nil }
	p.KVM = func() error { return &fs.PathError{Op: "open", Path: "/dev/kvm", Err: fs.ErrPermission} }
	p.Registry = func(context.Context, string) error { return errors.New("no such host") }
	p.Getenv = func(name string) string { return map[string]string{"CI": "true", "GITHUB_ACTIONS": "true"}[name] }
	findings := Run(t.Context(), p)
	want := `✗ engine        cannot connect to the engine
                start Docker, or set DOCKER_HOST to an engine that can be reached
✗ cache folder  /cache, 1.0 GB free
                free some space, or choose another folder with --cache-dir or IMGBAKE_CACHE_DIR
○ git           not installed
                install git: ${git.*} in templates needs it
○ KVM           open /dev/kvm: permission denied
                join the group kvm; virtual machines are emulated without it, which is slow
○ QEMU          not installed
                install qemu-system-x86 to bake virtual machines
○ registry      ghcr.io: no such host
                check the name, the proxy (HTTPS_PROXY, NO_PROXY) and the certificate authority (--registry-ca)
✓ CI            GitHub Actions: commands on the host must be permitted with --allow-host-exec

this machine cannot bake yet: see engine, cache folder
`
	if diff := cmp.Diff(want, table(t, findings)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if Healthy(findings) {
		t.Error("it is found healthy")
	}
}

// An engine is not needed where bakes can do without.
func TestWithoutEngine(t *testing.T) {
	findings := []Finding{{Name: "engine", Detail: "none", Hint: "start Docker"}, {Name: "isolation", OK: true}}
	if got := eitherDoes(slices.Clone(findings)); !Healthy(got) || !strings.HasSuffix(got[0].Hint, "start Docker") || got[0].OK {
		t.Errorf("with isolation: %+v", got)
	}
	findings[1].OK = false
	if got := eitherDoes(findings); Healthy(got) {
		t.Errorf("with neither: %+v", got)
	}
}

func TestNothingToAskWith(t *testing.T) {
	if findings := Run(t.Context(), Probes{Registries: []string{"ghcr.io"}}); len(findings) != 0 {
		t.Errorf("got %v", findings)
	}
}

func TestHints(t *testing.T) {
	tests := []struct {
		name  string
		probe func(*Probes)
		find  string
		want  string
	}{
		{"no permission", func(p *Probes) {
			p.Engine = func(context.Context) (string, error) { return "", fmt.Errorf("ping: %w", fs.ErrPermission) }
		}, "engine", "join the group docker"},
		{"no answer", func(p *Probes) {
			p.Engine = func(context.Context) (string, error) { return "", context.DeadlineExceeded }
		}, "engine", "no answer within 10s"},
		{"a slow driver", func(p *Probes) {
			p.Engine = func(context.Context) (string, error) { return "Docker Engine 27.3.1 (API 1.47, vfs)", nil }
		}, "engine", "overlay2 is much faster"},
		{"no helper", func(p *Probes) {
			p.Helper = func() (string, error) { return "", errors.New("none for linux/riscv64") }
		}, "helper", "exporting the container"},
		{"a folder that cannot be read", func(p *Probes) {
			p.FreeSpace = func(string) (int64, error) { return 0, fs.ErrPermission }
		}, "cache folder", "choose another one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := healthy()
			tt.probe(&p)
			for _, f := range Run(t.Context(), p) {
				if f.Name == tt.find && strings.Contains(f.Hint, tt.want) {
					return
				}
			}
			t.Errorf("no hint %q for %s", tt.want, tt.find)
		})
	}
}

func TestHostProbes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	p := Host(dir, func(string) string { return "" })
	free, err := p.FreeSpace(dir)
	if err != nil || free <= 0 {
		t.Errorf("free space of a folder to be made: %d, %v", free, err)
	}
	if _, err := p.Tool(t.Context(), "no-such-program-here"); err == nil || err.Error() != "not installed" {
		t.Errorf("a missing program gives %v", err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "tool"), []byte("#!/bin/sh\necho tool version 7\necho more\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	if version, err := p.Tool(t.Context(), "tool"); err != nil || version != "tool version 7" {
		t.Errorf("got %q, %v", version, err)
	}
	if err := os.WriteFile(filepath.Join(bin, "tool"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Tool(t.Context(), "tool"); err == nil {
		t.Error("a program that fails is found well")
	}
	if len(Run(t.Context(), p)) == 0 {
		t.Error("nothing was found")
	}
}

func TestTableInColor(t *testing.T) {
	var b bytes.Buffer
	err := Table(&b, []Finding{{Name: "a", OK: true, Detail: "d"}, {Name: "bb", Detail: "e", Hint: "h"}}, true)
	want := "\x1b[32m✓\x1b[0m a   d\n\x1b[31m✗\x1b[0m bb  e\n      \x1b[36mh\x1b[0m\n\nthis machine cannot bake yet: see bb\n"
	if err != nil || b.String() != want {
		t.Errorf("got %q, %v", b.String(), err)
	}
}
