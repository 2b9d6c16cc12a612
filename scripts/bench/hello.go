package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The images the workloads start from. The engine and buildah's store have
// both before anything is measured, and the registry has Debian.
const (
	baseImage = "REGISTRY/bench/base"  // Debian; write puts the registry in
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
	helloImgbake = `variables:
  name: { type: string }

images:
  hello:
    builders:
      docker: { image: ` + baseImage + `, pull: missing }
    provisioners:
      - file: { source: hello.txt, destination: /srv/hello.txt }
      - shell: { inline: [wc -c /srv/hello.txt > /srv/size] }
    config:
      env: { LANG: C.UTF-8 }
      labels: { bench: hello }
      entrypoint: [cat]
      cmd: [/srv/hello.txt]
    post_processors:
      - docker-tag: { repository: "${var.name}" }
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
	options
}

// baker is one tool's bake.
type baker struct {
	tool, image string // image: what the engine has then; "": nothing
	env         []string
	args        []string
}

func newHello(h host, o options) helloBench {
	return helloBench{h.in(filepath.Join(o.Work, "hello")), o}
}

// bakers are the tools; buildah has no cache unless it is told to, and imgbake
// has one for its own templates only.
func (b helloBench) bakers(cache bool) []baker {
	template := map[bool]string{false: "hello.json", true: "imgbake.yaml"}[cache]
	bakers := b.imgbakes("hello", func(image string) []string { return []string{"-var", "name=" + image, template} })
	if !cache {
		bakers = append(bakers, b.imgbakes("hello-yaml", func(image string) []string { return []string{"-var", "name=" + image, "imgbake.yaml"} })[0])
		bakers[len(bakers)-1].tool = "imgbake, own template"
	}
	return append(bakers, baker{"packer", "localhost/bench/hello-packer", nil,
		[]string{"packer", "build", "-color=false", "hello.json"}})
}

// imgbakes are the ways of imgbake to bake: the first is the subject.
func (o options) imgbakes(name string, args func(image string) []string) []baker {
	build := func(flags ...string) []string { return append([]string{o.Imgbake, "build"}, flags...) }
	image := "localhost/bench/" + name + "-imgbake"
	if !o.Engines {
		return []baker{{subject, image, nil, append(build(), args(image)...)}}
	}
	loaded, docker := image+"-loaded", image+"-docker"
	return []baker{
		{subject, "", nil, append(build("--engine", "oci", "-load=false"), args(image)...)},
		{"imgbake, loaded", loaded, nil, append(build("--engine", "oci", "-load"), args(loaded)...)},
		{"imgbake, Docker Engine", docker, nil, append(build("--engine", "docker"), args(docker)...)},
	}
}

// builders are the tools that build the Dockerfile of a folder. buildah has no
// cache unless it is told to.
func builders(name string, cache bool) []baker {
	image := "localhost/bench/" + name
	build := func(image string) []string { return []string{"docker", "build", "-q", "-t", image, "."} }
	return []baker{
		{"docker build (classic)", image + "-classic", []string{"DOCKER_BUILDKIT=0"}, build(image + "-classic")},
		{"docker build (BuildKit)", image + "-buildkit", []string{"DOCKER_BUILDKIT=1"}, build(image + "-buildkit")},
		{"buildah", "", nil,
			[]string{"buildah", "bud", "-q", fmt.Sprintf("--layers=%t", cache), "-t", image + "-buildah", "."}},
	}
}

// setup writes the templates and makes the base images, unless they are there.
func (b helloBench) setup(ctx context.Context) error {
	if err := b.write(b.dir, map[string]string{
		"hello.txt": "hello\n", "hello.json": helloPacker, "imgbake.yaml": helloImgbake, "Dockerfile": helloDockerfile,
	}); err != nil {
		return err
	}
	if err := b.base(ctx, b.host); err != nil || !b.Engines {
		return err
	}
	// The template of packer pulls nothing: the base has to be there without an engine, too.
	return b.all(ctx, []string{b.Imgbake, "build", "--engine", "oci", "-load=false", "-var", "name=localhost/bench/prime", "imgbake.yaml"})
}

// base brings Debian everywhere.
func (o options) base(ctx context.Context, h host) error {
	image := strings.ReplaceAll(baseImage, "REGISTRY", o.Registry)
	if err := bring(ctx, h, o.Rootfs, image); err != nil {
		return err
	}
	return h.all(ctx, []string{"docker", "push", "-q", image})
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

// write makes files below a folder. It fills in what the registry is called.
func (o options) write(dir string, files map[string]string) error {
	for name, text := range files {
		text = strings.ReplaceAll(text, "REGISTRY", o.Registry)
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
	return b.write(b.dir, map[string]string{"hello.txt": fmt.Sprintf("%-40s\n", fmt.Sprintf("run %d of %s", run, tool))})
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

// cells are the bakers' as they are measured; run says what for.
func (b helloBench) cells(bakers []baker, fresh bool) []cell {
	var cells []cell
	for _, k := range bakers {
		c := cell{Tool: k.tool, Run: func(ctx context.Context) (sample, error) { return seconds(ctx, b.with(k.env...), k.args...) }}
		if fresh {
			c.Before = func(_ context.Context, run int) error { return b.change(k.tool, run) }
			if k.image != "" {
				c.Check = func(ctx context.Context) error { return b.check(ctx, k.image) }
				c.After = func(ctx context.Context) error { return b.all(ctx, []string{"docker", "rmi", k.image}) }
			}
		}
		cells = append(cells, c)
	}
	return cells
}

// hello is W1.
func hello(h host, o options) workload {
	b := newHello(h, o)
	return workload{
		ID: "W1", Title: "hello bake",
		Note: "One file copied, one shell step through a real exec, image configuration; the container is removed and the image is in the tool's store under its tag. " +
			"The base is there; the file is another one each time, so that nothing can be taken from a cache. " +
			"imgbake gets the very template that packer gets: without a Docker Engine, without one but with the image loaded into it, and with one.",
		Metrics: []metric{{"time", "s"}},
		Goals: []goal{
			{Metric: "time", Against: "packer", Limit: 0.15},
			{Metric: "time", Against: "docker build (BuildKit)", Limit: 0.6},
		},
		Setup: b.setup,
		Cells: b.cells(append(b.bakers(false), builders("hello", false)...), true),
	}
}

// unchanged is W2.
func unchanged(h host, o options) workload {
	b := newHello(h, o)
	return workload{
		ID: "W2", Title: "nothing changed",
		Note:    "The hello bake again, with nothing changed since the run before; imgbake's is its own template. packer has no cache and does it all again.",
		Metrics: []metric{{"time", "s"}},
		Goals: []goal{
			{Metric: "time", Against: "docker build (BuildKit)", Limit: 0.5},
			{Metric: "time", Against: "docker build (classic)", Limit: 0.5},
			{Metric: "time", Against: "packer", Limit: 0.03},
		},
		Setup: b.setup,
		Cells: b.cells(append(b.bakers(true), builders("hello", true)...), false),
	}
}

// helloProcesses counts what W1 starts.
func helloProcesses(h host, o options) workload {
	b := newHello(h, o)
	w := workload{
		ID: "W1p", Title: "programs started by one hello bake",
		Note:    "Successful execve calls below the tool, as strace counts them; what an engine starts is not in it, what imgbake starts without one is.",
		Metrics: []metric{{"programs", ""}},
		Once:    true,
		Setup:   b.setup,
	}
	for _, k := range append(b.bakers(false), builders("hello", false)...) {
		w.Cells = append(w.Cells, cell{Tool: k.tool, Run: func(ctx context.Context) (sample, error) {
			n, err := b.with(k.env...).processes(ctx, k.args...)
			return sample{"programs": n}, err
		}})
	}
	return w
}
