package cli_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"log"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgbake/imgbake-action/internal/catalog"
	"github.com/imgbake/imgbake-action/internal/cli"
	"github.com/imgbake/imgbake-action/internal/guest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain lets the test binary be imgbake itself, so that scripts run the
// whole program: `imgbake` in a script is program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"imgbake": program})
}

// program is cmd/imgbake with a fixed version.
func program() {
	if guest.Is(os.Args) {
		os.Exit(guest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.Getwd()
	if err != nil {
		log.Fatal(err)
	}
	app := cli.App{
		Version: "1.2.3-test", Catalog: catalog.All,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), Dir: dir, Now: time.Now,
	}
	os.Exit(app.Main(ctx, os.Args[1:]))
}

// TestScript runs every script of testdata/script. What they can say is in
// https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript, and
//
//	exits CODE imgbake ARG...    run it; it must end with this exit code
//	normal FROM TO               copy FROM (stdout, stderr or a file) to TO, with
//	                             times, durations, run IDs and folders made equal
//	hides SECRET FILE...         no file has the secret, in any form
//
// $REGISTRY is a registry of the script's own. No engine can be reached.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script", UpdateScripts: *update, RequireUniqueNames: true,
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "normal": normal, "hides": hides,
		},
	})
}

// setup gives a script a registry and an environment that is the same everywhere.
func setup(env *testscript.Env) error {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	env.Defer(server.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	home := filepath.Join(env.WorkDir, ".home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"REGISTRY": "localhost:" + port, "HOME": home, "XDG_CACHE_HOME": filepath.Join(home, "cache"),
		"DOCKER_HOST": "unix://" + filepath.Join(env.WorkDir, "no-engine.sock"), "DOCKER_CONFIG": home,
		"CI": "", "GITHUB_ACTIONS": "", "SOURCE_DATE_EPOCH": "", "TERM": "dumb",
		"GIT_CEILING_DIRECTORIES": filepath.Dir(env.WorkDir),
	} {
		env.Setenv(name, value)
	}
	return nil
}

// exits runs a command and compares its exit code: with one, or with several
// as 0|1 where the machine decides.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if !slices.Contains(strings.Split(args[0], "|"), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// What differs from run to run, and what it becomes.
var changing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`"(seconds|build_time)": ?[0-9.e-]+`), `"$1": 0`},
	{regexp.MustCompile(`"(run_id|packer_run_uuid|last_run_uuid)": ?"[0-9a-f-]+"`), `"$1": "RUN"`},
	{regexp.MustCompile(`after \d+(\.\d+)?(ms|s)`), "after 0s"},
	{regexp.MustCompile(`in \d+(\.\d+)?(ms|s)\b`), "in 0s"},
	{regexp.MustCompile(`(?m)^\d{10},`), "TIME,"},
}

// normal copies a text without what changes from run to run.
func normal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: normal FROM TO")
	}
	text := ts.ReadFile(args[0])
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "WORK")
	text = strings.ReplaceAll(text, ts.Getenv("REGISTRY"), "REGISTRY")
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}

// hides looks for a secret in files: as it is, in base64 at the three
// alignments, in hex, and escaped for URLs.
func hides(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: hides SECRET FILE...")
	}
	for _, name := range args[1:] {
		form := findSecret(ts.ReadFile(name), args[0])
		switch {
		case form != "" && !neg:
			ts.Fatalf("%s holds the secret, %s", name, form)
		case form == "" && neg:
			ts.Fatalf("%s does not hold the secret", name)
		}
	}
}

// findSecret names the form in which a text holds a secret, "" when it does not.
func findSecret(text, secret string) string {
	forms := map[string]string{
		"raw": secret, "in hex": hex.EncodeToString([]byte(secret)),
		"in a URL": url.QueryEscape(secret), "in a path": url.PathEscape(secret),
	}
	for shift := range 3 {
		padded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
		// The ends mix with what stands around; the middle does not.
		forms["in base64, shifted by "+strconv.Itoa(shift)] = padded[4 : len(padded)-4]
	}
	for name, form := range forms {
		if strings.Contains(text, form) || strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return name
		}
	}
	return ""
}
