package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// The bake of six steps, of which the last reads a file that changes. The
// others take a second each, and the last half of one, all of it asleep.
const stepCount = 6

func stepsPacker() string {
	var steps []string
	for i := 1; i < stepCount-1; i++ {
		steps = append(steps, fmt.Sprintf(`{"type": "shell", "inline": ["sleep 1; echo %d > /srv/step-%d"]}`, i, i))
	}
	steps = append(steps, `{"type": "file", "source": "hello.txt", "destination": "/srv/hello.txt"}`,
		`{"type": "shell", "inline": ["sleep 0.5; wc -c /srv/hello.txt > /srv/size"]}`)
	return `{
  "builders": [{"type": "docker", "image": "` + baseImage + `", "pull": false, "commit": true}],
  "provisioners": [` + strings.Join(steps, ",\n    ") + `],
  "post-processors": [{"type": "docker-tag", "repository": "localhost/bench/steps-packer", "tags": ["latest"]}]
}
`
}

func stepsImgbake() string {
	var steps strings.Builder
	for i := 1; i < stepCount-1; i++ {
		fmt.Fprintf(&steps, "      - shell: { inline: [sleep 1; echo %d > /srv/step-%d] }\n", i, i)
	}
	return `variables:
  name: { type: string }

images:
  steps:
    builders:
      docker: { image: ` + baseImage + `, pull: missing }
    provisioners:
` + steps.String() + `      - file: { source: hello.txt, destination: /srv/hello.txt }
      - shell: { inline: [sleep 0.5; wc -c /srv/hello.txt > /srv/size] }
    post_processors:
      - docker-tag: { repository: "${var.name}" }
`
}

func stepsDockerfile() string {
	var steps strings.Builder
	for i := 1; i < stepCount-1; i++ {
		fmt.Fprintf(&steps, "RUN sleep 1; echo %d > /srv/step-%d\n", i, i)
	}
	return "FROM " + baseImage + "\n" + steps.String() + "COPY hello.txt /srv/hello.txt\nRUN sleep 0.5; wc -c /srv/hello.txt > /srv/size\n"
}

// lastStep is W3.
func lastStep(h host, o options) workload {
	b := helloBench{h.in(filepath.Join(o.Work, "steps")), o}
	bakers := append(b.imgbakes("steps", func(image string) []string { return []string{"-var", "name=" + image, "imgbake.yaml"} }),
		baker{"packer", "", nil, []string{"packer", "build", "-color=false", "steps.json"}})
	w := workload{
		ID: "W3", Title: "six steps, the last one changed",
		Note: "Four steps of a second each, then a file that is another one each time and a step of half a second that reads it; the seconds are spent asleep. " +
			"packer has no cache and does it all again.",
		Metrics: []metric{{"time", "s"}},
		Goals: []goal{
			{Metric: "time", Against: "docker build (BuildKit)", Limit: 0.8},
			{Metric: "time", Against: "packer", Limit: 0.10},
		},
		Setup: func(ctx context.Context) error {
			if err := b.write(b.dir, map[string]string{
				"hello.txt": "hello\n", "steps.json": stepsPacker(), "imgbake.yaml": stepsImgbake(), "Dockerfile": stepsDockerfile(),
			}); err != nil {
				return err
			}
			return b.base(ctx, b.host)
		},
	}
	for _, k := range append(bakers, builders("steps", true)...) {
		w.Cells = append(w.Cells, cell{
			Tool:   k.tool,
			Before: func(_ context.Context, run int) error { return b.change(k.tool, run) },
			Run:    func(ctx context.Context) (sample, error) { return seconds(ctx, b.with(k.env...), k.args...) },
		})
	}
	return w
}
