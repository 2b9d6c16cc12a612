package shellscript

import (
	"strings"
	"testing"
)

func TestEvaluates(t *testing.T) {
	for shebang, want := range map[string]bool{
		"/bin/sh -e": true, "/bin/bash -euo pipefail": true, "/usr/bin/env bash": true, "/bin/dash": true, "/usr/bin/env -S bash -e": false,
		"/bin/sh -ex": false, "/bin/bash -v": false, "/bin/bash --login": false, "/bin/bash -o xtrace": false, "/bin/sh -s": false,
		"/usr/bin/python3": false, "": false, "/usr/bin/env": false, "/usr/bin/env perl": false,
	} {
		if got := evaluates(strings.Fields(shebang)); got != want {
			t.Errorf("%q: got %v", shebang, got)
		}
	}
}

func TestIsShell(t *testing.T) {
	for text, want := range map[string]bool{
		"#!/bin/sh\n": true, "#! /usr/bin/env bash\nx": true, "echo x": true, "": true, "#!/bin/zsh": true,
		"#!/usr/bin/python3\n": false, "\x7fELF\x00": false, "#!\n": false, "#!/usr/bin/env node": false,
	} {
		if got := IsShell([]byte(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestRender(t *testing.T) {
	data := CommandData{Vars: "A=1", Path: "/p", EnvVarFile: "/e"}
	for command, want := range map[string]string{
		"{{.Vars}} {{ .Path }}":            "A=1 /p",
		". {{.EnvVarFile}} && {{.Path}}":   ". /e && /p",
		"plain":                            "plain",
		"{{.Nope}}":                        "error",
		"{{.Path":                          "error",
		"{{if .Vars}}yes{{else}}no{{end}}": "yes",
	} {
		got, err := Render(command, data)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", command, got, err, want)
		}
	}
}

func TestAssignments(t *testing.T) {
	got := Assignments([]string{"A=it's", "B=", "C=x=y"}, "export %s='%s'\n")
	want := "export A='it'\"'\"'s'\nexport B=''\nexport C='x=y'\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTempPathsDiffer(t *testing.T) {
	a, b := TempPath("/tmp", ".sh"), TempPath("/tmp", ".sh")
	if a == b || !strings.HasPrefix(a, "/tmp/imgbake-") || !strings.HasSuffix(a, ".sh") || len(a) < 30 {
		t.Errorf("got %q and %q", a, b)
	}
}
