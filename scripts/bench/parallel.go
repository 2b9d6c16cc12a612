package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// parallelCount is how many images are baked at a time. Each sleeps 4 s.
const parallelCount = 4

func parallelPacker() string {
	var builders []string
	for i := range parallelCount {
		builders = append(builders, fmt.Sprintf(`{"name": "p%d", "type": "docker", "image": "%s", "pull": false, "commit": true}`, i, baseImage))
	}
	return `{
  "builders": [` + strings.Join(builders, ",\n    ") + `],
  "provisioners": [
    {"type": "file", "source": "hello.txt", "destination": "/srv/hello.txt"},
    {"type": "shell", "inline": ["sleep 2; wc -c /srv/hello.txt > /srv/size"]},
    {"type": "shell", "inline": ["sleep 2; echo $PACKER_BUILD_NAME > /srv/name"]}
  ],
  "post-processors": [{"type": "docker-tag", "repository": "localhost/bench/parallel-packer", "tags": ["{{build_name}}"]}]
}
`
}

// parallelBake is buildx's file; the Dockerfile is one for all.
func parallelBake() string {
	var names []string
	var targets strings.Builder
	for i := range parallelCount {
		names = append(names, fmt.Sprintf("%q", fmt.Sprintf("p%d", i)))
		fmt.Fprintf(&targets, "target \"p%d\" {\n  args = { name = \"p%d\" }\n  tags = [\"localhost/bench/parallel-buildx:p%d\"]\n}\n", i, i, i)
	}
	return "group \"default\" { targets = [" + strings.Join(names, ", ") + "] }\n" + targets.String()
}

const parallelDockerfile = `FROM ` + baseImage + `
ARG name
RUN echo $name > /srv/name
COPY hello.txt /srv/hello.txt
RUN sleep 2; wc -c /srv/hello.txt > /srv/size
RUN sleep 2; echo $name > /srv/name
`

// parallel is W5.
func parallel(h host, o options) workload {
	b := helloBench{h.in(filepath.Join(o.Work, "parallel")), o}
	bakers := append(b.imgbakes("parallel", func(string) []string { return []string{"parallel.json"} }),
		baker{"packer", "", nil, []string{"packer", "build", "-color=false", "parallel.json"}},
		baker{"buildx bake", "", nil, []string{o.Buildx, "bake", "--progress=quiet", "-f", "docker-bake.hcl"}})
	w := workload{
		ID: "W5", Title: "four bakes in parallel",
		Note:    "Each copies a file and runs two steps of two seconds, spent asleep; the file is another one each time, so that nothing can be taken from a cache. imgbake gets packer's template.",
		Metrics: []metric{{"time", "s"}},
		Goals: []goal{
			{Metric: "time", Against: "buildx bake", Limit: 1},
			{Metric: "time", Against: "packer", Limit: 0.70},
		},
		Setup: func(ctx context.Context) error {
			if err := b.write(b.dir, map[string]string{
				"hello.txt": "hello\n", "parallel.json": parallelPacker(), "docker-bake.hcl": parallelBake(), "Dockerfile": parallelDockerfile,
			}); err != nil {
				return err
			}
			return b.base(ctx, b.host)
		},
	}
	for _, k := range bakers {
		w.Cells = append(w.Cells, cell{
			Tool:   k.tool,
			Before: func(_ context.Context, run int) error { return b.change(k.tool, run) },
			Run:    func(ctx context.Context) (sample, error) { return seconds(ctx, b.host, k.args...) },
		})
	}
	return w
}
