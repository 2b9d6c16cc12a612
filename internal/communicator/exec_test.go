package communicator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/communicator"
)

func TestPrefixAndUser(t *testing.T) {
	inside := &baketest.Recorder{}
	c := communicator.FromExec(inside, communicator.Options{Prefix: []string{"sudo", "-n"}, User: "admin"})
	if err := c.Put(t.Context(), "/a b", bytes.NewReader(baketest.Tar())); err != nil {
		t.Fatal(err)
	}
	stream, err := c.Get(t.Context(), "/x/../y/")
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	var got [][]string
	for _, call := range inside.Calls() {
		args := call.Cmd.Args
		got = append(got, append([]string{call.Cmd.User}, append(args[:4:4], args[5:]...)...)) // less the script
	}
	want := [][]string{
		{"admin", "sudo", "-n", "/bin/sh", "-c", "sh", "/a b"},
		{"admin", "sudo", "-n", "/bin/sh", "-c", "sh", "/", "y"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	lost := errors.New("connection lost")
	tests := map[string]struct {
		status int
		err    error
		stderr string
		want   string
		is     error
	}{
		"tar's own words": {2, nil, "tar: no space\nleft\n", "tar: no space left", nil},
		"only the end":    {2, nil, strings.Repeat("noise ", 1000) + "the reason", "the reason", nil},
		"silent":          {127, nil, "", "status 127", nil},
		"connection":      {0, lost, "", "connection lost", lost},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inside := &baketest.Recorder{OnExec: func(_ context.Context, cmd bake.Cmd, _ string) (int, error) {
				_, _ = io.WriteString(cmd.Stderr, test.stderr)
				return test.status, test.err
			}}
			c := communicator.FromExec(inside, communicator.Options{})
			_, getErr := c.Get(t.Context(), "/src")
			for _, err := range []error{c.Put(t.Context(), "/dst", bytes.NewReader(nil)), getErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1200 || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// An error in the middle of a stream reaches its reader.
func TestGetBreaksOff(t *testing.T) {
	inside := &baketest.Recorder{OnExec: func(_ context.Context, cmd bake.Cmd, _ string) (int, error) {
		_, _ = cmd.Stdout.Write(make([]byte, 100))
		return 1, nil
	}}
	stream, err := communicator.FromExec(inside, communicator.Options{}).Get(t.Context(), "/src")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if n, err := io.Copy(io.Discard, stream); n != 100 || err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}
