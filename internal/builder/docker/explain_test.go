package docker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/registry"
)

// Only a lost engine is called one, not what it or a registry says of others.
func TestExplain(t *testing.T) {
	lost := "docker engine at unix:///e cannot be reached"
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"request cut off": {&url.Error{Op: "Post", URL: "http://%2Fe/v1.41/exec", Err: io.EOF}, lost + ": EOF"},
		"exec cut off":    {fmt.Errorf("output: %w", io.ErrUnexpectedEOF), lost + ": output: unexpected EOF"},
		"reset":           {fmt.Errorf("error during connect: readLoopPeekFailLocked: %w", &net.OpError{Op: "read", Net: "unix", Err: syscall.ECONNRESET}), lost + ": connection reset by peer"},
		"no daemon":       {errors.New("Cannot connect to the Docker daemon at unix:///e. Is the docker daemon running?"), lost},
		"while creating":  {errors.New("creating the container: Cannot connect to the Docker daemon at unix:///e."), "creating the container: " + lost},
		"engine's words":  {fmt.Errorf("pulling web: %w", saidError("unexpected EOF")), "pulling web: unexpected EOF"},
		"engine's answer": {errors.New(`Error response from daemon: Head "http://reg/v2/": EOF`), `Error response from daemon: Head "http://reg/v2/": EOF`},
		"registry":        {&registry.Error{Op: "pull", Repo: "reg/web", Text: "connection refused"}, "pull reg/web: connection refused"},
		"explained":       {diag.Problem{Text: "pulling web: unexpected EOF"}, "pulling web: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, _ := strings.Cut(endpoint{host: "unix:///e"}.explain(test.err).Error(), " (is it running")
			if got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}
