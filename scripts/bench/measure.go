package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
)

// subject is the tool that the others are compared with.
const subject = "imgbake"

// workload is one thing to do, by several tools.
type workload struct {
	ID, Title string
	Note      string // what was measured, and how
	Metrics   []metric
	Goals     []goal
	Once      bool // what is counted does not vary: one run, without a warm-up
	Cold      bool // no warm-up
	Setup     func(context.Context) error
	Cells     []cell
}

// metric is one number that a run gives.
type metric struct{ Name, Unit string }

// goal holds the subject's median to a limit: a multiple of another tool's, or
// an absolute one if Against is "".
type goal struct {
	Metric, Against string
	Limit, Stretch  float64 // Stretch 0: none
}

// sample is what one run gave, by metric.
type sample map[string]float64

// cell is one tool doing one workload. Only what Run says is measured.
type cell struct {
	Tool   string
	Before func(ctx context.Context, run int) error
	Run    func(context.Context) (sample, error)
	Check  func(context.Context) error // that the work was done; after the first run
	After  func(context.Context) error
}

// row is a metric of a cell over all runs.
type row struct {
	Tool   string    `json:"tool"`
	Metric string    `json:"metric"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values,omitempty"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Error  string    `json:"error,omitempty"` // it did not run
}

// measure runs the selected cells in turn, run by run, each time beginning with
// another one. A cell that fails is left out from then on. An error means that
// the workload could not be set up, or that the bench was ended.
func measure(ctx context.Context, w workload, runs int, selected *regexp.Regexp, progress io.Writer) ([]row, error) {
	cells := slices.DeleteFunc(slices.Clone(w.Cells), func(c cell) bool { return !selected.MatchString(w.ID + "/" + c.Tool) })
	if len(cells) == 0 {
		return nil, nil
	}
	fmt.Fprintf(progress, "== %s %s\n", w.ID, w.Title)
	if w.Setup != nil {
		if err := w.Setup(ctx); err != nil {
			return nil, fmt.Errorf("setting up: %w", err)
		}
	}
	first := 0 // number of the first run that counts
	switch {
	case w.Once:
		runs = 1
	case !w.Cold:
		first, runs = 1, runs+1
	}
	samples := make([][]sample, len(cells))
	failed := make([]error, len(cells))
	for run := range runs {
		for i := range cells {
			i = (i + run) % len(cells)
			if failed[i] != nil {
				continue
			}
			s, err := once(ctx, cells[i], run)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			failed[i] = err
			show(progress, w, cells[i].Tool, run, run < first, s, err)
			if err == nil && run >= first {
				samples[i] = append(samples[i], s)
			}
		}
	}
	var rows []row
	for _, m := range w.Metrics {
		for i, c := range cells {
			rows = append(rows, summarise(c.Tool, m, samples[i], failed[i])...)
		}
	}
	return rows, nil
}

// once is one run of a cell with what belongs to it.
func once(ctx context.Context, c cell, run int) (sample, error) {
	if c.Before != nil {
		if err := c.Before(ctx, run); err != nil {
			return nil, err
		}
	}
	s, err := c.Run(ctx)
	if err != nil {
		return nil, err
	}
	if c.Check != nil && run == 0 {
		if err := c.Check(ctx); err != nil {
			return nil, fmt.Errorf("checking the result: %w", err)
		}
	}
	if c.After != nil {
		err = c.After(ctx)
	}
	return s, err
}

func show(w io.Writer, l workload, tool string, run int, warmUp bool, s sample, err error) {
	fmt.Fprintf(w, "   %s %s run %d:", l.ID, tool, run)
	for _, m := range l.Metrics {
		if v, ok := s[m.Name]; ok {
			fmt.Fprintf(w, " %s %s", m.Name, quantity(v, m.Unit))
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(w, " %v", err)
	case warmUp:
		fmt.Fprint(w, " (warm-up)")
	}
	fmt.Fprintln(w)
}

// summarise gives the row of one metric, or none where the tool does not have
// the metric.
func summarise(tool string, m metric, samples []sample, failed error) []row {
	r := row{Tool: tool, Metric: m.Name, Unit: m.Unit}
	for _, s := range samples {
		if v, ok := s[m.Name]; ok {
			r.Values = append(r.Values, v)
		}
	}
	switch {
	case failed != nil:
		r.Error = failed.Error()
	case len(r.Values) == 0:
		return nil
	default:
		r.Median, r.Min, r.Max = median(r.Values), slices.Min(r.Values), slices.Max(r.Values)
	}
	return []row{r}
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
