package comment

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func hex(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func source(commit string) Source {
	return Source{
		Repository: "acme/shop", RepositoryURL: "https://github.com/acme/shop",
		Commit: commit, CommitURL: "https://github.com/acme/shop/commit/" + commit,
		Run: "Preview #42", RunURL: "https://github.com/acme/shop/actions/runs/17000000042",
		Template: "imgbake.yaml", TemplateURL: "https://github.com/acme/shop/blob/" + commit + "/imgbake.yaml", TemplateDigest: hex("7"),
		Variables: []Variable{{"suite", "trixie", "workflow input"}, {"version", "pr-7", "environment"}},
		Secrets:   []string{"api_key"}, Tool: "imgbake 1.0.0",
	}
}

// preview is a pull request's images, all well.
func preview(leg, platform string, run int64) Section {
	commit := strings.Repeat("a1b2c3d4e5", 4)
	name := func(n string) string { return "ghcr.io/acme/" + n }
	return Section{Leg: leg, Run: run, Attempt: 1, Data: Data{
		Source: source(commit),
		Images: []Image{
			{Name: "web", Builder: "docker", Platform: platform, Status: Done,
				Tags:   []string{name("web:pr-7"), name("web:pr-7-a1b2c3d")},
				Digest: hex("c"), Size: 45_120_000, Before: &Before{"main", hex("d"), 47_400_000, false},
				Base: "debian:trixie-slim", BaseDigest: hex("b"), Steps: 7, Cached: 5, Seconds: 12.31,
				Run:    "docker run --rm -p 8080:8080 " + name("web@"+hex("c")),
				Verify: "docker pull " + name("web@"+hex("c")),
				Packages: &Packages{Total: 112, Against: "main", Changes: []Package{
					{"libssl3t64", "3.5.1-1", "3.5.4-1~deb13u1"}, {"nginx", "1.26.3-3", "1.26.3-3+deb13u1"},
					{"tzdata", "", "2026a-0+deb13u1"}, {"curl", "8.14.1-2", ""}}}},
			{Name: "worker", Builder: "docker", Platform: platform, Status: Done,
				Tags: []string{name("worker:pr-7")}, Digest: hex("e"), Size: 88_000_000, Before: &Before{"main", hex("f"), 61_500_000, false},
				Base: "debian:trixie-slim", BaseDigest: hex("b"), Steps: 4, Cached: 0, Seconds: 83.5,
				Run: "docker run --rm " + name("worker@"+hex("e")), Packages: &Packages{Total: 131, Against: "main"}},
		},
		Stages: []Stage{
			{"base", []string{"debian:trixie-slim"}, Cached, 0.2}, {"runtime", []string{"base"}, Cached, 0.4},
			{"web", []string{"runtime", "assets"}, Done, 12.31}, {"worker", []string{"runtime"}, Done, 83.5},
			{"assets", []string{"node:24"}, Done, 31.07},
		},
	}}
}

func failed() Section {
	s := preview("linux/arm64", "linux/arm64", 42)
	s.Data.Images[0] = Image{Name: "web", Platform: "linux/arm64", Status: Failed, Steps: 7, Cached: 2, Seconds: 4.2,
		Reason: "step 3 shell: exit status 100",
		Output: []string{"Reading package lists...", "Building 10%\rBuilding dependency tree...\r", "\x1b[1;31mE:\x1b[0m Unable to locate package libfoo"}}
	s.Data.Images[1] = Image{Name: "worker", Platform: "linux/arm64", Status: Skipped, Reason: "needs the secret api_key, which forks do not get"}
	s.Data.Problems = []Problem{
		{Place: "imgbake.yaml:27", URL: "https://github.com/acme/shop/blob/a1b2/imgbake.yaml#L27",
			Text: "apt-get install: exit status 100", Hint: "see the log of the job"},
		{Warning: true, Place: "imgbake.yaml:4", Text: `base image "debian:trixie-slim" is named by a tag`, Hint: "imgbake lock writes its digest"},
	}
	s.Data.Source.Capabilities = []string{"commands of shell-local (web.docker)", "privileged (web.docker)"}
	return s
}

func closed() Section {
	return Section{Leg: "previews", Run: 43, Data: Data{Source: source(strings.Repeat("f", 40)), Closed: &Closed{Merged: true,
		Deleted: []string{"ghcr.io/acme/web:pr-7", "ghcr.io/acme/web:pr-7-a1b2c3d"},
		Left:    []Left{{"ghcr.io/acme/worker:pr-7", "token may not delete: the repository needs the role Admin on the package"}}}}}
}

var goldens = map[string][]Section{
	"preview":  {preview("amd64", "linux/amd64", 42)},
	"matrix":   {preview("linux/amd64", "linux/amd64", 42), failed(), {Leg: "linux/riscv64", Run: 30, Data: oldData()}},
	"closed":   {preview("amd64", "linux/amd64", 42), closed()},
	"reopened": {closed(), preview("amd64", "linux/amd64", 44)},
	"empty":    nil,
	"example":  {example()},
}

// example is the comment that the documentation shows.
func example() Section {
	const commit = "3f9a1c27d4e8b0516a7c92de4f80b3a6c1d5e972"
	web, worker := "ghcr.io/acme/web", "ghcr.io/acme/worker"
	webDigest, workerDigest := "sha256:8c1f0e5a9b7d43621fd09a3c5be8274610e9d7c2a4f6b8130d5e7f92a1c3b548", "sha256:27ab94c0d1e5f36872409bd8ce1f5a63907d4e2b8c6f10a395d7e841b2f06c9d"
	base := "sha256:b1d8c3a70f9e2645387cda160b5ef4928d71e3ac5096f2b84d7e1a3c60f59b82"
	s := Section{Leg: "bake", Run: 42, Data: Data{
		Source: source(commit),
		Images: []Image{
			{Name: "web", Builder: "docker", Platform: "linux/amd64", Status: Done, Tags: []string{web + ":pr-7", web + ":pr-7-3f9a1c2"},
				Digest: webDigest, Size: 45_120_000, Before: &Before{"main", "sha256:d04b6e2f81c7a95310fe8d4b29c6a7e5130b8f9d2c4e6a71f5308b9ed7c2a146", 47_400_000, false},
				Base: "debian:trixie-slim", BaseDigest: base, Steps: 4, Cached: 2, Seconds: 12.31,
				Run: "docker run --rm -p 8080:8080 " + web + "@" + webDigest, Verify: "docker pull " + web + "@" + webDigest,
				Packages: &Packages{Total: 112, Against: "main", Changes: []Package{
					{"libssl3t64", "3.5.1-1", "3.5.4-1~deb13u1"}, {"nginx", "1.26.3-3", "1.26.3-3+deb13u1"},
					{"tzdata", "", "2026a-0+deb13u1"}, {"curl", "8.14.1-2", ""}}}},
			{Name: "worker", Builder: "docker", Platform: "linux/amd64", Status: Done, Tags: []string{worker + ":pr-7", worker + ":pr-7-3f9a1c2"},
				Digest: workerDigest, Size: 61_500_000, Before: &Before{"main", "sha256:5e90c7d1a2b84f6303d8b26ef1794ac05b3e8d92c71f60a4d58be3970c62f1a8", 61_500_000, true},
				Base: "debian:trixie-slim", BaseDigest: base, Steps: 3, Cached: 3, Seconds: 0.42,
				Run: "docker run --rm " + worker + "@" + workerDigest, Packages: &Packages{Against: "main"}},
		},
		Stages: []Stage{
			{"base", []string{"debian:trixie-slim"}, Cached, 0.2}, {"runtime", []string{"base"}, Cached, 0.4},
			{"web", []string{"runtime", "assets"}, Done, 12.31}, {"worker", []string{"runtime"}, Cached, 0.42},
			{"assets", []string{"node:24"}, Done, 31.07},
		},
	}}
	s.Data.Source.Variables = []Variable{{"version", "pr-7", "workflow input"}}
	s.Data.Source.Secrets = []string{"npm_token"}
	s.Data.Source.TemplateDigest = "sha256:e07b5d1f94c2a8360bd7e1c5f2894a06d3b8e7f1c5920a4d6b83f70e1d5c92a4"
	return s
}

func oldData() Data {
	d := preview("", "linux/riscv64", 30).Data
	d.Source.Commit = strings.Repeat("9", 40)
	return d
}

func TestGolden(t *testing.T) {
	for name, sections := range goldens {
		check(t, name, Comment(sections, MaxComment))
	}
	check(t, "summary", Summary(failed().Data))
}

func check(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".md")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// The text depends on the sections and not on their order.
func TestCommentIsOfASet(t *testing.T) {
	s := goldens["matrix"]
	a, b := Comment(s, MaxComment), Comment([]Section{s[2], s[1], s[0]}, MaxComment)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

// What does not fit is dropped in the order in which it is missed least.
func TestCommentFits(t *testing.T) {
	s := goldens["matrix"]
	for i := range 400 {
		p := s[0].Data.Images[0].Packages
		p.Changes = append(p.Changes, Package{"lib" + strings.Repeat("x", i%20), "1.0", "1.1"})
	}
	full := len(Comment(s, 1<<20))
	parts := []string{"libxxxxxxxxxxxx`", "```mermaid", "From earlier commits", "ghcr.io/acme/web:pr-7-a1b2c3d", "docker run", "exit status 100", "worker", "baked"}
	dropped := 0
	for room := full; room > 0; room -= 37 {
		got := Comment(s, room)
		if len(got) > room {
			t.Fatalf("%d bytes in a room of %d", len(got), room)
		}
		for dropped < len(parts) && !strings.Contains(got, parts[dropped]) {
			dropped++
		}
		for _, kept := range parts[dropped:] {
			if room > 500 && !strings.Contains(got, kept) {
				t.Fatalf("in %d bytes %q is gone before %q", room, kept, parts[dropped])
			}
		}
	}
}

func TestLargestComment(t *testing.T) {
	var all []Section
	for i := range 256 {
		s := failed()
		s.Leg = strings.Repeat("leg", i)
		all = append(all, s)
	}
	got := Comment(all, MaxComment)
	if len(got) > MaxComment || !strings.Contains(got, "256 failed, 256 skipped") || !strings.Contains(got, "| ❌ |") {
		t.Errorf("%d bytes: %.300s", len(got), got)
	}
	d := failed().Data
	for range 30_000 {
		d.Images = append(d.Images, d.Images[0])
	}
	if n := len(Summary(d)); n > 1<<20 {
		t.Errorf("summary of %d bytes", n)
	}
}

func TestTrim(t *testing.T) {
	d := preview("a", "linux/amd64", 1).Data
	for range 1000 {
		d.Images[0].Packages.Changes = append(d.Images[0].Packages.Changes, Package{Name: "x", New: "1"})
		d.Problems = append(d.Problems, Problem{Text: strings.Repeat("é", 5000)})
	}
	got := d.Trim()
	p := got.Images[0].Packages
	if len(p.Changes) != maxPackages || p.More != 1004-maxPackages || len(got.Problems) != maxList || len([]rune(got.Problems[0].Text)) != maxText {
		t.Errorf("%d changes and %d more, %d problems", len(p.Changes), p.More, len(got.Problems))
	}
	out := Data{Images: []Image{{Output: append(make([]string, 30), strings.Repeat("é", 500))}}}.Trim().Images[0].Output
	if len(out) != maxOutput || len([]rune(out[maxOutput-1])) != maxLine {
		t.Errorf("%d lines of output, the last one %q", len(out), out[len(out)-1])
	}
	if len(d.Images[0].Packages.Changes) != 1004 || len(d.Problems[0].Text) != 10_000 {
		t.Error("Trim changed what it was given")
	}
}

// page is Markdown as GitHub's readers see it.
func page(t testing.TB, markdown string) string {
	t.Helper()
	var b bytes.Buffer
	m := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := m.Convert([]byte(markdown), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
