package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The images the workloads start from. The engine and buildah's store have
// both before anything is measured.
const (
	baseImage = "localhost/bench/base" // Debian
	tinyImage = "localhost/bench/tiny" // one empty folder
)

// The hello bake, for each tool in its own words: one file, one shell step
// that reads it, and image configuration.
const (
	helloPacker = `{
  "variables": {"name": "localhost/bench/hello-packer"},
  "builders": [{
    "type": "docker", "image": "` + baseImage + `", "pull": false, "commit": true,
    "changes": ["ENV LANG=C.UTF-8", "LABEL bench=hello", "ENTRYPOINT [\"cat\"]", "CMD [\"/srv/hello.txt\"]"]
  }],
  "provisioners": [
    {"type": "file", "source": "hello.txt", "destination": "/srv/hello.txt"},
    {"type": "shell", "inline": ["wc -c /srv/hello.txt > /srv/size"]}
  ],
  "post-processors": [{"type": "docker-tag", "repository": "{{user ` + "`name`" + `}}", "tags": ["latest"]}]
}
`
	helloImgbake = `images:
  hello:
    builders:
      docker: { image: ` + baseImage + `, pull: false }
    provisioners:
      - file: { source: hello.txt, destination: /srv/hello.txt }
      - shell: { inline: [wc -c /srv/hello.txt > /srv/size] }
    config:
      env: { LANG: C.UTF-8 }
      labels: { bench: hello }
      entrypoint: [cat]
      cmd: [/srv/hello.txt]
    post_processors:
      - docker-tag: { repository: localhost/bench/hello-yaml }
`
	helloDockerfile = `FROM ` + baseImage + `
COPY hello.txt /srv/hello.txt
RUN wc -c /srv/hello.txt > /srv/size
ENV LANG=C.UTF-8
LABEL bench=hello
ENTRYPOINT ["cat"]
CMD ["/srv/hello.txt"]
`
)

// helloBench is what the hello workloads share.
type helloBench struct {
	host
	imgbake string
	rootfs  string
}

// baker is one tool's hello bake.
type baker struct {
	tool, image string
	env         []string
	args        []string
}

func newHello(h host, o options) helloBench {
	return helloBench{h.in(filepath.Join(o.Work, "hello")), o.Imgbake, o.Rootfs}
}

// bakers are the tools; buildah has no cache unless it is told to.
func (b helloBench) bakers(cache bool) []baker {
	build := func(image string) []string { return []string{"docker", "build", "-q", "-t", image, "."} }
	return []baker{
		{subject, "localhost/bench/hello-imgbake", nil,
			[]string{b.imgbake, "build", "-var", "name=localhost/bench/hello-imgbake", "hello.json"}},
		{"imgbake, own template", "localhost/bench/hello-yaml", nil,
			[]string{b.imgbake, "build", "imgbake.yaml"}},
		{"packer", "localhost/bench/hello-packer", nil,
			[]string{"packer", "build", "-color=false", "hello.json"}},
		{"docker build (classic)", "localhost/bench/hello-classic", []string{"DOCKER_BUILDKIT=0"}, build("localhost/bench/hello-classic")},
		{"docker build (BuildKit)", "localhost/bench/hello-buildkit", []string{"DOCKER_BUILDKIT=1"}, build("localhost/bench/hello-buildkit")},
		{"buildah", "", nil,
			[]string{"buildah", "bud", "-q", fmt.Sprintf("--layers=%t", cache), "-t", "localhost/bench/hello-buildah", "."}},
	}
}

// setup writes the templates and makes the base images, unless they are there.
func (b helloBench) setup(ctx context.Context) error {
	if err := write(b.dir, map[string]string{
		"hello.txt": "hello\n", "hello.json": helloPacker, "imgbake.yaml": helloImgbake, "Dockerfile": helloDockerfile,
	}); err != nil {
		return err
	}
	return bring(ctx, b.host, b.rootfs, baseImage)
}

// bring puts an image made of a tar into the engine and into buildah's store.
func bring(ctx context.Context, h host, tar, image string) error {
	if _, err := h.run(ctx, "docker", "image", "inspect", image); err == nil {
		return nil
	}
	return h.all(ctx,
		[]string{"docker", "import", "--change", "CMD [\"sh\"]", tar, image},
		copyFromEngine(image, "containers-storage:"+image+":latest"),
	)
}

// copyFromEngine is a command that copies an image of the engine elsewhere,
// with its layers as they are there.
func copyFromEngine(image, to string) []string {
	return []string{"sh", "-c", `exec skopeo copy -q --src-daemon-host "$DOCKER_HOST" "$1" "$2"`, "sh", "docker-daemon:" + image + ":latest", to}
}

// write makes files below a folder.
func write(dir string, files map[string]string) error {
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// change gives the file new content, of one length.
func (b helloBench) change(tool string, run int) error {
	return write(b.dir, map[string]string{"hello.txt": fmt.Sprintf("%-40s\n", fmt.Sprintf("run %d of %s", run, tool))})
}

// check runs the image: a bake that made another one is no measurement.
func (b helloBench) check(ctx context.Context, image string) error {
	want, err := os.ReadFile(filepath.Join(b.dir, "hello.txt"))
	if err != nil {
		return err
	}
	got, err := b.output(ctx, "docker", "run", "--rm", image)
	if err == nil && got != strings.TrimRight(string(want), "\n") {
		err = fmt.Errorf("%s prints %q, not %q", image, got, want)
	}
	return err
}

// seconds measures how long a command takes.
func seconds(ctx context.Context, h host, args ...string) (sample, error) {
	u, err := h.run(ctx, args...)
	return sample{"time": u.Wall.Seconds()}, err
}

// hello is W1.
func hello(h host, o options) workload {
	b := newHello(h, o)
	w := workload{
		ID: "W1", Title: "hello bake",
		Note: "One file copied, one shell step through a real exec, image configuration; the container is removed and the image is in the tool's store under its tag. " +
			"The base is there; the file is another one each time, so that nothing can be taken from a cache. " +
			"imgbake gets the very template that packer gets, and beside it one of its own (which makes two layers).",
		Metrics: []metric{{"time", "s"}},
		Goals:   []goal{{Metric: "time", Against: "packer", Limit: 0.75, Stretch: 0.5}},
		Setup:   b.setup,
	}
	for _, k := range b.bakers(false) {
		c := cell{
			Tool:   k.tool,
			Before: func(_ context.Context, run int) error { return b.change(k.tool, run) },
			Run:    func(ctx context.Context) (sample, error) { return seconds(ctx, b.with(k.env...), k.args...) },
		}
		if k.image != "" {
			c.Check = func(ctx context.Context) error { return b.check(ctx, k.image) }
			c.After = func(ctx context.Context) error { return b.all(ctx, []string{"docker", "rmi", k.image}) }
		}
		w.Cells = append(w.Cells, c)
	}
	return w
}

// unchanged is W2.
func unchanged(h host, o options) workload {
	b := newHello(h, o)
	w := workload{
		ID: "W2", Title: "nothing changed",
		Note: "The hello bake again, with nothing changed since the run before. " +
			"Neither imgbake nor packer has a cache of steps yet: both do it all again, and no goal is set.",
		Metrics: []metric{{"time", "s"}},
		Setup:   b.setup,
	}
	for _, k := range b.bakers(true) {
		w.Cells = append(w.Cells, cell{Tool: k.tool, Run: func(ctx context.Context) (sample, error) {
			return seconds(ctx, b.with(k.env...), k.args...)
		}})
	}
	return w
}

// helloProcesses counts what W1 starts.
func helloProcesses(h host, o options) workload {
	b := newHello(h, o)
	w := workload{
		ID: "W1p", Title: "programs started by one hello bake",
		Note:    "Successful execve calls below the tool, as strace counts them; what the engine starts is not in it.",
		Metrics: []metric{{"programs", ""}},
		Once:    true,
		Setup:   b.setup,
	}
	for _, k := range b.bakers(false) {
		w.Cells = append(w.Cells, cell{Tool: k.tool, Run: func(ctx context.Context) (sample, error) {
			n, err := b.with(k.env...).processes(ctx, k.args...)
			return sample{"programs": n}, err
		}})
	}
	return w
}
