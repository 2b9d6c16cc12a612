package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
)

// The labels of everything made in an engine.
const (
	labelRun   = "dev.imgbake.run"
	labelBake  = "dev.imgbake.bake"
	labelOwner = "dev.imgbake.owner" // the process: see owner
)

// unknownAge is when a stopped container of a process that cannot be looked
// for, on another machine, is taken to be abandoned.
const unknownAge = time.Hour

func (e *Engine) labels(run, bakeName string) map[string]string {
	return map[string]string{labelRun: run, labelBake: bakeName, labelOwner: self().String()}
}

// owner is a process of a machine: process numbers repeat, so the time it
// started, the machine's boot and the name space that counts it belong to it.
type owner struct {
	boot, space, pid, started string
}

// String is the owner as a label has it.
func (o owner) String() string { return strings.Join([]string{o.boot, o.space, o.pid, o.started}, "/") }

func parseOwner(s string) (owner, bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 4 {
		return owner{}, false
	}
	return owner{parts[0], parts[1], parts[2], parts[3]}, true
}

// self is this process. Where there is no /proc, most of it is empty, and
// nobody takes it for dead.
func self() owner {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	pid := strconv.Itoa(os.Getpid())
	started, _ := startTime(pid)
	return owner{strings.TrimSpace(string(boot)), strings.ReplaceAll(space, "/", ""), pid, started}
}

// startTime is the process's start in clock ticks since boot.
func startTime(pid string) (string, bool) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "", false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", false
	}
	return fields[19], true
}

// life is what can be told of an owner from here.
type life int

const (
	alive life = iota
	dead
	unknown // on another machine, or counted elsewhere
)

func (o owner) life(me owner) life {
	if o.boot == "" || o.boot != me.boot || o.space != me.space {
		return unknown
	}
	if _, err := strconv.Atoi(o.pid); err != nil {
		return unknown
	}
	if started, ok := startTime(o.pid); ok && started == o.started {
		return alive
	}
	return dead
}

// tidy reaps at the beginning of a run. What cannot be removed is told, and no
// reason not to bake.
func (e *Engine) tidy(ctx context.Context, notify func(string)) {
	removed, err := e.Reap(ctx)
	if len(removed) > 0 {
		notify("removed what an earlier run left behind: " + strings.Join(removed, ", "))
	}
	if err != nil && ctx.Err() == nil {
		notify("an earlier run left something behind: " + strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// Reap removes what runs that died left in the engine: containers, the images
// they started from, networks and volumes. It never touches what a living run
// has, nor what was detached. It returns what it removed.
func (e *Engine) Reap(ctx context.Context) ([]string, error) {
	if err := e.connect(ctx); err != nil {
		return nil, err
	}
	r := reaper{engine: e, me: self()}
	mine := filters.NewArgs(filters.Arg("label", labelOwner))
	containers, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: mine})
	if err != nil {
		return nil, e.explain(err)
	}
	for _, c := range containers {
		name := strings.TrimPrefix(first(c.Names), "/")
		idle := c.State != container.StateRunning && time.Since(time.Unix(c.Created, 0)) > unknownAge
		if !strings.HasPrefix(name, detachedPrefix) && r.abandoned(c.Labels, idle) {
			r.remove("container "+name, removeContainer(ctx, e.api, c.ID))
		}
	}
	e.reapRest(ctx, &r, mine)
	return r.removed, errors.Join(r.problems...)
}

func (e *Engine) reapRest(ctx context.Context, r *reaper, mine filters.Args) {
	images, err := e.api.ImageList(ctx, image.ListOptions{All: true, Filters: mine})
	r.note(err)
	for _, i := range images {
		if r.abandoned(i.Labels, false) {
			_, err := e.api.ImageRemove(ctx, i.ID, image.RemoveOptions{})
			r.remove("image "+i.ID, err)
		}
	}
	networks, err := e.api.NetworkList(ctx, network.ListOptions{Filters: mine})
	r.note(err)
	for _, n := range networks {
		if r.abandoned(n.Labels, false) {
			r.remove("network "+n.Name, e.api.NetworkRemove(ctx, n.ID))
		}
	}
	volumes, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: mine})
	r.note(err)
	for _, v := range volumes.Volumes {
		if r.abandoned(v.Labels, false) {
			r.remove("volume "+v.Name, e.api.VolumeRemove(ctx, v.Name, false))
		}
	}
}

// reaper notes what it does.
type reaper struct {
	engine   *Engine
	me       owner
	removed  []string
	problems []error
}

// abandoned decides by the owner; idle is for owners nobody can look for.
func (r *reaper) abandoned(labels map[string]string, idle bool) bool {
	o, ok := parseOwner(labels[labelOwner])
	if !ok {
		return false
	}
	switch o.life(r.me) {
	case dead:
		return true
	case unknown:
		return idle
	}
	return false
}

// remove notes an attempt. What is gone was another run's to remove, and what
// is in use belongs to a container that was detached.
func (r *reaper) remove(what string, err error) {
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return
	}
	if err != nil {
		r.problems = append(r.problems, fmt.Errorf("removing %s: %w", what, r.engine.explain(err)))
		return
	}
	r.removed = append(r.removed, what)
}

func (r *reaper) note(err error) {
	if err != nil {
		r.problems = append(r.problems, r.engine.explain(err))
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
