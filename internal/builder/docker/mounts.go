package docker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/guest"
)

const (
	// labelCache is the id of the cache that a volume is. The reaper leaves
	// these volumes alone.
	labelCache = "dev.imgbake.cache"

	// unmountTime bounds the end of mounts, which no cancellation cuts short.
	unmountTime = 10 * time.Second
)

// beside is a second container, in which no step runs. It sees the processes of
// the first and may mount, so that the helper in it can show something in the
// first one while that runs. The engine itself cannot: what a container has
// mounted is settled when it is made.
type beside struct {
	box
	lost error // a mount that could not be ended
}

// Mount implements bake.Mounter.
func (m *machine) Mount(ctx context.Context, mounts []bake.Mount) (func() error, error) {
	if err := m.settle(ctx); err != nil {
		return nil, m.engine.explain(err)
	}
	if m.beside == nil {
		started, err := m.startBeside(ctx)
		if err != nil {
			return nil, m.refused(ctx, err)
		}
		m.beside = started
	}
	if m.beside.lost != nil {
		return nil, m.beside.lost
	}
	s, err := m.beside.show(ctx, mounts)
	if err != nil {
		return nil, m.notShown(ctx, err)
	}
	return func() error {
		m.beside.lost = m.engine.explain(s.end())
		return m.beside.lost
	}, nil
}

// notShown is why something is not: the helper tells, and has undone it, or else
// nobody knows what is left.
func (m *machine) notShown(ctx context.Context, err error) error {
	var failed *helperError
	switch {
	case errors.As(err, &failed) && failed.status == guest.StatusRefused:
		return m.refused(ctx, err)
	case !errors.As(err, &failed) || failed.status != guest.StatusFailed:
		m.beside.lost = m.engine.explain(err)
	}
	return m.engine.explain(err)
}

// refused says that it is the engine that does not let us.
func (m *machine) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil || isConnectionLost(err) {
		return m.engine.explain(err)
	}
	return diag.Problem{
		Text: "this Docker Engine cannot show a mount to one step, which takes a second container that may mount: " + err.Error(),
		Hint: "bake it with --engine oci, which needs no Docker Engine",
	}
}

func (m *machine) startBeside(ctx context.Context) (*beside, error) {
	program, err := m.engine.helperBinary()
	if err != nil {
		return nil, err
	}
	b := &beside{box: box{api: m.engine.api, name: m.name + "-mounts"}}
	config := m.idleConfig(m.from)
	host := &container.HostConfig{
		CapAdd:      []string{"SYS_ADMIN", "SYS_PTRACE"}, // to mount; to reach process 1, whatever it may do itself
		SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined", "label=disable"},
		PidMode:     container.PidMode("container:" + m.id),
		NetworkMode: "none",
		LogConfig:   container.LogConfig{Type: "none"},
		Mounts:      cacheVolumes(m.job.Mounts),
	}
	if _, err = b.create(ctx, config, host, m.base.createPlatform(m.engine)); err == nil {
		err = b.run(ctx, program)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return nil, errors.Join(err, b.remove(ctx))
	}
	return b, nil
}

// close removes the container. What it shows ends with it or with the first one.
func (b *beside) close(ctx context.Context) error {
	if b == nil {
		return nil
	}
	return b.remove(ctx)
}

// cacheVolumes are the volumes of a job's caches, one for each id. They are not
// the reaper's, and outlive the bake.
func cacheVolumes(mounts []bake.Mount) []mount.Mount {
	var volumes []mount.Mount
	seen := map[string]bool{}
	for _, m := range mounts {
		if m.Type != bake.MountCache || seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		volumes = append(volumes, mount.Mount{
			Type: mount.TypeVolume, Source: volumeName(m.ID), Target: volumePath(m.ID),
			VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: map[string]string{labelCache: m.ID}},
		})
	}
	return volumes
}

// volumeName is a cache's id as far as an engine takes it as a name, and what
// tells it from others that look the same then.
func volumeName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%scache-%s-%x", namePrefix, cleanName(id, 40), sum[:6])
}

// volumePath is where the second container has it.
func volumePath(id string) string { return path.Join(guest.SharedDir, volumeName(id)) }

// session is what a step is shown: it lasts as long as the helper that shows it.
type session struct {
	input  *io.PipeWriter
	cancel context.CancelFunc
	ended  chan error
}

// show starts the helper, tells it what to mount, and returns when that is done.
// From then on it only carries what goes through sockets.
func (b *beside) show(ctx context.Context, mounts []bake.Mount) (*session, error) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)() // it lasts until end, once it is shown
	requests, input := io.Pipe()
	output, answers := io.Pipe()
	s := &session{input: input, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		err := b.helper(lasting, requests, answers, guest.Mounts)
		requests.CloseWithError(io.ErrClosedPipe)
		answers.CloseWithError(err)
		s.ended <- err
	}()
	err := writeMounts(input, mounts)
	if err == nil {
		_, err = io.ReadFull(output, make([]byte, 1))
	}
	if err != nil {
		input.CloseWithError(err)
		go func() { _, _ = io.Copy(io.Discard, output) }()
		if cause := <-s.ended; cause != nil {
			err = cause
		}
		cancel()
		return nil, err
	}
	sockets := map[string]string{}
	for _, m := range mounts {
		sockets[m.Target] = m.Socket
	}
	relay := guest.NewRelay(input, func(target string) (io.ReadWriteCloser, error) { return net.Dial("unix", sockets[target]) })
	go func() { _ = relay.Run(output) }() // to the end of the output; why that ended, end tells
	return s, nil
}

// end tells the helper to undo it all, by the end of its input.
func (s *session) end() error {
	defer s.cancel()
	s.input.Close()
	timer := time.NewTimer(unmountTime)
	defer timer.Stop()
	select {
	case err := <-s.ended:
		return err
	case <-timer.C:
		return fmt.Errorf("the mounts did not end within %s", unmountTime)
	}
}

// writeMounts tells the helper what to show, as a tar: see guest.Mounts.
func writeMounts(w io.Writer, mounts []bake.Mount) error {
	tw := tar.NewWriter(w)
	for _, m := range mounts {
		h := &tar.Header{Name: m.Target, Uid: m.UID, Gid: m.GID, Mode: int64(m.Mode), Format: tar.FormatPAX}
		content := ""
		switch m.Type {
		case bake.MountSecret:
			content = m.Content.Reveal()
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		case bake.MountCache:
			h.Typeflag, h.Linkname = tar.TypeSymlink, volumePath(m.ID)
		case bake.MountTmpfs:
			h.Typeflag = tar.TypeDir
			h.PAXRecords = map[string]string{guest.SizeRecord: strconv.FormatInt(m.Size, 10)}
		case bake.MountSSH:
			h.Typeflag = tar.TypeFifo
		default:
			return fmt.Errorf("mount at %s: unknown type %q", m.Target, m.Type)
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			return err
		}
	}
	return tw.Close()
}
