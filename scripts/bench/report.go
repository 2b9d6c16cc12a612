package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// report is everything that was measured; its JSON form is what --json writes.
type report struct {
	Machine   machine  `json:"machine"`
	Tools     []tool   `json:"tools"`
	Runs      int      `json:"runs"`
	Workloads []result `json:"workloads"`
}

// result is a workload that was run.
type result struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Note  string `json:"note"`
	Rows  []line `json:"rows"`
}

// line is a row beside the subject.
type line struct {
	row
	Ratio  *float64 `json:"ratio,omitempty"` // subject's median / this tool's
	Goal   string   `json:"goal,omitempty"`
	Passed *bool    `json:"passed,omitempty"`
	Beyond bool     `json:"stretch_reached,omitempty"`
}

// add compares a workload's rows.
func (r *report) add(w workload, rows []row) {
	if len(rows) == 0 {
		return
	}
	res := result{ID: w.ID, Title: w.Title, Note: w.Note}
	for _, one := range rows {
		res.Rows = append(res.Rows, compare(w.Goals, one, find(rows, subject, one.Metric)))
	}
	r.Workloads = append(r.Workloads, res)
}

// find is the row of a tool that ran.
func find(rows []row, tool, metric string) *row {
	for i, r := range rows {
		if r.Tool == tool && r.Metric == metric && r.Error == "" {
			return &rows[i]
		}
	}
	return nil
}

// compare puts a row beside the subject's, with the goal that is set there: a
// relative goal stands in the other tool's row, an absolute one in the subject's.
func compare(goals []goal, one row, ours *row) line {
	l := line{row: one}
	if ours == nil || one.Error != "" {
		return l
	}
	value := ours.Median
	against := ""
	if one.Tool != subject {
		against = one.Tool
		if one.Median > 0 {
			value = ours.Median / one.Median
			l.Ratio = &value
		}
	}
	for _, g := range goals {
		if g.Metric != one.Metric || g.Against != against || against != "" && l.Ratio == nil {
			continue
		}
		passed := value <= g.Limit
		l.Goal, l.Passed = g.text(one.Unit), &passed
		l.Beyond = g.Stretch > 0 && value <= g.Stretch
	}
	return l
}

func (g goal) text(unit string) string {
	if g.Against == "" {
		return "<= " + quantity(g.Limit, unit)
	}
	text := fmt.Sprintf("<= %gx", g.Limit)
	if g.Stretch > 0 {
		text += fmt.Sprintf(" (stretch %gx)", g.Stretch)
	}
	return text
}

// markdown writes the report for people.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# imgbake beside its peers\n\n")
	fmt.Fprintf(w, "One run on one machine: %d cores, Linux %s, load before %s. Read the ratios, not the seconds.\n",
		r.Machine.Cores, r.Machine.Kernel, r.Machine.Load)
	fmt.Fprintf(w, "Tools take turns, run by run; \"imgbake is\" = imgbake's median / the tool's median; less is better.\n\n")
	for _, t := range r.Tools {
		fmt.Fprintf(w, "- %s: %s\n", t.Name, t.Version)
	}
	for _, res := range r.Workloads {
		fmt.Fprintf(w, "\n## %s %s\n\n%s\n\n", res.ID, res.Title, res.Note)
		fmt.Fprintln(w, "| tool | measured | n | median | min | max | imgbake is | goal | |")
		fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
		for _, l := range res.Rows {
			fmt.Fprintln(w, l.markdown())
		}
	}
}

func (l line) markdown() string {
	if l.Error != "" {
		first, _, _ := strings.Cut(l.Error, "\n")
		return fmt.Sprintf("| %s | %s | 0 | did not run: %s | | | | | |", escaped(l.Tool), l.Metric, escaped(first))
	}
	ratio := ""
	if l.Ratio != nil {
		ratio = strconv.FormatFloat(*l.Ratio, 'f', 2, 64) + "x"
	}
	return fmt.Sprintf("| %s | %s | %d | %s | %s | %s | %s | %s | %s |", escaped(l.Tool), l.Metric, len(l.Values),
		quantity(l.Median, l.Unit), quantity(l.Min, l.Unit), quantity(l.Max, l.Unit), ratio, l.Goal, l.verdict())
}

// escaped is text for a cell of a table.
func escaped(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func (l line) verdict() string {
	switch {
	case l.Passed == nil:
		return ""
	case l.Beyond:
		return "PASS, stretch too"
	case *l.Passed:
		return "PASS"
	}
	return "miss"
}

// quantity shows three significant digits, and whole numbers in full.
func quantity(v float64, unit string) string {
	text := strconv.FormatFloat(v, 'g', 3, 64)
	if v >= 100 || v == float64(int64(v)) {
		text = strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strings.TrimSpace(text + " " + unit)
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// failures is an error if a cell did not run.
func (r *report) failures() error {
	var errs []error
	seen := map[string]bool{}
	for _, res := range r.Workloads {
		for _, l := range res.Rows {
			if what := res.ID + " " + l.Tool; l.Error != "" && !seen[what] {
				seen[what] = true
				errs = append(errs, fmt.Errorf("%s did not run: %s", what, l.Error))
			}
		}
	}
	return errors.Join(errs...)
}
