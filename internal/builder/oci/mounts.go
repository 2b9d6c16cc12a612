package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/sandbox"
)

// mountsDir is where caches are, below the store.
const mountsDir = "mounts"

// unmountTime bounds the end of mounts, which no cancellation cuts short.
const unmountTime = 10 * time.Second

// shared is the folder of caches, if the job has any.
func (b *builder) shared(job bake.Job) (string, error) {
	for _, m := range job.Mounts {
		if m.Type != bake.MountCache {
			continue
		}
		dir := filepath.Join(b.deps.Store.Dir(), mountsDir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("folder for cache mounts: %w", err)
		}
		return filepath.EvalSymlinks(dir) // the sandbox looks it up from another root
	}
	return "", nil
}

// folderName is a cache's folder: its id as one file name.
func folderName(id string) string {
	return strings.ReplaceAll(url.PathEscape(id), ".", "%2E") // no . and no ..
}

// Mount implements bake.Mounter.
func (m *machine) Mount(ctx context.Context, mounts []bake.Mount) (func() error, error) {
	box, err := m.live(ctx) // settled, before anything lies over the tree
	if err != nil {
		return nil, err
	}
	var relays []*relay
	unmount := func() error {
		for _, r := range relays {
			r.close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), unmountTime)
		defer cancel()
		return box.Unmount(ctx)
	}
	for _, mount := range mounts {
		r, err := m.mount(ctx, box, mount)
		if err != nil {
			return nil, errors.Join(err, unmount())
		}
		if r != nil {
			relays = append(relays, r)
		}
	}
	return unmount, nil
}

func (m *machine) mount(ctx context.Context, box *sandbox.Machine, mount bake.Mount) (*relay, error) {
	shown := sandbox.Mount{Target: mount.Target, UID: mount.UID, GID: mount.GID, Mode: uint32(mount.Mode)}
	var content io.Reader
	switch mount.Type {
	case bake.MountSecret:
		shown.File, content = true, strings.NewReader(mount.Content.Reveal())
	case bake.MountCache:
		shown.Shared = folderName(mount.ID)
		if box.Isolation() == sandbox.Chroot && m.job.Notify != nil {
			m.job.Notify("isolation chroot cannot show the cache at " + mount.Target + ": it is empty, and not kept")
		}
	case bake.MountTmpfs:
		shown.Options = fmt.Sprintf("uid=%d,gid=%d,mode=%o", mount.UID, mount.GID, mount.Mode)
		if mount.Size > 0 {
			shown.Options += fmt.Sprintf(",size=%d", mount.Size)
		}
	case bake.MountSSH:
		listener, err := box.Listen(ctx, mount.Target)
		if err != nil {
			return nil, err
		}
		return newRelay(listener, mount.Socket), nil
	default:
		return nil, fmt.Errorf("mount at %s: unknown type %q", mount.Target, mount.Type)
	}
	return nil, box.Mount(ctx, shown, content)
}

// relay connects those who connect to a listener to a socket of this machine.
type relay struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu    sync.Mutex
	ended bool
	open  map[net.Conn]bool
}

func newRelay(listener net.Listener, to string) *relay {
	r := &relay{listener: listener, to: to, open: map[net.Conn]bool{}}
	r.running.Go(r.accept)
	return r
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.connect(client) })
	}
}

// connect copies both ways until one side ends.
func (r *relay) connect(client net.Conn) {
	defer client.Close()
	agent, err := net.Dial("unix", r.to)
	if err != nil {
		return // the client sees the end of its connection
	}
	defer agent.Close()
	if !r.keep(client, agent) {
		return
	}
	defer r.forget(client, agent)
	r.running.Go(func() {
		_, _ = io.Copy(client, agent)
		client.Close()
	})
	_, _ = io.Copy(agent, client)
}

// keep notes connections for close. It reports false after that.
func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.open[c] = true
	}
	return !r.ended
}

func (r *relay) forget(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.open, c)
	}
}

// close ends every connection and waits for that.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
