package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What a push gives: to an empty registry, once more, to another repository of
// the registry in the same run or a later one, and from the source files on.
const (
	cold    = "cold"
	again   = "again"
	mounted = "mounted"
	later   = "mounted by a later run"
	whole   = "files to manifest"
)

const pushImage = "localhost/bench/push"

const (
	pushBase = `variables:
  registry: { type: string }
  compression: { default: gzip }

images:
  push:
    compression: "${var.compression}"
    builders:
      docker: { rootfs: tiny.tar }
    provisioners:
      - file: { source: a/, destination: /srv/a }
      - file: { source: b/, destination: /srv/b }
      - file: { source: c/, destination: /srv/c }
`
	// coldImgbake pushes once.
	coldImgbake = pushBase + `    publish:
      - { repository: "${var.registry}/imgbake", tags: [latest] }
`
	// againImgbake pushes the same image there, and to another repository, each
	// for itself.
	againImgbake = pushBase + `    post_processors:
      - [docker-tag: { repository: "${var.registry}/imgbake" }, docker-push: { name: push }]
      - [docker-tag: { repository: "${var.registry}/imgbake-other" }, docker-push: { name: other }]
`
	// warmImgbake makes imgbake know the base, as the other tools do.
	warmImgbake = `images:
  warm:
    builders:
      docker: { rootfs: tiny.tar }
    provisioners:
      - file: { content: warm, destination: /srv/warm }
`
	pushDockerfile = `FROM ` + tinyImage + `
COPY a /srv/a
COPY b /srv/b
COPY c /srv/c
`
)

// pushBench pushes an image of three layers.
type pushBench struct {
	host
	options
	registry    string // as its clients call it
	compression string // of imgbake's layers
}

func newPushBench(h host, o options) pushBench {
	return pushBench{h.in(filepath.Join(o.Work, "push")), o, o.Registry, "gzip"}
}

// setup makes the image's files, and the image in every tool's own store, with
// layers that are not compressed.
func (b pushBench) setup(ctx context.Context) error {
	if _, err := os.Stat(b.layout()); err == nil {
		return nil
	}
	tiny := filepath.Join(b.dir, "tiny.tar")
	err := errors.Join(
		b.write(b.dir, map[string]string{"Dockerfile": pushDockerfile, "cold.yaml": coldImgbake, "again.yaml": againImgbake, "warm.yaml": warmImgbake}),
		layers(b.dir, b.Rootfs), writeTiny(tiny))
	if err != nil {
		return err
	}
	if err := bring(ctx, b.host, tiny, tinyImage); err != nil {
		return err
	}
	return b.with("DOCKER_BUILDKIT=1").all(ctx,
		[]string{"docker", "build", "-q", "-t", pushImage, "."},
		copyFromEngine(pushImage, "dir:"+b.layout()),
		copyFromEngine(pushImage, "containers-storage:"+pushImage+":latest"),
	)
}

// layout is skopeo's folder with the image.
func (b pushBench) layout() string { return filepath.Join(b.dir, "..", "layout") }

// reset empties the registry, and what buildah and skopeo remember of it.
func (b pushBench) reset(_ context.Context, _ int) error {
	return errors.Join(os.RemoveAll(filepath.Join(b.Storage, "docker")), os.RemoveAll("/var/lib/containers/cache"))
}

// pusher is a tool whose push is a command.
type pusher struct {
	tool  string
	env   []string
	build []string                     // from the files to the tool's store; nil: it builds nothing
	push  func(name string) [][]string // the last command is the push, what is before it is not measured
}

func (b pushBench) pushers() []pusher {
	tagAndPush := func(name string) [][]string {
		return [][]string{{"docker", "tag", pushImage, name}, {"docker", "push", "-q", name}}
	}
	return []pusher{
		{"docker push", []string{"DOCKER_BUILDKIT=1"},
			[]string{"docker", "build", "-q", "--no-cache", "-t", pushImage, "."}, tagAndPush},
		{"buildah push", nil,
			[]string{"buildah", "bud", "-q", "--layers", "--no-cache", "-t", pushImage, "."},
			func(name string) [][]string {
				return [][]string{{"buildah", "push", "-q", "--tls-verify=false", pushImage, "docker://" + name}}
			}},
		{"skopeo copy", nil, nil, func(name string) [][]string {
			return [][]string{{"skopeo", "copy", "-q", "--dest-tls-verify=false", "dir:" + b.layout(), "docker://" + name}}
		}},
	}
}

// pushed runs the commands of a push and measures the last.
func (b pushBench) pushed(ctx context.Context, commands [][]string) (time.Duration, error) {
	last := len(commands) - 1
	if err := b.all(ctx, commands[:last]...); err != nil {
		return 0, err
	}
	u, err := b.run(ctx, commands[last]...)
	return u.Wall, err
}

// pushes are the three pushes of a tool, to be told apart by the repository.
func (b pushBench) pushes(p pusher) []struct{ metric, name string } {
	repository := b.registry + "/" + strings.ReplaceAll(p.tool, " ", "-")
	return []struct{ metric, name string }{
		{cold, repository + ":latest"}, {again, repository + ":latest"}, {mounted, repository + "-other:latest"},
	}
}

// peer measures one of the other tools.
func (b pushBench) peer(ctx context.Context, p pusher) (sample, error) {
	s := sample{}
	for _, one := range b.pushes(p) {
		took, err := b.pushed(ctx, p.push(one.name))
		if err != nil {
			return nil, err
		}
		s[one.metric] = took.Seconds()
	}
	s[later] = s[mounted]
	if p.build == nil {
		return s, nil
	}
	if err := b.reset(ctx, 0); err != nil {
		return nil, err
	}
	built, err := b.with(p.env...).run(ctx, p.build...)
	if err != nil {
		return nil, err
	}
	took, err := b.pushed(ctx, p.push(b.pushes(p)[0].name))
	s[whole] = built.Wall.Seconds() + took.Seconds()
	return s, err
}

// build is the command of a bake without a Docker Engine, or with one where
// imgbake cannot do without.
func (b pushBench) build(args ...string) []string {
	flags := []string{b.Imgbake, "build", "-load=false"}
	if b.Engines {
		flags = append(flags, "--engine", "oci")
	}
	return append(flags, args...)
}

// bake runs one of imgbake's templates with repositories below a name, and
// returns its events.
func (b pushBench) bake(ctx context.Context, template, below string) (usage, events, error) {
	u, err := b.run(ctx, b.build("--json", "-var", "registry="+below, "-var", "compression="+b.compression, template)...)
	if err != nil {
		return u, nil, err
	}
	text, err := os.ReadFile(b.log)
	if err != nil {
		return u, nil, err
	}
	e, err := parseEvents(string(text))
	return u, e, err
}

// once measures imgbake's first push.
func (b pushBench) once(ctx context.Context) (sample, error) {
	_, e, err := b.bake(ctx, "cold.yaml", b.registry)
	if err != nil {
		return nil, err
	}
	took, err := e.fromSteps()
	return sample{cold: took}, err
}

// ours measures imgbake, whose push is part of a bake.
func (b pushBench) ours(ctx context.Context) (sample, error) {
	u, first, err := b.bake(ctx, "cold.yaml", b.registry)
	if err != nil {
		return nil, err
	}
	_, second, err := b.bake(ctx, "again.yaml", b.registry)
	if err != nil {
		return nil, err
	}
	_, third, err := b.bake(ctx, "again.yaml", b.registry+"/later")
	if err != nil {
		return nil, err
	}
	s, errs := sample{}, [5]error{}
	s[cold], errs[0] = first.fromSteps()
	s[again], errs[1] = second.post("push")
	s[mounted], errs[2] = second.post("other")
	s[later], errs[3] = third.post("push")
	end, err := first.published("")
	s[whole], errs[4] = end.Sub(u.Started).Seconds(), err
	return s, errors.Join(errs[:]...)
}

// fresh gives imgbake an empty cache that knows the base only, so that no
// layer is there before it is made.
func (b pushBench) fresh(ctx context.Context, run int) error {
	if err := errors.Join(b.reset(ctx, run), os.RemoveAll(b.cache())); err != nil {
		return err
	}
	_, err := b.run(ctx, b.build("warm.yaml")...)
	return err
}

func (b pushBench) cache() string { return filepath.Join(b.dir, "..", "push-cache") }

// push is W4.
func push(h host, o options) workload {
	b := newPushBench(h, o)
	b.host = b.with("IMGBAKE_CACHE_DIR=" + b.cache())
	w := workload{
		ID: "W4", Title: "push of 600 MB in 3 layers",
		Note: "cold: from changes that are not compressed to the last manifest, in an empty registry. For the peers: the push command, from layers that lie extracted " +
			"(docker, buildah) or as tars (skopeo) in their store. For imgbake, which compresses while it copies and sends what is done: from the start of the first step, " +
			"so copying the files into the image, which the peers have behind them, is in it. " +
			"again: the same push once more. mounted: to another repository of the registry, by the run that pushed again, and by a later run. " +
			"For imgbake these are from the start of the post-processor to its end, for the peers they are a command of its own, always a later one. " +
			"files to manifest: everything, building included (docker with BuildKit, buildah; no cache), from the source files to the manifest in an empty registry.",
		Metrics: []metric{{cold, "s"}, {again, "s"}, {mounted, "s"}, {later, "s"}, {whole, "s"}},
		Goals: []goal{
			{Metric: cold, Against: "docker push", Limit: 0.33},
			{Metric: cold, Against: "skopeo copy", Limit: 0.75},
			{Metric: again, Against: "docker push", Limit: 0.6},
		},
		Cold:  true,
		Setup: b.setup,
		Cells: []cell{{Tool: subject, Before: b.fresh, Run: b.ours}},
	}
	for _, p := range b.pushers() {
		w.Cells = append(w.Cells, cell{Tool: p.tool, Before: b.reset, Run: func(ctx context.Context) (sample, error) { return b.peer(ctx, p) }})
	}
	return w
}

// pushZstd is W4 with another compression: the first push only.
func pushZstd(h host, o options) workload {
	b := newPushBench(h, o)
	b.host, b.compression = b.with("IMGBAKE_CACHE_DIR="+b.cache()), "zstd"
	w := workload{
		ID: "W4z", Title: "push of 600 MB in 3 layers, by imgbake with zstd",
		Note:    "As W4 cold, but that the template says `compression: zstd`; the others compress as they do when nobody tells them.",
		Metrics: []metric{{cold, "s"}},
		Goals:   []goal{{Metric: cold, Against: "docker push", Limit: 0.33}, {Metric: cold, Against: "skopeo copy", Limit: 0.75}},
		Cold:    true,
		Setup:   b.setup,
		Cells:   []cell{{Tool: subject, Before: b.fresh, Run: b.once}},
	}
	for _, p := range b.pushers() {
		w.Cells = append(w.Cells, cell{Tool: p.tool, Before: b.reset, Run: func(ctx context.Context) (sample, error) {
			took, err := b.pushed(ctx, p.push(b.pushes(p)[0].name))
			return sample{cold: took.Seconds()}, err
		}})
	}
	return w
}

// pushBytes counts what W4 sends.
func pushBytes(h host, o options) workload {
	b := newPushBench(h, o)
	b.host = b.with("IMGBAKE_CACHE_DIR=" + b.cache())
	w := workload{
		ID: "W4b", Title: "bytes sent by these pushes",
		Note:    "Counted on the way to the registry, requests included; but for the first time imgbake pushes to two repositories. `gzip -6` is that program's output for the image's layers.",
		Metrics: []metric{{cold, "MB"}, {again, "MB"}, {later, "MB"}},
		Goals:   []goal{{Metric: cold, Against: "gzip -6", Limit: 1.05}},
		Once:    true,
		Setup:   b.setup,
	}
	zstd := b
	zstd.compression = "zstd"
	w.Cells = append(w.Cells, cell{Tool: subject, Before: b.fresh, Run: b.ourBytes}, cell{Tool: subject + ", zstd", Before: b.fresh, Run: zstd.ourBytes})
	for _, p := range b.pushers() {
		w.Cells = append(w.Cells, cell{Tool: p.tool, Before: b.reset, Run: func(ctx context.Context) (sample, error) { return b.peerBytes(ctx, p) }})
	}
	w.Cells = append(w.Cells, cell{Tool: "gzip -6", Run: b.gzip})
	return w
}

// counted is the bench with a counter before the registry.
func (b pushBench) counted() (pushBench, *counter, error) {
	c, err := newCounter(b.registry)
	if err == nil {
		b.registry = c.name()
	}
	return b, c, err
}

func (b pushBench) peerBytes(ctx context.Context, p pusher) (sample, error) {
	b, c, err := b.counted()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := sample{}
	for _, one := range b.pushes(p) {
		if _, err := b.pushed(ctx, p.push(one.name)); err != nil {
			return nil, err
		}
		s[one.metric] = c.megabytes()
	}
	s[later] = s[mounted]
	delete(s, mounted)
	return s, nil
}

// ourBytes counts all pushes of a bake in one, since the second adds little.
func (b pushBench) ourBytes(ctx context.Context) (sample, error) {
	b, c, err := b.counted()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := sample{}
	for _, one := range []struct{ metric, template, below string }{
		{cold, "cold.yaml", b.registry}, {again, "again.yaml", b.registry}, {later, "again.yaml", b.registry + "/later"},
	} {
		if _, _, err := b.bake(ctx, one.template, one.below); err != nil {
			return nil, err
		}
		s[one.metric] = c.megabytes()
	}
	return s, nil
}

// gzip compresses the layers of skopeo's copy, which are tars.
func (b pushBench) gzip(ctx context.Context) (sample, error) {
	text, err := os.ReadFile(filepath.Join(b.layout(), "manifest.json"))
	if err != nil {
		return nil, err
	}
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, err
	}
	total := 0.0
	for _, l := range manifest.Layers {
		_, file, _ := strings.Cut(l.Digest, ":")
		if _, err := b.in(b.layout()).run(ctx, "gzip", "-6", "-c", file); err != nil {
			return nil, err
		}
		info, err := os.Stat(b.log)
		if err != nil {
			return nil, err
		}
		total += float64(info.Size()) / 1e6
	}
	if total == 0 {
		return nil, fmt.Errorf("no layers in %s", b.layout())
	}
	return sample{cold: total}, nil
}
