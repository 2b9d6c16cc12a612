package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errNoLimits is what an error wraps when this machine gives no control group.
var errNoLimits = fmt.Errorf("%w: limits take a control group that may be made", ErrUnavailable)

// cgroupsFile names a machine's control groups, in its work folder: whoever
// removes that removes them.
const cgroupsFile = "cgroups"

// cgroup is a machine's control groups: one, or with version 1 one for every
// controller (cgroups(7)).
type cgroup struct {
	dirs []string

	mu   sync.Mutex
	seen map[string]int // how often limits were reached
}

// setting is a file of a control group and what is written to it.
type setting struct {
	controller, file, value string
	optional                bool // not every kernel has it
}

// cpuPeriod is in microseconds; a limit is the time in it.
const cpuPeriod = 100_000

// settings are the limits for control groups of version 1 or 2. Memory is with
// swap, as nobody wants a bake that swaps.
func (l Limits) settings(version int) (all []setting) {
	memory, pids, quota := strconv.FormatInt(l.Memory, 10), strconv.FormatInt(l.PIDs, 10), strconv.Itoa(int(l.CPUs*cpuPeriod))
	period := strconv.Itoa(cpuPeriod)
	switch {
	case l.Memory > 0 && version == 1:
		all = append(all, setting{"memory", "memory.limit_in_bytes", memory, false}, setting{"memory", "memory.memsw.limit_in_bytes", memory, true})
	case l.Memory > 0:
		all = append(all, setting{"memory", "memory.max", memory, false}, setting{"memory", "memory.swap.max", "0", true})
	}
	switch {
	case l.CPUs > 0 && version == 1:
		all = append(all, setting{"cpu", "cpu.cfs_period_us", period, false}, setting{"cpu", "cpu.cfs_quota_us", quota, false})
	case l.CPUs > 0:
		all = append(all, setting{"cpu", "cpu.max", quota + " " + period, false})
	}
	if l.PIDs > 0 {
		all = append(all, setting{"pids", "pids.max", pids, false})
	}
	return all
}

// limit makes control groups with the limits, or nil where there are none.
func (w *work) limit(l Limits) (*cgroup, error) {
	if l == (Limits{}) {
		return nil, nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLimits, err)
	}
	all := hierarchies(string(mounts), string(self))
	for _, s := range l.settings(2) {
		if !slices.ContainsFunc(all, func(h hierarchy) bool { return slices.Contains(h.controllers, s.controller) }) {
			return nil, fmt.Errorf("%w: there is none for %s", errNoLimits, s.controller)
		}
	}
	c := &cgroup{seen: map[string]int{}}
	for _, h := range all {
		wanted := slices.DeleteFunc(l.settings(h.version), func(s setting) bool { return !slices.Contains(h.controllers, s.controller) })
		if len(wanted) == 0 {
			continue
		}
		dir, err := w.makeGroup(h, wanted)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoLimits, err)
		}
		c.dirs = append(c.dirs, dir)
	}
	return c, nil
}

// hierarchy is a tree of control groups that is mounted.
type hierarchy struct {
	version     int
	controllers []string
	mount, own  string // where it is, and the group of this process
}

// hierarchies are those that this process sees (proc_pid_mountinfo(5),
// cgroups(7)). Controllers that version 1 has are none of version 2's.
func hierarchies(mountinfo, self string) (all []hierarchy) {
	own := map[string]string{} // by controllers; version 2 has none there
	for line := range strings.Lines(self) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for _, controller := range strings.Split(f[1], ",") {
				own[controller] = f[2]
			}
		}
	}
	for line := range strings.Lines(mountinfo) {
		place, what, _ := strings.Cut(line, " - ")
		p, w := strings.Fields(place), strings.Fields(what)
		if len(p) < 6 || len(w) < 3 || w[0] != "cgroup" && w[0] != "cgroup2" {
			continue
		}
		h := hierarchy{version: 2, mount: p[4]}
		key := ""
		if w[0] == "cgroup" {
			h.version, h.controllers = 1, strings.Split(w[2], ",")
			i := slices.IndexFunc(h.controllers, func(c string) bool { return own[c] != "" })
			if i < 0 {
				continue
			}
			key = h.controllers[i]
		} else if text, err := os.ReadFile(filepath.Join(h.mount, "cgroup.controllers")); err == nil {
			h.controllers = strings.Fields(string(text))
		}
		rel, err := filepath.Rel(p[3], own[key])
		if err != nil || !filepath.IsLocal(rel) {
			continue // this process is in a group that is not seen here
		}
		h.own = filepath.Join(h.mount, rel)
		if !slices.ContainsFunc(all, func(o hierarchy) bool { return slices.Equal(o.controllers, h.controllers) }) { // mounted again
			all = append(all, h)
		}
	}
	return all
}

// makeGroup makes a group with the settings below that of this process, or where
// that cannot be, below the nearest group above it: with version 2 a group that
// has processes has no groups with limits.
func (w *work) makeGroup(h hierarchy, wanted []setting) (string, error) {
	var first error
	for parent := h.own; ; parent = filepath.Dir(parent) {
		dir, err := w.makeGroupIn(parent, h.version, wanted)
		if err == nil {
			return dir, nil
		}
		if first == nil {
			first = err
		}
		if h.version == 1 || parent == h.mount || parent == "/" || bounded(parent) {
			return "", first
		}
	}
}

// bounded tells whether somebody has given a group limits: what we make must not
// get out of them.
func bounded(dir string) bool {
	for _, file := range []string{"memory.max", "memory.high", "memory.swap.max", "cpu.max", "pids.max"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil && !strings.HasPrefix(string(text), "max") {
			return true
		}
	}
	return false
}

func (w *work) makeGroupIn(parent string, version int, wanted []setting) (_ string, err error) {
	if version == 2 {
		if err := enable(parent, wanted); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(parent, "imgbake-"+filepath.Base(w.path))
	record, err := os.OpenFile(filepath.Join(w.path, cgroupsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(record, dir) // before it is made: it is removed whatever happens
	if err = errors.Join(err, record.Close()); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	for _, s := range wanted {
		err := tell(filepath.Join(dir, s.file), s.value)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return dir, nil
}

// enable lets the groups below one have limits.
func enable(parent string, wanted []setting) error {
	file := filepath.Join(parent, "cgroup.subtree_control")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, s := range wanted {
		if !slices.Contains(strings.Fields(string(text)), s.controller) {
			if err := tell(file, "+"+s.controller); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell writes to a file that is there.
func tell(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// add puts a process into the groups, with all it will start.
func (c *cgroup) add(pid int) error {
	if c == nil {
		return nil
	}
	for _, dir := range c.dirs {
		if err := tell(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("%w: %w", errNoLimits, err)
		}
	}
	return nil
}

// hit tells which limit was reached since it was last asked.
func (c *cgroup) hit() (what string) {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, dir := range c.dirs {
		for _, e := range []struct{ file, event, what string }{
			{"memory.events", "oom_kill", "the memory limit was reached: the kernel has ended a process"},
			{"memory.oom_control", "oom_kill", "the memory limit was reached: the kernel has ended a process"},
			{"pids.events", "max", "the limit of processes was reached"},
		} {
			file := filepath.Join(dir, e.file)
			if n := count(file, e.event); n > c.seen[file] {
				c.seen[file], what = n, e.what
			}
		}
	}
	return what
}

// explain adds to an error what limit was reached.
func (c *cgroup) explain(err error) error {
	if hit := c.hit(); hit != "" {
		return fmt.Errorf("%w: %s", err, hit)
	}
	return err
}

// count is a number of a file with lines such as "oom_kill 1".
func count(file, name string) int {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// dropLimits removes the control groups of a machine that has ended.
func (w *work) dropLimits() error {
	record, err := os.ReadFile(filepath.Join(w.path, cgroupsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var problems []error
	for line := range strings.Lines(string(record)) {
		dir := strings.TrimSuffix(line, "\n")
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := unix.Rmdir(dir)
		for wait := time.Millisecond; errors.Is(err, unix.EBUSY) && wait < time.Second; wait *= 2 {
			time.Sleep(wait) // the kernel is not yet done with what has ended
			err = unix.Rmdir(dir)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			problems = append(problems, &fs.PathError{Op: "rmdir", Path: dir, Err: err})
		}
	}
	return errors.Join(problems...)
}
