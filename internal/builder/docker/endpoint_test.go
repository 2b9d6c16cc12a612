package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes files below a new folder.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindEndpoint(t *testing.T) {
	sum := sha256.Sum256([]byte("far"))
	id := hex.EncodeToString(sum[:])
	dir := files(t, map[string]string{
		"config.json":                        `{"currentContext": "far"}`,
		"contexts/meta/" + id + "/meta.json": `{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}`,
	})
	plain := files(t, map[string]string{"config.json": `{}`})
	tests := map[string]struct {
		env      map[string]string
		host     string
		tls      bool
		problem  string
		insecure bool
	}{
		"nothing":           {env: map[string]string{"DOCKER_CONFIG": plain}, host: "unix:///var/run/docker.sock"},
		"host wins":         {env: map[string]string{"DOCKER_CONFIG": dir, "DOCKER_HOST": "tcp://a:1", "DOCKER_CONTEXT": "far"}, host: "tcp://a:1"},
		"current context":   {env: map[string]string{"DOCKER_CONFIG": dir}, host: "tcp://far:2376", tls: true, insecure: true},
		"named context":     {env: map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "default"}, host: "unix:///var/run/docker.sock"},
		"unknown context":   {env: map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "nope"}, problem: `docker context "nope" does not exist`},
		"verify":            {env: map[string]string{"DOCKER_CONFIG": plain, "DOCKER_HOST": "tcp://a:1", "DOCKER_TLS_VERIFY": "1"}, host: "tcp://a:1", tls: true},
		"socket needs none": {env: map[string]string{"DOCKER_CONFIG": plain, "DOCKER_HOST": "unix:///x", "DOCKER_TLS_VERIFY": "1"}, host: "unix:///x"},
		"no certificates":   {env: map[string]string{"DOCKER_CONFIG": plain, "DOCKER_HOST": "tcp://a:1", "DOCKER_CERT_PATH": plain + "/nope"}, problem: "DOCKER_CERT_PATH: "},
		"home":              {env: map[string]string{"HOME": plain}, host: "unix:///var/run/docker.sock"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := findEndpoint(func(key string) string { return test.env[key] })
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got.host != test.host || (got.tls != nil) != test.tls || got.tls != nil && got.tls.InsecureSkipVerify != test.insecure {
				t.Errorf("got %+v, %v", got, err)
			}
			if _, err := got.client(""); err != nil {
				t.Errorf("client: %v", err)
			}
		})
	}
}

func TestLife(t *testing.T) {
	me := self()
	if me.boot == "" {
		t.Skip("SKIPPED: no /proc here")
	}
	change := func(f func(*owner)) owner { o := me; f(&o); return o }
	tests := map[string]struct {
		owner owner
		want  life
	}{
		"this process":      {me, alive},
		"number used again": {change(func(o *owner) { o.started = "1" }), dead},
		"gone":              {change(func(o *owner) { o.pid = "4194305" }), dead},
		"another machine":   {change(func(o *owner) { o.boot = "x" }), unknown},
		"another container": {change(func(o *owner) { o.space = "pid:[1]" }), unknown},
		"hostile":           {change(func(o *owner) { o.pid = "../1" }), unknown},
	}
	for name, test := range tests {
		if got := test.owner.life(me); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	if o, ok := parseOwner(me.String()); !ok || o != me {
		t.Errorf("got %v, %v back", o, ok)
	}
}

func TestFindHelper(t *testing.T) {
	dir := files(t, map[string]string{"imgbake": "#!/bin/sh\n"})
	_, err := findHelper(filepath.Join(dir, "imgbake"), "amd64")
	if err == nil || !strings.Contains(err.Error(), "is no Linux program") || !strings.Contains(err.Error(), "imgbake-helper-linux-amd64") {
		t.Errorf("got %v", err)
	}
}
