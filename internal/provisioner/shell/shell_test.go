package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
)

var scripts = fstest.MapFS{
	"a.sh":         {Data: []byte("#!/bin/sh\r\necho a \"$GREETING\"\r\n")},
	"sub/b.sh":     {Data: []byte("echo b; exit 3\n")},
	"lines.sh":     {Data: []byte("#!/bin/sh\necho $((6 * 7))\nno-such-command\n")},
	"self.sh":      {Data: []byte("#!/bin/sh\ntail -n 1 \"$0\"\nexit\npayload\n")},
	"env.awk":      {Data: []byte("#!/usr/bin/awk -f\nBEGIN { print \"awk\", ENVIRON[\"GREETING\"] }\n")},
	"stdin.sh":     {Data: []byte("cat; echo after\n")},
	"noshebang.sh": {Data: []byte("echo plain \"$GREETING\"\n")},
}

func TestSuite(t *testing.T) {
	baketest.ProvisionerSuite(t, baketest.ProvisionerOptions{
		Kind: Kind(), Files: scripts,
		Good: map[string]map[string]any{
			"inline":          {"inline": []string{"echo one", "echo two"}},
			"one inline":      {"inline": "echo one"},
			"script":          {"script": "a.sh", "binary": true},
			"scripts":         {"scripts": []string{"./a.sh", "sub/b.sh"}, "user": "app", "working_directory": "/srv"},
			"execute_command": {"inline": "x", "execute_command": "chmod +x {{.Path}}; {{.Vars}} {{ .Path }}"},
			"env file":        {"script": "a.sh", "execute_command": ". {{.EnvVarFile}} && {{.Path}}", "use_env_var_file": true},
			"everything":      {"inline": "x", "inline_shebang": "/bin/bash -ex", "valid_exit_codes": []any{0, 2}, "remote_folder": "/var/tmp", "remote_file": "x", "skip_clean": "true", "start_retry_timeout": "5m", "expect_disconnect": true, "pause_after": "1ms", "environment_vars": []string{"A=b=c", "_B="}, "env_var_format": "%s='%s' "},
		},
		Bad: map[string]map[string]any{
			"nothing":          {},
			"two":              {"inline": "x", "script": "y"},
			"no name":          {"inline": "x", "environment_vars": []string{"novalue"}},
			"bad name":         {"inline": "x", "environment_vars": []string{"1A=b"}},
			"relative":         {"inline": "x", "working_directory": "srv"},
			"unknown field":    {"inline": "x", "execute_command": "{{.Nope}}"},
			"broken template":  {"inline": "x", "execute_command": "{{.Path"},
			"bad duration":     {"inline": "x", "pause_after": "5"},
			"bad status":       {"inline": "x", "valid_exit_codes": []any{300}},
			"bad format":       {"inline": "x", "env_var_format": "%s"},
			"path and file":    {"inline": "x", "remote_path": "/a", "remote_file": "b"},
			"list for a value": {"script": []any{"a", "b"}},
		},
	})
}

// provision runs a body in a real shell and returns what it printed. %T in
// the body's strings is a directory of the machine.
func provision(t *testing.T, body map[string]any, vars ...string) (string, string, error) {
	t.Helper()
	dir := t.TempDir()
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	if body["remote_folder"] == nil {
		body["remote_folder"] = tmp
	}
	p, err := Kind().New(baketest.Body(body))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = p.Provision(t.Context(), bake.Env{
		Communicator: local.NewCommunicator(dir, os.Environ()), Files: scripts, Vars: vars, Stdout: &out, Stderr: &out,
	})
	left, globErr := filepath.Glob(tmp + "/*")
	if globErr != nil {
		t.Fatal(globErr)
	}
	return out.String(), strings.Join(left, " "), err
}

func TestRun(t *testing.T) {
	greeting := `it's "5$"` + " `x` \\ $HOME\nnext"
	tests := map[string]struct {
		body   map[string]any
		want   string // part of the output
		status int    // of an ExitError
	}{
		"inline":             {body: map[string]any{"inline": []string{"echo one", "x=two", "echo $x"}}, want: "one\ntwo\n"},
		"first failure ends": {body: map[string]any{"inline": []string{"echo one", "false", "echo two"}}, want: "one\n", status: 1},
		"exit":               {body: map[string]any{"inline": []string{"exit 7"}}, status: 7},
		"accepted status":    {body: map[string]any{"inline": []string{"exit 7"}, "valid_exit_codes": []any{7}}},
		"0 not accepted":     {body: map[string]any{"inline": []string{"true"}, "valid_exit_codes": []any{7}}, status: 0},
		"heredoc":            {body: map[string]any{"inline": []string{"cat <<'E'\na $b `c`\nE"}}, want: "a $b `c`\n"},
		"stdin is empty":     {body: map[string]any{"inline": []string{"cat", "read x || echo none", "echo after"}}, want: "none\nafter\n"},
		"unbound":            {body: map[string]any{"inline": []string{"echo $nothing_here"}, "inline_shebang": "/bin/sh -eu"}, status: 2},
		"nothing exported":   {body: map[string]any{"inline": []string{"env | grep -c __imgbake || :"}}, want: "0\n"},
		"traced":             {body: map[string]any{"inline": []string{"echo hi"}, "inline_shebang": "/bin/sh -ex"}, want: "+ echo hi\nhi\n"},
		"other interpreter":  {body: map[string]any{"inline": []string{`BEGIN { print "awk" }`}, "inline_shebang": "/usr/bin/awk -f"}, want: "awk\n"},
		"environment":        {body: map[string]any{"inline": []string{`printf %s "$GREETING"`}}, want: greeting},
		"crlf":               {body: map[string]any{"script": "a.sh"}, want: "a " + greeting + "\n"},
		"scripts in order":   {body: map[string]any{"scripts": []string{"a.sh", "sub/b.sh", "a.sh"}}, want: "a " + greeting + "\nb\n", status: 3},
		"script's own path":  {body: map[string]any{"script": "self.sh"}, want: "payload\n"},
		"script's stdin":     {body: map[string]any{"script": "stdin.sh"}, want: "after\n"},
		"awk":                {body: map[string]any{"script": "env.awk"}, want: "awk " + greeting},
		"packer default":     {body: map[string]any{"script": "a.sh", "execute_command": "chmod +x {{.Path}}; {{.Vars}} {{.Path}}"}, want: "a " + greeting},
		"without vars":       {body: map[string]any{"script": "a.sh", "execute_command": "env -i {{.Path}}"}, want: "a \n"},
		"scrubbed":           {body: map[string]any{"script": "a.sh", "execute_command": "env -i PATH=/bin:/usr/bin sh -c '{{.Vars}} {{.Path}}'"}, want: "a " + greeting},
		"as arguments":       {body: map[string]any{"script": "a.sh", "execute_command": "env -i {{.Vars}} sh {{.Path}}"}, want: "a " + greeting},
		"double quotes":      {body: map[string]any{"inline": []string{`printf %s "$GREETING"`}, "execute_command": `env -i sh -c "{{.Vars}} {{.Path}}"`}, want: greeting},
		"env file":           {body: map[string]any{"script": "noshebang.sh", "execute_command": "env -i sh -c '. {{.EnvVarFile}} && {{.Path}}'", "use_env_var_file": true}, want: "plain " + greeting},
		"literal":            {body: map[string]any{"script": "env.awk", "execute_command": "env -i {{.Vars}} {{.Path}}"}, want: "awk " + greeting},
		"no shebang":         {body: map[string]any{"script": "noshebang.sh", "execute_command": "env -i {{.Vars}} bash -e {{.Path}}"}, want: "plain " + greeting},
		"line numbers":       {body: map[string]any{"script": "lines.sh", "execute_command": "{{.Vars}} bash {{.Path}}"}, want: "line 3", status: 127},
		"command's status":   {body: map[string]any{"inline": []string{"exit 4"}, "execute_command": "{{.Vars}} {{.Path}}"}, status: 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, left, err := provision(t, test.body, "GREETING="+greeting, "PATH="+os.Getenv("PATH"))
			if !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			var exit *bake.ExitError
			switch {
			case errors.As(err, &exit):
				if exit.Status != test.status {
					t.Errorf("got status %d, want %d: %s", exit.Status, test.status, got)
				}
			case err != nil || test.status != 0:
				t.Errorf("got %v, want status %d", err, test.status)
			}
			if left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func TestSkipClean(t *testing.T) {
	for _, command := range []string{"", "{{.Vars}} {{.Path}}"} {
		body := map[string]any{"script": "a.sh", "skip_clean": true}
		if command != "" {
			body["execute_command"] = command
		}
		if _, left, err := provision(t, body); err != nil || left == "" {
			t.Errorf("%q: left %q, %v", command, left, err)
		}
	}
}

// TestOneExec holds the cost of the usual step.
func TestOneExec(t *testing.T) {
	for name, test := range map[string]struct {
		body map[string]any
		want map[baketest.Op]int
	}{
		"inline":  {map[string]any{"inline": []string{"a", "b"}}, map[baketest.Op]int{baketest.OpExec: 1}},
		"script":  {map[string]any{"script": "a.sh"}, map[baketest.Op]int{baketest.OpExec: 1}},
		"command": {map[string]any{"script": "a.sh", "execute_command": "{{.Path}}"}, map[baketest.Op]int{baketest.OpExec: 2, baketest.OpPut: 1}},
	} {
		machine := &baketest.Recorder{}
		p, err := Kind().New(baketest.Body(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(t.Context(), bake.Env{Communicator: machine, Files: scripts}); err != nil {
			t.Fatal(err)
		}
		got := map[baketest.Op]int{}
		for _, c := range machine.Calls() {
			got[c.Op]++
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestNothingIsShown: a secret in the script, the environment or the command
// is in no argument list.
func TestNothingIsShown(t *testing.T) {
	const secret = "canary-hunter2"
	for _, body := range []map[string]any{
		{"inline": "login " + secret},
		{"inline": "login " + secret, "inline_shebang": "/usr/bin/python3"},
		{"inline": "x", "environment_vars": []string{"TOKEN=" + secret}, "execute_command": "echo " + secret + " | sudo -S env {{.Vars}} {{.Path}}"},
	} {
		machine := &baketest.Recorder{}
		p, err := Kind().New(baketest.Body(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(t.Context(), bake.Env{Communicator: machine, Files: scripts}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(machine.Shown(), secret) {
			t.Errorf("%v: %s", body, machine.Shown())
		}
	}
}

// TestProcessList looks at every command line of this machine while a step
// runs by a real shell.
func TestProcessList(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("no /proc here")
	}
	const secret = "canary-argv-1234"
	look := []string{": " + secret, `test "$TOKEN" = canary-argv-$((1233 + 1))`, `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '`}
	for _, body := range []map[string]any{
		{"inline": look},
		{"inline": look, "inline_shebang": "/bin/sh -eu", "remote_file": "x.sh"},
		{"inline": look, "execute_command": "env -i sh -c '{{.Vars}} {{.Path}}'"},
		{"inline": look, "execute_command": "env -i {{.Vars}} sh -e {{.Path}}"},
	} {
		out, _, err := provision(t, body, "TOKEN="+secret)
		if err != nil || !strings.Contains(out, "sh") {
			t.Errorf("%v: %v, %q", body["execute_command"], err, out)
		}
		if strings.Contains(out, secret) {
			t.Errorf("%v: a command line shows the secret", body["execute_command"])
		}
	}
}

func TestCleansUpAfterCancel(t *testing.T) {
	for _, command := range []any{nil, "{{.Path}}"} {
		ctx, cancel := context.WithCancel(t.Context())
		machine := &baketest.Recorder{}
		machine.OnExec = func(ctx context.Context, cmd bake.Cmd, _ string) (int, error) {
			if cmd.Args[0] == "rm" {
				return 0, ctx.Err()
			}
			cancel()
			return 0, ctx.Err()
		}
		p, err := Kind().New(baketest.Body(map[string]any{"script": "a.sh", "execute_command": command}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(ctx, bake.Env{Communicator: machine, Files: scripts}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		calls := machine.Of(baketest.OpExec)
		if last := calls[len(calls)-1].Cmd.Args; last[0] != "rm" {
			t.Errorf("the last command is %q", last)
		}
	}
}

func TestExpectDisconnect(t *testing.T) {
	sink := &baketest.Sink{}
	machine := &baketest.Recorder{OnExec: func(context.Context, bake.Cmd, string) (int, error) { return 0, errors.New("connection lost") }}
	for _, expected := range []bool{true, false} {
		p, err := Kind().New(baketest.Body(map[string]any{"inline": "reboot", "expect_disconnect": expected}))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Provision(t.Context(), bake.Env{Communicator: machine, Sink: sink})
		if (err == nil) != expected {
			t.Errorf("expected %v: got %v", expected, err)
		}
	}
	if len(sink.Texts(bake.Note)) != 1 {
		t.Errorf("notes: %q", sink.Texts(bake.Note))
	}
}

func TestErrorsAndTitles(t *testing.T) {
	long := strings.Repeat("x", 100)
	for want, body := range map[string]map[string]any{
		"apt-get update (+2 more)":    {"inline": []string{"set -eu", "# comment", "apt-get update", "", "a", "b"}},
		"a.sh":                        {"script": "a.sh"},
		"a.sh (+1 more)":              {"scripts": []string{"a.sh", "sub/b.sh"}},
		strings.Repeat("x", 71) + "…": {"inline": long},
		"printf ' [31m'":              {"inline": "printf '\x1b[31m'"},
		"inline":                      {"inline": "#"},
	} {
		if got := Kind().Title(baketest.Body(body)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, file := range []string{"missing.sh", "../outside.sh", "/etc/passwd"} {
		p, err := Kind().New(baketest.Body(map[string]any{"script": file}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(t.Context(), bake.Env{Communicator: &baketest.Recorder{}, Files: scripts, HostDir: "/work"}); err == nil || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("%s: got %v", file, err)
		}
	}
	if got, want := (&bake.ExitError{Command: "x", Status: 2}).Error(), "x: exit status 2"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestInputs(t *testing.T) {
	var got []string
	for _, in := range Kind().Inputs(baketest.Body(map[string]any{"scripts": []string{"a.sh", "sub/b.sh"}})) {
		got = append(got, in.Path)
	}
	if diff := cmp.Diff([]string{"a.sh", "sub/b.sh"}, got); diff != "" {
		t.Error(diff)
	}
}

// The shells a machine may have must all agree on what an inline script does.
func TestShells(t *testing.T) {
	for _, shell := range []string{"dash", "bash", "busybox"} {
		bin, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("no %s here", shell)
			continue
		}
		shebang := bin + " -e"
		if shell == "busybox" {
			continue // busybox sh is reached by a link named sh in real machines
		}
		out, left, err := provision(t, map[string]any{"inline_shebang": shebang, "inline": []string{
			"f() {", "  echo \"in f $1\"", "}", "f 1", "trap 'echo bye' EXIT", "(exit 0)", "exec 3>&1", "echo three >&3", "false || echo ok"}})
		if want := "in f 1\nthree\nok\nbye\n"; out != want || err != nil || left != "" {
			t.Errorf("%s: got %q, %v, left %q", shell, out, err, left)
		}
	}
}

func ExampleKind() {
	fmt.Println(Kind().Title(baketest.Body(map[string]any{"inline": []string{"apt-get update", "apt-get install -y nginx"}})))
	// Output: apt-get update (+1 more)
}
