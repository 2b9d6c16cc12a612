package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/source"
	"github.com/imgbake/imgbake-action/internal/store"
)

// Deps are what an Engine needs.
type Deps struct {
	Store    *store.Store
	Registry *registry.Client
	Getenv   func(string) string
	// Helper names a static Linux executable of the engine's architecture
	// (amd64, arm64) that runs guest.Main. Nil: imgbake-helper beside the
	// running program, or the program itself.
	Helper func(arch string) (path string, err error)
}

// Engine is the Docker Engine that the environment names. It is reached when
// first needed. It is a bake.Loader, and safe for concurrent use.
type Engine struct {
	deps Deps

	mu       sync.Mutex
	api      *client.Client // nil until connect
	endpoint endpoint
	info     system.Info
	reaped   sync.Once
	bases    source.Locks // of pulls, saves and scans, so that each is done once
	contents sync.Map     // image ID to v1.Image, of this run
	sources  *source.Sources
	indexes  *store.Indexes // by indexKey
}

// New returns the engine; it does not reach for it.
func New(deps Deps) *Engine {
	if deps.Getenv == nil {
		deps.Getenv = func(string) string { return "" }
	}
	return &Engine{
		deps: deps, sources: &source.Sources{Store: deps.Store, Registry: deps.Registry}, indexes: deps.Store.Indexes("docker-index"),
	}
}

// Close gives the connections back.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api == nil {
		return nil
	}
	err := e.api.Close()
	e.api = nil
	return err
}

// Describe reaches the engine and says what it is, for doctor.
func (e *Engine) Describe(ctx context.Context) (string, error) {
	if err := e.connect(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("Docker Engine %s (API %s, %s/%s, %s) at %s", e.info.ServerVersion, e.api.ClientVersion(),
		e.info.OSType, e.arch(), e.info.Driver, e.endpoint.host), nil
}

// connect makes the client once. An engine that was not there is tried again.
func (e *Engine) connect(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api != nil {
		return nil
	}
	endpoint, err := findEndpoint(e.deps.Getenv)
	if err != nil {
		return err
	}
	api, err := endpoint.client(e.deps.Getenv("DOCKER_API_VERSION"))
	if err != nil {
		return fmt.Errorf("docker engine at %s: %w", endpoint.host, err)
	}
	ask, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	info, err := api.Info(ask)
	if err != nil {
		api.Close()
		return endpoint.explain(err)
	}
	if info.OSType != "linux" {
		api.Close()
		return diag.Problem{Text: fmt.Sprintf("docker engine at %s runs %s containers", endpoint.host, info.OSType), Hint: "switch it to Linux containers"}
	}
	e.api, e.endpoint, e.info = api, endpoint, info
	return nil
}

func (ep endpoint) client(version string) (*client.Client, error) {
	opts := []client.Opt{client.WithAPIVersionNegotiation(), client.WithUserAgent("imgbake")}
	if version != "" {
		opts = append(opts, client.WithVersion(version))
	}
	if ep.tls != nil {
		opts = append(opts, client.WithHTTPClient(&http.Client{
			Transport: &http.Transport{TLSClientConfig: ep.tls}, CheckRedirect: client.CheckRedirect,
		}))
	}
	helper, err := connhelper.GetConnectionHelper(ep.host)
	if err != nil {
		return nil, err
	}
	if helper != nil { // ssh://
		opts = append(opts, client.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}),
			client.WithHost(helper.Host), client.WithDialContext(helper.Dialer))
	} else {
		opts = append(opts, client.WithHost(ep.host))
	}
	return client.NewClientWithOpts(opts...)
}

// explain makes one clear error of what the client says.
func (ep endpoint) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || !isConnectionLost(err) {
		return err
	}
	text := fmt.Sprintf("docker engine at %s cannot be reached", ep.host)
	switch doing, _, said := strings.Cut(bareText(err), "annot connect to the Docker daemon"); {
	case !said:
		text += ": " + doing
	case len(doing) > 1:
		text = strings.TrimRight(doing, "Cc") + text
	}
	return diag.Problem{
		Text: text,
		Hint: "is it running, and may this user speak to it? DOCKER_HOST or DOCKER_CONTEXT name another; imgbake doctor tells more",
	}
}

// explain is used on errors on their way out.
func (e *Engine) explain(err error) error { return e.endpoint.explain(err) }

// isConnectionLost tells a lost engine from what the engine, or a registry,
// says of other connections.
func isConnectionLost(err error) bool {
	if client.IsErrConnectionFailed(err) {
		return true
	}
	var said saidError
	var problem diag.Problem
	var registry *registry.Error
	text := err.Error()
	if errors.As(err, &said) || errors.As(err, &problem) || errors.As(err, &registry) || strings.Contains(text, "Error response from daemon") {
		return false
	}
	for _, sign := range []string{"connection refused", "connection reset", "broken pipe", "annot connect to the Docker daemon", ": EOF", "unexpected EOF"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// bareText is the error on one line, without the client's URLs and advice.
func bareText(err error) string {
	text := err.Error()
	var request *url.Error
	for cause := err; errors.As(cause, &request); cause = request.Err {
		text = strings.Replace(text, request.Error(), request.Err.Error(), 1)
	}
	text, _, _ = strings.Cut(strings.ReplaceAll(text, "\r", ""), "\n") // ssh ends its lines with both
	var number syscall.Errno
	if doing, _, cut := strings.Cut(text, "error during connect: "); cut && errors.As(err, &number) {
		text = doing + number.Error()
	}
	return text
}

// arch is the engine's architecture as Go names it.
func (e *Engine) arch() string {
	switch e.info.Architecture {
	case "x86_64", "amd64":
		return "amd64"
	case "aarch64", "arm64":
		return "arm64"
	case "armv7l", "armv6l", "armhf":
		return "arm"
	case "i386", "i686":
		return "386"
	}
	return e.info.Architecture
}

// platform is the one to bake for when the template names none.
func (e *Engine) platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: e.arch()} }

// containerdStore reports whether image IDs are manifest digests here.
func (e *Engine) containerdStore() bool {
	for _, pair := range e.info.DriverStatus {
		if pair[0] == "driver-type" && strings.HasPrefix(pair[1], "io.containerd.snapshotter") {
			return true
		}
	}
	return false
}
