//go:build engine

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A secret passed by every route is found nowhere: threats T7 to T12. Steps
// tell it in every form; the outputs, the records, the images, the registry,
// the cache, the engine and all processes of the machine are searched.
func TestCanary(t *testing.T) {
	t.Parallel()
	open, closed, blobs, users := guardedRegistry(t)
	s := newSite(t)
	tmp := t.TempDir()
	s.env = []string{"TMPDIR=" + tmp, "TERM=xterm"}
	base := pushBase(t, s, open)
	base = closed + strings.TrimPrefix(base, open)
	before := filesBelow(t, s.cache, blobs) // nothing in here can have seen a secret
	began := time.Now()
	w := newWatch(t, s.host)

	t.Run("bake", func(t *testing.T) {
		for _, c := range canaryRuns {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.bake(t, s, w, base, closed)
			})
		}
	})
	w.stop(t)
	for _, user := range []string{"puller", "pusher", "publisher"} {
		if _, ok := users.Load(user); !ok {
			t.Errorf("%s never signed in, so its password proves nothing", user)
		}
	}
	searchFiles(t, before, s.cache, tmp, blobs)
	var events string
	query := fmt.Sprintf("/events?since=%d&until=%d", began.Unix(), time.Now().Unix())
	if err := api(t.Context(), s.host, http.MethodGet, query, nil, &events); err != nil {
		t.Error(err)
	}
	clean(t, "the engine's events", []byte(events))
}

// canaries are the secrets, by route. Each has two halves that no encoding of
// the whole can hide, and between them what shells, JSON and URLs trip over.
var canaries = map[string]string{
	"flag":     canaryOf(`'"$HOME \ %41&é`),
	"plain":    canaryOf("`id`$(id)'\"\\n"),
	"pkr":      canaryOf(`$$ "'" !*?`),
	"declared": canaryOf(`%s%d '\'' {{.}}`),
	"yaml":     canaryOf("'\"\n$x "),
	"json":     canaryOf("\\\"\n'<&>"),
	"hcl":      canaryOf("+/=~'%"),
	"default":  canaryOf(`;|#'"`),
	"local":    canaryOf(`'$1"`),
	"login":    canaryOf(`:@/'"$`),
	"push":     canaryOf(`:@/ "%`),
	"auth":     canaryOf(`:=@'$`),
}

// canaryOf is a new secret of two random halves.
func canaryOf(middle string) string { return rand.Text()[:14] + middle + rand.Text()[:14] }

// needles are what a leak looks like: a half of a secret as it is, in hex, and
// in base64 wherever it begins in the encoded text.
var needles = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for route, value := range canaries {
		for _, half := range []string{value[:14], value[len(value)-14:]} {
			all[half] = route
			all[hex.EncodeToString([]byte(half))] = route + " in hex"
			all[strings.ToUpper(hex.EncodeToString([]byte(half)))] = route + " in hex"
			for shift := range 3 {
				text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + half))
				all[text[(shift*8+5)/6:(shift+len(half))*8/6]] = route + " in base64"
			}
		}
	}
	return all
})

// leaks says which secrets are in some bytes, but those allowed.
func leaks(data []byte, allowed ...string) (found []string) {
	for needle, route := range needles() {
		if i := bytes.Index(data, []byte(needle)); i >= 0 {
			name, _, _ := strings.Cut(route, " ")
			if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+name+" ") {
				found = append(found, fmt.Sprintf("%s at %d: …%q…", route, i, data[max(0, i-60):min(len(data), i+60)]))
			}
		}
	}
	return found
}

func clean(t *testing.T, where string, data []byte) {
	t.Helper()
	for _, leak := range leaks(data) {
		t.Errorf("%s: %s", where, leak)
	}
}

// The search must find what it looks for.
func TestNeedles(t *testing.T) {
	v := canaries["flag"]
	for _, form := range []string{
		v, strconv.Quote(v), hex.EncodeToString([]byte(v)), fmt.Sprintf("%X", v), v[:20],
		base64.StdEncoding.EncodeToString([]byte(v)), base64.URLEncoding.EncodeToString([]byte("x" + v)), base64.RawStdEncoding.EncodeToString([]byte("xx" + v)),
	} {
		if len(leaks([]byte("before "+form+" after"))) == 0 {
			t.Errorf("%q is not found", form)
		}
		if found := leaks([]byte(form), "flag"); len(found) > 0 {
			t.Errorf("%q is not allowed: %s", form, found)
		}
	}
}

// canaryRun is one bake of testdata/canary.
type canaryRun struct {
	name, template string
	flags          []string
	argv           bool // secrets on imgbake's own command line, as a user may write them
	terminal       bool
	status         int
}

var canaryRuns = []canaryRun{
	{name: "plain", template: "imgbake.yaml", flags: []string{"--plain", "-timestamp-ui"}, argv: true},
	{name: "debug", template: "imgbake.yaml", flags: []string{"-debug", "-color=false"}},
	{name: "json", template: "imgbake.yaml", flags: []string{"--json"}},
	{name: "machine", template: "imgbake.yaml", flags: []string{"-machine-readable"}},
	{name: "live", template: "imgbake.yaml", terminal: true},
	{name: "failing", template: "imgbake.yaml", flags: []string{"-var", "status=7"}, status: 1},
	{name: "packer", template: "packer.json", flags: []string{"-debug", "-timestamp-ui"}, argv: true},
	{name: "packer-machine", template: "packer.json", flags: []string{"-machine-readable"}},
}

// bake runs the template with all the secrets and looks at everything it says.
func (c canaryRun) bake(t *testing.T, s site, w *watch, base, registry string) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/canary")); err != nil {
		t.Fatal(err)
	}
	args := c.secrets(t, &s, dir, registry)
	args = append(args, "-var", "base="+base, "-var", "registry="+registry, "-var", "repository="+registry+"/"+c.name)
	if c.template != "packer.json" || c.argv {
		given := filesBelow(t, dir)
		for _, look := range [][]string{{"validate"}, {"validate", "--format", "json"}, {"inspect"}, {"inspect", "--json"}, {"plan"}, {"plan", "--tree"}, {"plan", "--matrix"}} {
			cmd := s.command(t.Context(), t, dir, append(append(look, without(args, "--registry-auth")...), c.template)...)
			r := w.run(t, cmd, dir, c.argv)
			if r.code == 2 || r.stdout+r.stderr == "" && look[0] != "validate" {
				t.Errorf("%s: exit code %d, %q", look, r.code, tail(r.stderr))
			}
			clean(t, strings.Join(look, " "), []byte(r.stdout+r.stderr))
		}
		searchFiles(t, given, dir)
	}
	given := filesBelow(t, dir)
	record := filepath.Join(dir, "record.json")
	args = append([]string{"build", "--engine=docker", "--record", record}, append(append(args, c.flags...), c.template)...)
	cmd := s.command(t.Context(), t, dir, args...)
	if c.terminal {
		needTools(t, "script")
		line := "'" + strings.Join(cmd.Args, "' '") + "'"
		env := cmd.Env
		cmd = exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command", line, os.DevNull)
		cmd.Dir, cmd.Env = dir, env
	}
	r := w.run(t, cmd, dir, c.argv)
	clean(t, "stdout", []byte(r.stdout))
	clean(t, "stderr", []byte(r.stderr))
	if r.code != c.status {
		t.Fatalf("exit code %d, want %d\n…%s\n…%s", r.code, c.status, tail(r.stdout), tail(r.stderr))
	}
	if !strings.Contains(r.stdout, "***") {
		t.Errorf("the steps' output is not there:\n…%s", tail(r.stdout))
	}
	searchFiles(t, given, dir)
	if c.status == 0 {
		c.image(t, s, registry, readRecord(t, record))
	}
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

func without(args []string, flag string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == flag {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

// secrets passes each secret by its route.
func (c canaryRun) secrets(t *testing.T, s *site, dir, registry string) (args []string) {
	t.Helper()
	give := func(name string) {
		if c.argv {
			args = append(args, "-var", name+"="+canaries[name])
		} else {
			s.env = append(s.env, "IMGBAKE_VAR_"+name+"="+canaries[name])
		}
	}
	s.env = append([]string{"CANARY_DEFAULT=" + canaries["default"], "CANARY_AUTH=" + canaries["auth"]}, s.env...)
	for _, name := range []string{"flag", "login", "push", "local"} {
		give(name)
	}
	auth := registry + "=publisher:$CANARY_AUTH"
	if c.argv {
		auth = registry + "=publisher:" + canaries["auth"]
	}
	args = append(args, "--registry-auth", auth)
	files := map[string]string{}
	quoted := func(name string) string {
		text, err := json.Marshal(canaries[name])
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if c.template == "packer.json" {
		files["prod.json"] = `{"file": ` + quoted("json") + `}`
	} else {
		s.env = append(s.env, "IMGBAKE_VAR_plain="+canaries["plain"], "PKR_VAR_pkr="+canaries["pkr"], "CANARY_DECLARED="+canaries["declared"])
		files["prod.yaml"] = "yaml: " + quoted("yaml") + "\n"
		files["prod.json"] = `{"json": ` + quoted("json") + `}`
		files["prod.hcl"] = "hcl = " + strings.ReplaceAll(quoted("hcl"), "%{", "%%{") + "\n"
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-var-file", name)
	}
	return args
}

// image looks at what was made, as the engine and the registry have it.
func (c canaryRun) image(t *testing.T, s site, registry string, r record) {
	t.Helper()
	seen := 0
	for _, b := range r.Bakes {
		for _, a := range b.Artifacts {
			for _, what := range []string{"json", "history"} {
				var text string
				if err := api(t.Context(), s.host, http.MethodGet, "/images/"+a.EngineID+"/"+what, nil, &text); err != nil {
					t.Error(err)
				}
				clean(t, "image "+what, []byte(text))
			}
			seen++
		}
	}
	if seen == 0 {
		t.Error("no image was made")
	}
	for _, repository := range []string{c.name, c.name + "-tagged"} {
		if c.template == "packer.json" && repository != c.name {
			continue // there, docker-tag names the repository itself
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+registry+"/v2/"+repository+"/manifests/latest", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("puller", canaries["login"])
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %v", repository, resp.Status, err)
		}
		clean(t, "manifest of "+repository, data)
	}
}

// guardedRegistry serves one registry twice: open, and for three users only.
// Who signed in is in users.
func guardedRegistry(t *testing.T) (open, closed, blobs string, users *sync.Map) {
	t.Helper()
	passwords := map[string]string{"puller": canaries["login"], "pusher": canaries["push"], "publisher": canaries["auth"]}
	users = &sync.Map{}
	blobs = t.TempDir()
	registry := newRegistry(blobs)
	guard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if password == "" || passwords[user] != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="canary"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		users.Store(user, true)
		registry.ServeHTTP(w, r)
	})
	var hosts []string
	for _, h := range []http.Handler{registry, guard} {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		hosts = append(hosts, server.Listener.Addr().String())
	}
	return hosts[0], hosts[1], blobs, users
}

// filesBelow is every file there is, with its time.
func filesBelow(t *testing.T, dirs ...string) map[string]time.Time {
	t.Helper()
	all := map[string]time.Time{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // removed meanwhile
			}
			all[p] = info.ModTime()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// searchFiles searches all files but those that were there before, unpacked
// where they are compressed.
func searchFiles(t *testing.T, before map[string]time.Time, dirs ...string) {
	t.Helper()
	for file, at := range filesBelow(t, dirs...) {
		if was, ok := before[file]; ok && was.Equal(at) {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		clean(t, file, data)
		if plain := unpack(t, data); plain != nil {
			clean(t, file+", unpacked", plain)
		}
	}
}
