package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

// helperScript speaks the credential helper protocol and counts its calls.
const helperScript = `#!/bin/sh
server=$(cat)
echo "$server" >> "$0.calls"
case "$server" in
  ghcr.io) echo '{"ServerURL":"ghcr.io","Username":"bot","Secret":"from-helper"}' ;;
  https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"identity"}' ;;
  broken.example) echo 'the keyring is locked'; exit 1 ;;
  odd.example) echo 'not JSON' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`

func writeFile(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestDockerConfig(t *testing.T) {
	dir := t.TempDir()
	helper := filepath.Join(dir, "bin", "docker-credential-test")
	writeFile(t, helper, helperScript, 0o700)
	config := `{
	  "auths": {
	    "plain.example": {"auth": "dTpwOnc="},
	    "https://scheme.example/v2/": {"username": "u", "password": "p"},
	    "path.example/acme": {"auth": "YWNtZTpw"},
	    "path.example": {"auth": "b3RoZXI6cA=="},
	    "token.example": {"identitytoken": "id"},
	    "bad.example": {"auth": "geheim!"},
	    "ghcr.io": {}
	  },
	  "credHelpers": {"gone.example": "missing", "sneaky.example": "../../bin/sh"},
	  "credsStore": "test"
	}`
	writeFile(t, filepath.Join(dir, ".docker", "config.json"), config, 0o600)
	c, err := New(Options{Getenv: env("HOME", dir, "PATH", filepath.Dir(helper)+":/bin:/usr/bin")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		repo string
		want Auth
		err  string
	}{
		{"plain.example/x", Auth{Username: "u", Password: password("p:w")}, ""},
		{"scheme.example/x", Auth{Username: "u", Password: password("p")}, ""},
		{"path.example/acme/web", Auth{Username: "acme", Password: password("p")}, ""},
		{"path.example/acmeother/web", Auth{Username: "other", Password: password("p")}, ""},
		{"token.example/x", Auth{Token: password("id")}, ""},
		{"bad.example/x", Auth{}, "auth of bad.example is not the base64"},
		{"ghcr.io/acme/web", Auth{Username: "bot", Password: password("from-helper")}, ""},
		{"ghcr.io/acme/again", Auth{Username: "bot", Password: password("from-helper")}, ""},
		{"library/debian", Auth{Token: password("identity")}, ""},
		{"unknown.example/x", Auth{}, ""},
		{"broken.example/x", Auth{}, "exit status 1: the keyring is locked"},
		{"odd.example/x", Auth{}, "not the JSON of the protocol"},
		{"gone.example/x", Auth{}, "docker-credential-missing is not in PATH"},
		{"sneaky.example/x", Auth{}, "no path in it"},
	} {
		repo, err := name.NewRepository(tc.repo)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Auth(t.Context(), repo)
		if tc.err != "" {
			wantError(t, err, tc.err)
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v shows a secret", err)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%s: user %q, right password %v, token %v; %v", tc.repo, got.Username, got.Password == tc.want.Password, got.Token == tc.want.Token, err)
		}
	}
	calls, _ := os.ReadFile(helper + ".calls")
	if n := strings.Count(string(calls), "ghcr.io\n"); n != 1 {
		t.Errorf("the helper was asked %d times for ghcr.io", n)
	}
}

func TestDockerConfigPlaces(t *testing.T) {
	dir := t.TempDir()
	entry := func(user string) string {
		return `{"auths":{"reg.example":{"username":"` + user + `","password":"p"}}}`
	}
	home, docker, podman := filepath.Join(dir, "home"), filepath.Join(dir, "docker"), filepath.Join(dir, "run")
	writeFile(t, filepath.Join(docker, "config.json"), entry("docker"), 0o600)
	writeFile(t, filepath.Join(podman, "containers", "auth.json"), entry("podman"), 0o600)
	repo, _ := name.NewRepository("reg.example/x")
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{[]string{"HOME", home}, ""},
		{[]string{"HOME", home, "XDG_RUNTIME_DIR", podman}, "podman"},
		{[]string{"HOME", home, "DOCKER_CONFIG", docker, "XDG_RUNTIME_DIR", podman}, "docker"},
		{[]string{"REGISTRY_AUTH_FILE", filepath.Join(docker, "config.json")}, "docker"},
		{[]string{"DOCKER_CONFIG", docker, "DOCKER_AUTH_CONFIG", entry("inline")}, "inline"},
	} {
		d, err := loadDockerConfig(env(tc.env...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.auth(t.Context(), repo)
		if err != nil || got.Username != tc.want {
			t.Errorf("%v: user %q, %v; want %q", tc.env, got.Username, err, tc.want)
		}
	}
}

func FuzzDockerConfig(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"auths":{"https://":{}}}`, `{"auths":{"a/b/":{"auth":"OjpA"}},"credHelpers":{"/":"x"}}`, `{"auths":null}`} {
		f.Add([]byte(seed))
	}
	repo, err := name.NewRepository("a/b/c")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDockerConfig(data, "fuzz", "")
		if err == nil {
			d.auth(t.Context(), repo)
		}
	})
}
