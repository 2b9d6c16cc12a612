package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{4, 1, 2}, 2},
		{[]float64{4, 1, 2, 3}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

// TestMeasure holds that tools take turns, that the warm-up does not count, and
// that a tool that fails is told and left out.
func TestMeasure(t *testing.T) {
	var order []string
	tool := func(name string, fail int) cell {
		runs := 0
		return cell{Tool: name, Run: func(context.Context) (sample, error) {
			order = append(order, name)
			runs++
			if runs == fail {
				return nil, errors.New("broken")
			}
			return sample{"time": float64(runs)}, nil
		}}
	}
	w := workload{ID: "W", Metrics: []metric{{"time", "s"}}, Cells: []cell{tool("a", 0), tool("b", 2), tool("skipped", 0)}}
	rows, err := measure(t.Context(), w, 3, regexp.MustCompile("W/[ab]"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{Tool: "a", Metric: "time", Unit: "s", Values: []float64{2, 3, 4}, Median: 3, Min: 2, Max: 4},
		{Tool: "b", Metric: "time", Unit: "s", Error: "broken"},
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	if got := strings.Join(order, ""); got != "abbaaa" {
		t.Errorf("order %s, want abbaaa", got)
	}
}

func TestMeasureOnce(t *testing.T) {
	runs := 0
	w := workload{Once: true, Metrics: []metric{{"n", ""}}, Cells: []cell{{Tool: "a", Run: func(context.Context) (sample, error) {
		runs++
		return sample{"n": 1}, nil
	}}}}
	if _, err := measure(t.Context(), w, 5, regexp.MustCompile(""), io.Discard); err != nil || runs != 1 {
		t.Errorf("%d runs, error %v, want 1 and none", runs, err)
	}
}

func TestCompare(t *testing.T) {
	goals := []goal{
		{Metric: "time", Against: "peer", Limit: 0.75, Stretch: 0.5},
		{Metric: "memory", Limit: 100},
	}
	one := func(tool, metric string, median float64) row {
		return row{Tool: tool, Metric: metric, Unit: "s", Median: median, Values: []float64{median}}
	}
	for _, c := range []struct {
		name         string
		row, ours    row
		ratio        float64
		goal, result string
	}{
		{"reached", one("peer", "time", 2), one(subject, "time", 1.5), 0.75, "<= 0.75x (stretch 0.5x)", "PASS"},
		{"stretch", one("peer", "time", 2), one(subject, "time", 1), 0.5, "<= 0.75x (stretch 0.5x)", "PASS, stretch too"},
		{"missed", one("peer", "time", 2), one(subject, "time", 1.6), 0.8, "<= 0.75x (stretch 0.5x)", "miss"},
		{"no goal", one("other", "time", 2), one(subject, "time", 1), 0.5, "", ""},
		{"the subject itself", one(subject, "time", 1), one(subject, "time", 1), 0, "", ""},
		{"absolute", one(subject, "memory", 120), one(subject, "memory", 120), 0, "<= 100 s", "miss"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := compare(goals, c.row, &c.ours)
			ratio := 0.0
			if l.Ratio != nil {
				ratio = *l.Ratio
			}
			if ratio != c.ratio || l.Goal != c.goal || l.verdict() != c.result {
				t.Errorf("ratio %v, goal %q, %q, want %v, %q, %q", ratio, l.Goal, l.verdict(), c.ratio, c.goal, c.result)
			}
		})
	}
}

func TestReport(t *testing.T) {
	w := workload{ID: "W9", Title: "version", Note: "What it costs.", Goals: []goal{{Metric: "time", Against: "packer", Limit: 0.2}}}
	r := report{Machine: machine{2, "6.1", "0.1 0.1 0.1"}, Tools: []tool{{"packer", "1.6.6"}}, Runs: 2}
	r.add(w, []row{
		{Tool: subject, Metric: "time", Unit: "s", Values: []float64{0.01, 0.03}, Median: 0.02, Min: 0.01, Max: 0.03},
		{Tool: "packer", Metric: "time", Unit: "s", Values: []float64{0.1, 0.3}, Median: 0.2, Min: 0.1, Max: 0.3},
		{Tool: "gone", Metric: "time", Unit: "s", Error: "no such | file\nmore"},
	})
	var text bytes.Buffer
	r.markdown(&text)
	for _, want := range []string{
		"## W9 version\n\nWhat it costs.\n",
		"| imgbake | time | 2 | 0.02 s | 0.01 s | 0.03 s |  |  |  |\n",
		"| packer | time | 2 | 0.2 s | 0.1 s | 0.3 s | 0.10x | <= 0.2x | PASS |\n",
		`| gone | time | 0 | did not run: no such \| file | | | | | |` + "\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	if err := r.failures(); err == nil || !strings.Contains(err.Error(), "W9 gone did not run: no such | file") {
		t.Errorf("failures: %v", err)
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := r.writeJSON(file); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(written), `"ratio": 0.09999`) {
		t.Errorf("error %v, JSON:\n%s", err, written)
	}
}

func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  string
		want  string
	}{{1.2345, "s", "1.23 s"}, {123.4, "MB", "123 MB"}, {2, "", "2"}, {0.00812, "s", "0.00812 s"}, {1000, "", "1000"}} {
		if got := quantity(c.value, c.unit); got != c.want {
			t.Errorf("quantity(%v, %q) = %q, want %q", c.value, c.unit, got, c.want)
		}
	}
}

func TestEvents(t *testing.T) {
	all, err := parseEvents(`{"time":"2026-01-01T00:00:00Z","type":"step-started","step":1}
{"time":"2026-01-01T00:00:01Z","type":"step-finished","step":1}
{"time":"2026-01-01T00:00:03Z","type":"step-started","step":2}
{"time":"2026-01-01T00:00:07Z","type":"step-finished","step":2}
{"time":"2026-01-01T00:00:09.5Z","type":"note","text":"post-processor push"}
{"time":"2026-01-01T00:00:12Z","type":"published"}
{"time":"2026-01-01T00:00:12Z","type":"note","text":"post-processor other"}
{"time":"2026-01-01T00:00:13Z","type":"published"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if from, err := all.fromSteps(); err != nil || from != 12 {
		t.Errorf("from the steps on: %v, error %v, want 12", from, err)
	}
	if _, err := all[4:].fromSteps(); err == nil {
		t.Error("a bake without steps gives no error")
	}
	took, err := all.post("other")
	if err != nil || took != 1 {
		t.Errorf("post: %v, error %v, want 1", took, err)
	}
	if _, err := all.post("none"); err == nil {
		t.Error("a post-processor that did not run gives no error")
	}
	for _, of := range []string{"push", ""} {
		if _, err := all[:5].published(of); err == nil {
			t.Errorf("a push that did not end gives no error (%q)", of)
		}
	}
	if _, err := parseEvents("panic: no"); err == nil {
		t.Error("what is no event gives no error")
	}
}

func TestCountExecs(t *testing.T) {
	trace := `10 execve("/usr/bin/packer", ["packer"], 0x7ff /* 9 vars */) = 0
11 execve("/a/docker", ["docker"], 0x7ff /* 9 vars */) = -1 ENOENT (No such file or directory)
11 execve("/usr/bin/docker", ["docker"], 0x7ff /* 9 vars */ <unfinished ...>
10 +++ exited with 0 +++
11 <... execve resumed>) = 0
`
	if got := countExecs(trace); got != 2 {
		t.Errorf("%d programs, want 2", got)
	}
}

func TestHost(t *testing.T) {
	dir := t.TempDir()
	h := host{env: []string{"A=1"}, dir: dir, log: filepath.Join(dir, "log")}
	got, err := h.with("B=2").output(t.Context(), "/bin/sh", "-c", "echo $A$B; echo to stderr >&2")
	if want := "12\nto stderr"; err != nil || got != want {
		t.Errorf("output %q, error %v, want %q", got, err, want)
	}
	if _, err := h.run(t.Context(), "/bin/sh", "-c", "echo the reason; exit 3"); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v, want one with the reason", err)
	}
}

func TestLoop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := (options{}).write(filepath.Dir(file), map[string]string{"data": "abc"}); err != nil {
		t.Fatal(err)
	}
	l := &loop{file: file}
	defer l.Close()
	got := make([]byte, 8)
	if _, err := io.ReadFull(l, got); err != nil || string(got) != "abcabcab" {
		t.Errorf("read %q, error %v", got, err)
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := l.Read(got); err == nil {
		t.Error("an empty file gives no error")
	}
}

func TestCounter(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.CopyN(io.Discard, conn, 5)
		conn.Write([]byte("welcome"))
	}()
	c, err := newCounter(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := net.DialTimeout("tcp", strings.Replace(c.name(), "localhost", "127.0.0.1", 1), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("hello"))
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "welcome" {
		t.Errorf("answer %q, error %v", answer, err)
	}
	if got := c.megabytes(); got != 5e-6 {
		t.Errorf("%v MB, want 5 bytes", got)
	}
	if got := c.megabytes(); got != 0 {
		t.Errorf("%v MB after that, want none", got)
	}
}
