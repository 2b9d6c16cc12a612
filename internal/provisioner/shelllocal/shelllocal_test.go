package shelllocal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
	"github.com/imgbake/imgbake-action/internal/shellscript"
)

func TestSuite(t *testing.T) {
	baketest.ProvisionerSuite(t, baketest.ProvisionerOptions{
		Kind: Kind(),
		Good: map[string]map[string]any{
			"inline":          {"inline": []string{"echo one", "echo two"}},
			"command":         {"command": "echo one"},
			"script":          {"script": "a.sh"},
			"execute_command": {"scripts": []string{"a.sh"}, "execute_command": []string{"bash", "-c", "{{.Vars}} {{.Script}}"}, "only_on": []string{"linux", "darwin"}},
			"everything":      {"inline": "x", "inline_shebang": "/usr/bin/python3", "tempfile_extension": ".py", "use_linux_pathing": true, "working_directory": "sub", "environment_vars": "A=b", "valid_exit_codes": 0},
		},
		Bad: map[string]map[string]any{
			"nothing":         {},
			"command and":     {"command": "x", "inline": "y"},
			"unknown system":  {"inline": "x", "only_on": []string{"plan9"}},
			"unknown field":   {"inline": "x", "execute_command": []string{"sh", "{{.Nope}}"}},
			"no such format":  {"inline": "x", "env_var_format": "x"},
			"several scripts": {"script": "a", "scripts": []string{"b"}},
		},
	})
	if !Kind().HostExec {
		t.Error("the kind does not say that it runs commands on the host")
	}
}

func TestRun(t *testing.T) {
	const token = "canary-token"
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain.sh": "echo plain $0; pwd", "exec.sh": "#!/bin/sh\necho exec ${0##*/} $GREETING", "calc.awk": "#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }", "three.sh": "exit 3",
	} {
		mode := os.FileMode(0o644)
		if name == "exec.sh" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := "linux"
	if runtime.GOOS == other {
		other = "darwin"
	}
	tests := map[string]struct {
		body   map[string]any
		want   string
		status int
	}{
		"inline":          {body: map[string]any{"inline": []string{"echo one", "pwd"}}, want: "one\n" + dir + "\n"},
		"command":         {body: map[string]any{"command": "echo $GREETING"}, want: "hello\n"},
		"directory":       {body: map[string]any{"command": "pwd", "working_directory": "sub"}, want: dir + "/sub\n"},
		"no secrets":      {body: map[string]any{"command": "env | grep canary || echo none"}, want: "none\n"},
		"script in place": {body: map[string]any{"script": "plain.sh"}, want: "plain " + dir + "/plain.sh\n" + dir + "\n"},
		"executable":      {body: map[string]any{"script": "exec.sh"}, want: "exec exec.sh hello\n"},
		"shebang":         {body: map[string]any{"script": "calc.awk"}, want: "42\n"},
		"status":          {body: map[string]any{"scripts": []string{"calc.awk", "three.sh", "calc.awk"}}, want: "42\n", status: 3},
		"execute_command": {body: map[string]any{"script": "exec.sh", "execute_command": []string{"sh", "-c", "echo before; {{.Vars}} sh {{.Script}}"}}, want: "before\nexec exec.sh hello\n"},
		"inline by file":  {body: map[string]any{"inline": "print 6 * 7", "inline_shebang": "/usr/bin/awk -f", "execute_command": []string{"sh", "-c", "tail -n 1 {{.Script}}"}}, want: "print 6 * 7\n"},
		"traced":          {body: map[string]any{"inline": "echo hi", "inline_shebang": "/bin/sh -ex"}, want: "+ echo hi\nhi\n"},
		"elsewhere":       {body: map[string]any{"inline": "echo hi", "only_on": other}, want: ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := Kind().New(baketest.Body(test.body))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			sink := &baketest.Sink{}
			host := local.Host{Dir: dir, Env: append(os.Environ(), "GITHUB_TOKEN="+token, "INPUT_X="+token, "ACTIONS_RUNTIME_TOKEN="+token)}
			err = p.Provision(t.Context(), bake.Env{Host: host, HostDir: dir, Vars: []string{"GREETING=hello"}, Stdout: &out, Stderr: &out, Sink: sink})
			if got := strings.ReplaceAll(out.String(), "/private"+dir, dir); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			var exit *bake.ExitError
			switch {
			case errors.As(err, &exit):
				if exit.Status != test.status || exit.Command == "" {
					t.Errorf("got %v, want status %d", err, test.status)
				}
			case err != nil || test.status != 0:
				t.Errorf("got %v, want status %d", err, test.status)
			}
			if notes := sink.Texts(bake.Note); (name == "elsewhere") != (len(notes) == 1) {
				t.Errorf("notes: %q", notes)
			}
		})
	}
}

func TestHostNotAllowed(t *testing.T) {
	p, err := Kind().New(baketest.Body(map[string]any{"inline": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Provision(t.Context(), bake.Env{Communicator: &baketest.Recorder{}}); !errors.Is(err, shellscript.ErrHostNotAllowed) {
		t.Errorf("got %v", err)
	}
}
