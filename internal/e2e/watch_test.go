//go:build engine

package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// watch looks at every process of the machine and every container that is
// being baked, again and again. Steps wait until it has seen them.
type watch struct {
	host  string
	end   context.CancelFunc
	ended chan struct{}

	mu   sync.Mutex
	ours map[string]ours // imgbake's processes, by ID

	found                               map[string]bool
	rounds, steps, hostSteps, inspected int
}

func newWatch(t *testing.T, host string) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{host: host, end: cancel, ended: make(chan struct{}), ours: map[string]ours{}, found: map[string]bool{}}
	go func() {
		defer close(w.ended)
		tick := time.NewTicker(20 * time.Millisecond) // lets the others work
		defer tick.Stop()
		for {
			w.round(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(cancel)
	return w
}

// stop ends the watch and tells what it found.
func (w *watch) stop(t *testing.T) {
	t.Helper()
	w.end()
	<-w.ended
	for leak := range w.found {
		t.Error(leak)
	}
	if w.rounds < 10 || w.steps == 0 || w.hostSteps == 0 || w.inspected == 0 {
		t.Errorf("%d rounds saw %d steps in containers, %d on the host, %d containers: the watch proves nothing", w.rounds, w.steps, w.hostSteps, w.inspected)
	}
}

// run runs a command that the watch can tell from strangers.
func (w *watch) run(t *testing.T, cmd *exec.Cmd, dir string, argv bool) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	w.mu.Lock() // no round sees it before it is known
	err := cmd.Start()
	if err == nil {
		w.ours[strconv.Itoa(cmd.Process.Pid)] = ours{dir: dir, argv: argv}
	}
	w.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ours is an imgbake that the test started. It knows the secrets.
type ours struct {
	dir  string // of the template
	argv bool   // it was given them on the command line
}

// process is what /proc says of one.
type process struct {
	parent, program string
	container       string // its ID, if it runs in one
	cmdline         []byte
	environ         []byte
}

var (
	containerID = regexp.MustCompile(`[0-9a-f]{64}`)
	statLine    = regexp.MustCompile(`(?s)^\d+ \(.*\) \S (\d+) `)
)

func readProcess(pid string) (p process, ok bool) {
	read := func(name string) []byte { data, _ := os.ReadFile(filepath.Join("/proc", pid, name)); return data }
	match := statLine.FindSubmatch(read("stat"))
	if match == nil {
		return p, false // it has ended
	}
	exe, _ := os.Readlink(filepath.Join("/proc", pid, "exe"))
	return process{
		parent: string(match[1]), program: filepath.Base(exe),
		container: string(containerID.Find(read("cgroup"))),
		cmdline:   read("cmdline"), environ: read("environ"),
	}, true
}

// round looks at everything once.
func (w *watch) round(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rounds++
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	all := map[string]process{}
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") == "" {
			if p, ok := readProcess(e.Name()); ok {
				all[e.Name()] = p
			}
		}
	}
	waiting := map[string]bool{}
	for pid, p := range all {
		w.look(pid, p, all, waiting)
	}
	for id := range waiting {
		w.letGo(ctx, id)
	}
	w.inspect(ctx)
}

// look judges one process. Its environment may hold the secrets of a step if
// it is of that step; its command line never.
func (w *watch) look(pid string, p process, all map[string]process, waiting map[string]bool) {
	mine, owner := w.owner(pid, all)
	own := owner != "" && (pid == owner || !mine.below(pid, owner, all))
	if !own || !mine.argv {
		w.report(fmt.Sprintf("command line of process %s (%s)", pid, p.program), p.cmdline)
	}
	switch {
	case own:
	case owner != "": // what a step started on the host
		w.report(fmt.Sprintf("environment of a step on the host, %s (%s)", pid, p.program), p.environ, "local")
		if len(leaks(p.environ)) > 0 {
			w.hostSteps++
			waiting["dir:"+mine.dir] = true
		}
	case p.container != "":
		if len(leaks(p.environ)) > 0 {
			w.steps++
			waiting[p.container] = true
		}
	default:
		w.report(fmt.Sprintf("environment of process %s (%s)", pid, p.program), p.environ)
	}
}

// owner is the nearest imgbake that the test started, or what runs it.
func (w *watch) owner(pid string, all map[string]process) (ours, string) {
	for at, ok := all[pid]; ok; pid, at, ok = at.parent, all[at.parent], at.parent != "0" && at.parent != "" {
		if mine, ok := w.ours[pid]; ok {
			return mine, pid
		}
	}
	return ours{}, ""
}

// below reports whether a process was started by imgbake itself, not by what
// runs it. A process is still imgbake just before it becomes its command.
func (ours) below(pid, owner string, all map[string]process) bool {
	if all[pid].program == "imgbake" {
		return false
	}
	for pid != owner {
		pid = all[pid].parent
		if all[pid].program == "imgbake" {
			return true
		}
	}
	return false
}

// letGo tells a waiting step that it was seen.
func (w *watch) letGo(ctx context.Context, id string) {
	if dir, ok := strings.CutPrefix(id, "dir:"); ok {
		_ = os.WriteFile(filepath.Join(dir, "seen"), nil, 0o644)
		return
	}
	var made struct{ ID string }
	touch := map[string]any{"Cmd": []string{"touch", "/run/canary-seen"}}
	if api(ctx, w.host, http.MethodPost, "/containers/"+id+"/exec", touch, &made) == nil {
		_ = api(ctx, w.host, http.MethodPost, "/exec/"+made.ID+"/start", map[string]bool{"Detach": true}, nil)
	}
}

// inspect looks at the containers as docker inspect does.
func (w *watch) inspect(ctx context.Context) {
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if api(ctx, w.host, http.MethodGet, "/containers/json?all=1", nil, &list) != nil {
		return
	}
	for _, c := range list {
		var text string
		if api(ctx, w.host, http.MethodGet, "/containers/"+c.ID+"/json", nil, &text) != nil {
			continue // it is gone
		}
		w.inspected++
		w.report("docker inspect "+c.Names[0], []byte(text))
		_, execs, _ := strings.Cut(text, `"ExecIDs":`)
		execs, _, _ = strings.Cut(execs, "]")
		for _, id := range containerID.FindAllString(execs, -1) {
			if api(ctx, w.host, http.MethodGet, "/exec/"+id+"/json", nil, &text) == nil {
				w.report("inspecting a command in "+c.Names[0], []byte(text))
			}
		}
	}
}

func (w *watch) report(where string, data []byte, allowed ...string) {
	for _, leak := range leaks(data, allowed...) {
		w.found[where+": "+leak] = true
	}
}

// unpack is gzip's or zstd's content, nil for other data.
func unpack(t *testing.T, data []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")):
		r, err = zstd.NewReader(bytes.NewReader(data))
	default:
		return nil
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return plain
}
