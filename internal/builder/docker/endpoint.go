package docker

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// endpoint is where an engine listens.
type endpoint struct {
	host string
	tls  *tls.Config // nil: plain
}

// findEndpoint follows the docker command: DOCKER_HOST, else DOCKER_CONTEXT,
// else the docker config's current context, else the default socket.
func findEndpoint(getenv func(string) string) (endpoint, error) {
	dir := configDir(getenv)
	if host := getenv("DOCKER_HOST"); host != "" {
		config, err := envTLS(getenv, dir)
		return endpoint{host: host, tls: config}, err
	}
	context := getenv("DOCKER_CONTEXT")
	if context == "" {
		var err error
		if context, err = currentContext(dir); err != nil {
			return endpoint{}, err
		}
	}
	if context == "" || context == "default" {
		return endpoint{host: client.DefaultDockerHost}, nil
	}
	return contextEndpoint(dir, context)
}

func configDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), ".docker")
}

// envTLS is what DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say, as the docker
// command reads them: verification is on if the first is set at all.
func envTLS(getenv func(string) string, dir string) (*tls.Config, error) {
	verify, certs := getenv("DOCKER_TLS_VERIFY") != "", getenv("DOCKER_CERT_PATH")
	if strings.HasPrefix(getenv("DOCKER_HOST"), "unix:") || !verify && certs == "" && getenv("DOCKER_TLS") == "" {
		return nil, nil
	}
	if certs == "" {
		certs = dir
	} else if _, err := os.Stat(certs); err != nil {
		return nil, fmt.Errorf("DOCKER_CERT_PATH: %w", err)
	}
	return tlsFrom(certs, !verify)
}

// tlsFrom makes a TLS config of the ca.pem, cert.pem and key.pem there are.
func tlsFrom(dir string, insecure bool) (*tls.Config, error) {
	file := func(name string) string {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err != nil {
			return ""
		}
		return p
	}
	config, err := tlsconfig.Client(tlsconfig.Options{
		CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem"),
		InsecureSkipVerify: insecure, ExclusiveRootPools: true,
	})
	if err != nil {
		return nil, fmt.Errorf("docker TLS material in %s: %w", dir, err)
	}
	return config, nil
}

func currentContext(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("docker config: %w", err)
	}
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return "", fmt.Errorf("docker config %s: %w", filepath.Join(dir, "config.json"), err)
	}
	return config.CurrentContext, nil
}

// contextEndpoint reads a context from docker's context store: its folders are
// named by the SHA-256 of the context's name.
func contextEndpoint(dir, context string) (endpoint, error) {
	sum := sha256.Sum256([]byte(context))
	id := hex.EncodeToString(sum[:])
	data, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, diag.Problem{Text: fmt.Sprintf("docker context %q does not exist", context), Hint: "docker context ls lists them; DOCKER_HOST names an engine without one"}
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w", context, err)
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return endpoint{}, fmt.Errorf("docker context %q: %w", context, err)
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok || docker.Host == "" {
		return endpoint{}, fmt.Errorf("docker context %q names no docker engine", context)
	}
	ep := endpoint{host: docker.Host}
	material := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(material); err == nil || docker.SkipTLSVerify {
		if ep.tls, err = tlsFrom(material, docker.SkipTLSVerify); err != nil {
			return endpoint{}, fmt.Errorf("docker context %q: %w", context, err)
		}
	}
	return ep, nil
}
