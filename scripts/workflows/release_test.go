package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// image is what a release names.
const image = "ghcr.io/imgbake/imgbake-action@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// repository is a clone with a commit on main, and what it was cloned from.
type repository struct {
	t              *testing.T
	dir, remote    string
	commitsOnMain  int
	releaseActions string // the script
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("IMGBAKE_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	script, err := filepath.Abs(root + "/scripts/release-action.sh")
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{t: t, dir: t.TempDir(), remote: t.TempDir(), releaseActions: script}
	r.git("init", "-q", "--bare", r.remote)
	r.git("init", "-q", "-b", "main")
	r.git("remote", "add", "origin", r.remote)
	r.commit(read(t, "action.yml"))
	return r
}

func (r *repository) command(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), name, args...)
	cmd.Dir = r.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		return told.String(), err
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	out, err := r.command("git", args...)
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", args, err, out)
	}
	return out
}

// commit makes one on main, with an action.yml and a workflow.
func (r *repository) commit(action string) {
	r.t.Helper()
	r.commitsOnMain++
	for name, text := range map[string]string{"action.yml": action, "main.go": strings.Repeat("// more\n", r.commitsOnMain), ".github/workflows/ci.yml": "x", ".github/other": "x"} {
		path := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.git("commit", "-qm", "main")
	r.git("push", "-q", "origin", "HEAD:main")
}

func (r *repository) release(version string) string {
	r.t.Helper()
	out, err := r.command(r.releaseActions, version, image)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", version, err, out)
	}
	return out
}

// at is the commit that a ref of the remote is at.
func (r *repository) at(ref string) string {
	sha, _, _ := strings.Cut(r.git("ls-remote", "origin", ref), "\t")
	return sha
}

func (r *repository) want(refs map[string]string) {
	r.t.Helper()
	for ref, want := range refs {
		if got := r.at(ref); got != want {
			r.t.Errorf("%s is %q, want %q", ref, got, want)
		}
	}
}

func TestReleaseAction(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	first := r.release("v1.2.3")
	r.want(map[string]string{"refs/heads/release": first, "refs/tags/v1.2.3": first, "refs/tags/v1": first})
	action := r.git("show", first+":action.yml")
	if want := strings.TrimSpace(strings.Replace(read(t, "action.yml"), "  image: Dockerfile\n", "  image: docker://"+image+"\n", 1)); action != want || !strings.Contains(action, image) {
		t.Errorf("action.yml:\n%s", action)
	}
	if got, want := r.git("ls-tree", "-r", "--name-only", first), ".github/other\naction.yml\nmain.go"; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	if got, main := r.git("rev-list", "--parents", "-n1", first), r.git("rev-parse", "HEAD"); got != first+" "+main {
		t.Errorf("parents %q, want %s", got, main)
	}
	if got := r.git("status", "--porcelain"); got != "" {
		t.Errorf("the working tree was changed: %s", got)
	}

	if again := r.release("v1.2.3"); again != first {
		t.Errorf("again: %s, want %s", again, first)
	}
	r.commit(read(t, "action.yml"))
	second := r.release("v1.3.0")
	r.want(map[string]string{"refs/heads/release": second, "refs/tags/v1.2.3": first, "refs/tags/v1.3.0": second, "refs/tags/v1": second})
	if got, main := r.git("rev-list", "--parents", "-n1", second), r.git("rev-parse", "HEAD"); got != second+" "+first+" "+main {
		t.Errorf("parents %q, want %s %s", got, first, main)
	}
}

// v1 goes forward only, and to no release candidate.
func TestReleaseActionMajorTag(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	tenth := r.release("v1.10.0")
	for _, version := range []string{"v1.9.1", "v1.11.0-rc.1", "v10.0.0", "v2.0.0"} {
		r.commit(read(t, "action.yml"))
		r.want(map[string]string{"refs/tags/v1": tenth, "refs/tags/v1.10.0": tenth})
		sha := r.release(version)
		r.want(map[string]string{"refs/tags/" + version: sha, "refs/tags/v1": tenth})
	}
	r.want(map[string]string{"refs/tags/v2": r.at("refs/tags/v2.0.0"), "refs/tags/v10": r.at("refs/tags/v10.0.0")})
}

func TestReleaseActionRefuses(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.release("v1.2.3")
	before := r.git("ls-remote", "origin")
	for name, test := range map[string]struct{ version, image, want string }{
		"no version":     {"1.2.4", image, "is not like v1.2.3"},
		"half a version": {"v1.2", image, "is not like v1.2.3"},
		"a script":       {"v1.2.4;true", image, "is not like v1.2.3"},
		"a tag":          {"v1.2.4", "ghcr.io/imgbake/imgbake-action:v1.2.4", "is not REPOSITORY@sha256"},
		"two lines":      {"v1.2.4", "x/y\n" + image, "is not REPOSITORY@sha256"},
		"another image":  {"v1.2.3", strings.Replace(image, "0", "f", 1), "is something else"},
	} {
		if out, err := r.command(r.releaseActions, test.version, test.image); err == nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: got %v, %q, want %q", name, err, out, test.want)
		}
	}
	r.commit("name: x\nruns:\n  using: docker\n  image: Containerfile\n")
	if out, err := r.command(r.releaseActions, "v1.2.4", image); err == nil || !strings.Contains(out, "has not the one line") {
		t.Errorf("another Dockerfile: got %v, %q", err, out)
	}
	after := r.git("ls-remote", "origin", "refs/tags/*", "refs/heads/release")
	for line := range strings.Lines(after) {
		if !strings.Contains(before, strings.TrimSpace(line)) {
			t.Errorf("%s was pushed", line)
		}
	}
}

// The page of a release has the line to pin, and the changes of that version only.
func TestReleaseNotes(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "scripts"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"scripts/release-notes.sh": read(t, "scripts/release-notes.sh"),
		"CHANGELOG.md":             "# Changelog\n\n## [1.2.30] - 2026-11-24\n\n- newest\n\n## [1.2.3] - 2026-11-23\n\n### Added\n\n- this\n\n## [1.2.2]\n\n- old\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "scripts/release-notes.sh"), "v1.2.3", "c0ffee", image).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"- uses: imgbake/imgbake-action@c0ffee # v1.2.3\n", "`" + image + "`", "### Added\n\n- this\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if text := string(out); strings.Contains(text, "newest") || strings.Contains(text, "old") {
		t.Errorf("changes of another version:\n%s", text)
	}
}
