package local_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/communicator/local"
)

func TestCommunicator(t *testing.T) {
	baketest.CommunicatorSuite(t, baketest.CommunicatorOptions{
		Root: os.Getuid() == 0,
		New: func(t *testing.T) bake.Communicator {
			return local.NewCommunicator(t.TempDir(), os.Environ())
		},
	})
}

func TestHostPassesOnlyTheAllowlist(t *testing.T) {
	host := local.Host{Dir: t.TempDir(), Env: []string{
		"PATH=/usr/bin:/bin", "HOME=/home/u", "LANG=C", "TERM=dumb", "GITHUB_TOKEN=canary", "ACTIONS_RUNTIME_TOKEN=canary",
		"INPUT_PASSWORD=canary", "NPM_TOKEN=canary", "IMGBAKE_VAR_api_key=canary", "SSH_AUTH_SOCK=canary", "LC_ALL=",
	}}
	var out bytes.Buffer
	status, err := host.Exec(t.Context(), bake.Cmd{Args: []string{"env"}, Stdout: &out, Env: []string{"PACKER_BUILD_NAME=web", "HOME=/else"}})
	if err != nil || status != 0 {
		t.Fatal(status, err)
	}
	got := strings.Fields(out.String())
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "PWD=") }) // os/exec sets it
	slices.Sort(got)
	want := []string{"HOME=/else", "LANG=C", "PACKER_BUILD_NAME=web", "PATH=/usr/bin:/bin", "TERM=dumb"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHostRefuses(t *testing.T) {
	host := local.Host{Dir: t.TempDir()}
	for name, cmd := range map[string]bake.Cmd{
		"user":       {Args: []string{"true"}, User: "nobody"},
		"no command": {},
		"not there":  {Args: []string{"/no/such/command"}},
	} {
		if _, err := host.Exec(t.Context(), cmd); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// A command that ignores SIGTERM is killed after the grace period.
func TestHostKills(t *testing.T) {
	host := local.Host{Dir: t.TempDir(), Grace: 50 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := writerFunc(func([]byte) { cancel() })
	begin := time.Now()
	_, err := host.Exec(ctx, bake.Cmd{Args: []string{"/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done"}, Stdout: started})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 10*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begin))
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
