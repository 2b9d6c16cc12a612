package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
)

// planBench plans a large Packer template.
type planBench struct {
	host
	imgbake string
}

func newPlanBench(h host, o options) planBench {
	return planBench{h.in(filepath.Join(o.Work, "plan")), o.Imgbake}
}

// setup writes a template of 1,000 builders and 10 provisioners.
func (b planBench) setup(context.Context) error {
	type object map[string]any
	var builders, provisioners []object
	for i := range 1000 {
		builders = append(builders, object{
			"type": "docker", "name": fmt.Sprintf("image-%04d", i), "image": "debian:{{user `suite`}}",
			"commit": true, "changes": []string{fmt.Sprintf("LABEL number=%d", i)},
		})
	}
	for i := range 5 {
		provisioners = append(provisioners,
			object{"type": "file", "source": "file.txt", "destination": fmt.Sprintf("/srv/file-%d", i)},
			object{"type": "shell", "inline": []string{fmt.Sprintf("echo %d in {{user `suite`}}", i)}})
	}
	text, err := json.Marshal(object{
		"variables": object{"suite": "bookworm"}, "builders": builders, "provisioners": provisioners,
	})
	if err != nil {
		return err
	}
	return options{}.write(b.dir, map[string]string{"large.json": string(text), "file.txt": "a file\n"})
}

func (b planBench) commands() map[string][]string {
	return map[string][]string{
		subject:                        {b.imgbake, "plan", "large.json"},
		"packer validate -syntax-only": {"packer", "validate", "-syntax-only", "large.json"},
	}
}

func (b planBench) cells(run func(context.Context, []string) (sample, error)) []cell {
	var cells []cell
	commands := b.commands()
	for _, tool := range []string{subject, "packer validate -syntax-only"} {
		cells = append(cells, cell{Tool: tool, Run: func(ctx context.Context) (sample, error) { return run(ctx, commands[tool]) }})
	}
	return cells
}

// planning is W6.
func planning(h host, o options) workload {
	b := newPlanBench(h, o)
	return workload{
		ID: "W6", Title: "plan of 1,000 builders x 10 provisioners",
		Note: "The same Packer template. imgbake resolves, checks and plans all 1,000 bakes with their 10,000 steps and prints the plan as JSON; " +
			"packer only looks at the syntax (its full validation starts about 11 processes a builder, and is not run). " +
			"CPU and memory (largest resident set) are of all the tool's processes.",
		Metrics: []metric{{"time", "s"}, {"CPU", "s"}, {"memory", "MB"}},
		Goals:   []goal{{Metric: "CPU", Limit: 1}, {Metric: "memory", Limit: 100}},
		Setup:   b.setup,
		Cells: b.cells(func(ctx context.Context, args []string) (sample, error) {
			u, err := b.run(ctx, args...)
			return sample{"time": u.Wall.Seconds(), "CPU": u.CPU.Seconds(), "memory": float64(u.RSS) / 1e6}, err
		}),
	}
}

// planningProcesses counts what W6 starts.
func planningProcesses(h host, o options) workload {
	b := newPlanBench(h, o)
	return workload{
		ID: "W6p", Title: "programs started by one plan",
		Note:    "Successful execve calls, as strace counts them.",
		Metrics: []metric{{"programs", ""}},
		Goals:   []goal{{Metric: "programs", Limit: 1}},
		Once:    true,
		Setup:   b.setup,
		Cells: b.cells(func(ctx context.Context, args []string) (sample, error) {
			n, err := b.processes(ctx, args...)
			return sample{"programs": n}, err
		}),
	}
}

// version is W9.
func version(h host, o options) workload {
	w := workload{
		ID: "W9", Title: "version",
		Note:    "What starting the program costs.",
		Metrics: []metric{{"time", "s"}},
		Goals:   []goal{{Metric: "time", Against: "packer", Limit: 0.2}},
	}
	for _, k := range []struct {
		tool string
		args []string
	}{
		{subject, []string{o.Imgbake, "version"}},
		{"packer", []string{"packer", "version"}},
		{"docker --version", []string{"docker", "--version"}},
		{"buildah --version", []string{"buildah", "--version"}},
	} {
		w.Cells = append(w.Cells, cell{Tool: k.tool, Run: func(ctx context.Context) (sample, error) { return seconds(ctx, h, k.args...) }})
	}
	return w
}
