package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/secret"
)

// dockerConfig is what `docker login` and `podman login` leave behind: read,
// never written.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`

	file string // for messages
	path string // PATH, to find the helpers

	mu    sync.Mutex
	asked map[string]Auth // answers of helpers, by helper and server
}

// dockerAuth is an entry of auths.
type dockerAuth struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

const (
	hubKey        = "https://index.docker.io/v1/" // Docker Hub's key in config files
	helperTimeout = 30 * time.Second
)

// loadDockerConfig reads DOCKER_AUTH_CONFIG or the first config file there is.
// None is no error.
func loadDockerConfig(getenv func(string) string) (*dockerConfig, error) {
	if text := getenv("DOCKER_AUTH_CONFIG"); text != "" {
		return parseDockerConfig([]byte(text), "DOCKER_AUTH_CONFIG", getenv("PATH"))
	}
	for _, file := range dockerConfigFiles(getenv) {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("docker config: %w", err)
		}
		return parseDockerConfig(data, file, getenv("PATH"))
	}
	return &dockerConfig{}, nil
}

// dockerConfigFiles lists the places of docker, then those of podman.
func dockerConfigFiles(getenv func(string) string) []string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return []string{filepath.Join(dir, "config.json")}
	}
	var files []string
	add := func(base string, parts ...string) {
		if base != "" {
			files = append(files, filepath.Join(append([]string{base}, parts...)...))
		}
	}
	add(getenv("HOME"), ".docker", "config.json")
	add(getenv("REGISTRY_AUTH_FILE"))
	add(getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	add(getenv("XDG_CONFIG_HOME"), "containers", "auth.json")
	add(getenv("HOME"), ".config", "containers", "auth.json")
	return files
}

func parseDockerConfig(data []byte, file, path string) (*dockerConfig, error) {
	d := &dockerConfig{file: file, path: path, asked: map[string]Auth{}}
	if len(bytes.TrimSpace(data)) == 0 {
		return d, nil
	}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("docker config %s: %w", file, err)
	}
	auths := make(map[string]dockerAuth, len(d.Auths))
	for key, a := range d.Auths {
		auths[configKey(key)] = a
	}
	helpers := make(map[string]string, len(d.CredHelpers))
	for key, h := range d.CredHelpers {
		helpers[configKey(key)] = h
	}
	d.Auths, d.CredHelpers = auths, helpers
	return d, nil
}

// configKey reduces the ways to write a registry in a config file
// (https://index.docker.io/v1/, ghcr.io/acme) to host or host/path.
func configKey(key string) string {
	_, rest, ok := strings.Cut(key, "://")
	if !ok {
		rest = key
	}
	host, path, _ := strings.Cut(strings.Trim(rest, "/"), "/")
	host = canonicalHost(host)
	if path == "" || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

// auth looks for the repository, its parents and its registry, a helper
// before the file, as docker does.
func (d *dockerConfig) auth(ctx context.Context, repo name.Repository) (Auth, error) {
	for key := repo.Name(); ; key = key[:strings.LastIndexByte(key, '/')] {
		if helper, ok := d.CredHelpers[key]; ok {
			return d.ask(ctx, helper, key)
		}
		if entry, ok := d.Auths[key]; ok && entry != (dockerAuth{}) {
			return entry.decode(d.file, key)
		}
		if !strings.Contains(key, "/") {
			break
		}
	}
	if d.CredsStore != "" {
		return d.ask(ctx, d.CredsStore, repo.RegistryStr())
	}
	return Auth{}, nil
}

func (a dockerAuth) decode(file, key string) (Auth, error) {
	if a.IdentityToken != "" {
		return Auth{Token: secret.New(a.IdentityToken)}, nil
	}
	if a.Auth == "" {
		return Auth{Username: a.Username, Password: secret.New(a.Password)}, nil
	}
	// The decoding error is left out: it could quote the secret.
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(strings.TrimRight(string(text), "\x00"), ":")
	if err != nil || !ok {
		return Auth{}, fmt.Errorf("docker config %s: auth of %s is not the base64 of user:password", file, key)
	}
	return Auth{Username: user, Password: secret.New(password)}, nil
}

// ask asks a credential helper once for each server.
func (d *dockerConfig) ask(ctx context.Context, helper, key string) (Auth, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	server := key
	if key == name.DefaultRegistry {
		server = hubKey
	}
	id := helper + " " + server
	if auth, ok := d.asked[id]; ok {
		return auth, nil
	}
	auth, err := d.runHelper(ctx, helper, server)
	if err != nil {
		return Auth{}, fmt.Errorf("credential helper %q of %s for %s: %w", helper, d.file, server, err)
	}
	d.asked[id] = auth
	return auth, nil
}

// runHelper speaks the credential helper protocol: the server on standard
// input, JSON on standard output.
func (d *dockerConfig) runHelper(ctx context.Context, helper, server string) (Auth, error) {
	if strings.ContainsAny(helper, `/\`) {
		return Auth{}, errors.New("a helper's name has no path in it")
	}
	program, err := lookPath("docker-credential-"+helper, d.path)
	if err != nil {
		return Auth{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(server), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		// Helpers say why on standard output.
		said := strings.TrimSpace(stdout.String() + stderr.String())
		if strings.Contains(said, "credentials not found") {
			return Auth{}, nil
		}
		return Auth{}, fmt.Errorf("%w: %s", err, printable(said))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		return Auth{}, errors.New("its answer is not the JSON of the protocol")
	}
	if answer.Username == "<token>" {
		return Auth{Token: secret.New(answer.Secret)}, nil
	}
	return Auth{Username: answer.Username, Password: secret.New(answer.Secret)}, nil
}

// lookPath is exec.LookPath with a PATH that is given.
func lookPath(program, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH: install it, or give the credentials with --registry-auth", program)
}
