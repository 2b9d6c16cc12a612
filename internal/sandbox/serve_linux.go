package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// server is a machine's first process at work.
type server struct {
	setup setup

	mu       sync.Mutex
	children map[int]chan unix.WaitStatus
	mounts   []mounted
}

func newServer(s setup) *server {
	return &server{setup: s, children: map[int]chan unix.WaitStatus{}}
}

// serve answers requests until the other end is gone. The end of the first
// process of a pid namespace ends all others in it.
func (s *server) serve(control *net.UnixConn) int {
	go s.reap()
	for {
		files, err := take(control)
		if err != nil {
			return 0
		}
		go s.converse(files)
	}
}

// converse handles one request. The conversation's end, before the answer, is
// a cancellation.
func (s *server) converse(files []*os.File) {
	defer closeAll(files)
	if len(files) != maxDescriptors {
		return
	}
	talk, err := unixConn(files[0])
	if err != nil {
		return
	}
	defer talk.Close()
	in := bufio.NewReader(talk)
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	status, err := s.do(ctx, r, files[1], files[2], files[3])
	closeAll(files[1:]) // what is read ends before the answer comes
	_ = json.NewEncoder(talk).Encode(answer(status, err))
}

func (s *server) do(ctx context.Context, r request, stdin, stdout, stderr *os.File) (int, error) {
	switch r.Op {
	case "exec":
		return s.exec(ctx, r, stdin, stdout, stderr)
	case "guest":
		return s.guest(ctx, r.Args, stdin, stdout, stderr)
	case "delta":
		return 0, s.delta(ctx, r, stdin, stdout)
	case "settle":
		return 0, s.settle(ctx, r, stdin)
	case "mount":
		return 0, s.mount(*r.Mount, stdin)
	case "unmount":
		return 0, s.unmount()
	}
	return 0, fmt.Errorf("%q: unknown request", r.Op)
}

// exec starts the helper as the command's parent, with the command's user and
// rights, and ends all it started when the request is cancelled.
func (s *server) exec(ctx context.Context, r request, stdin, stdout, stderr *os.File) (int, error) {
	who, err := lookupUser(r.User)
	if err != nil {
		return 0, err
	}
	env := withDefaults(r.Env, who, s.setup.Hostname, r.TTY)
	args := append([]string{guest.Path, guest.Exec}, r.Args...)
	files := []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()}
	pid, ended, err := s.start(args, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid: true, Setctty: r.TTY, Ctty: 0,
			Credential: credential(who, s.setup.Squashed),
		},
	})
	if err != nil {
		return 0, fmt.Errorf("starting the command: %w", err)
	}
	select {
	case status := <-ended:
		return exitStatus(status), nil
	case <-ctx.Done():
		s.kill(r.Args[0], pid)
		<-ended
		return 0, context.Cause(ctx)
	}
}

// guest runs a subcommand of the helper as a process of its own, with a
// command's rights and descriptors: a path such as /proc/self/fd/9/.. is the
// tree's to choose, and in this process it could lead out.
func (s *server) guest(ctx context.Context, args []string, stdin, stdout, stderr *os.File) (int, error) {
	pid, ended, err := s.start(append([]string{guest.Path}, args...), &syscall.ProcAttr{
		Dir: "/", Env: []string{defaultPath}, Files: []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("starting the helper: %w", err)
	}
	select {
	case status := <-ended:
		return exitStatus(status), nil
	case <-ctx.Done():
		_ = unix.Kill(pid, unix.SIGKILL)
		<-ended
		return 0, context.Cause(ctx)
	}
}

func (s *server) kill(id string, pid int) {
	proc := "/proc"
	if s.setup.Isolation == Chroot {
		proc = "." // see chroot
	}
	guest.Main([]string{guest.Kill, id, proc}, strings.NewReader(""), io.Discard, io.Discard)
	_ = unix.Kill(pid, unix.SIGKILL)
}

func exitStatus(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// start starts a process with the rights of commands. They are those of the
// thread that starts it, which is then thrown away.
func (s *server) start(args []string, attr *syscall.ProcAttr) (pid int, ended chan unix.WaitStatus, err error) {
	onThread(func() {
		if err = s.setup.confine(); err != nil {
			return
		}
		s.mu.Lock() // so that the end of a child is not seen before it is known
		defer s.mu.Unlock()
		if pid, err = syscall.ForkExec(args[0], args, attr); err == nil {
			ended = make(chan unix.WaitStatus, 1)
			s.children[pid] = ended
		}
	})
	return pid, ended, err
}

// onThread calls f on a thread that ends with it, and waits. The main thread
// does not end, and what it may do others take for what the process may do: it
// is never the one.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // never unlocked: the thread ends with the goroutine
	}()
	<-done
}

// reap takes the status of every process that ends: commands, and what they
// left behind.
func (s *server) reap() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	for range signals {
		for {
			s.mu.Lock()
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			if pid > 0 && s.children[pid] != nil {
				s.children[pid] <- status
				delete(s.children, pid)
			}
			s.mu.Unlock()
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// lookupUser finds user[:group], by name or number, as engines do.
func lookupUser(spec string) (*user.ExecUser, error) {
	who, err := user.GetExecUserPath(spec, &user.ExecUser{Home: "/"}, "/etc/passwd", "/etc/group")
	if err != nil {
		return nil, fmt.Errorf("user %q: is there one in the image? %w", spec, err)
	}
	if spec == "" || who.Uid == 0 {
		if who.Home == "" || who.Home == "/" {
			if root, err := user.GetExecUserPath("0", &user.ExecUser{Home: "/root"}, "/etc/passwd", "/etc/group"); err == nil {
				who.Home = root.Home
			}
		}
	}
	return who, nil
}

func credential(who *user.ExecUser, squashed bool) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(who.Uid), Gid: uint32(who.Gid), NoSetGroups: squashed}
	c.Groups = []uint32{c.Gid} // engines put the group itself among them
	for _, gid := range who.Sgids {
		c.Groups = append(c.Groups, uint32(gid))
	}
	return c
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// withDefaults is the environment that engines give to every command, in their
// order. Later entries win, and each name is there once.
func withDefaults(env []string, who *user.ExecUser, hostname string, tty bool) []string {
	all := []string{defaultPath, "HOSTNAME=" + hostname}
	if tty {
		all = append(all, "TERM=xterm")
	}
	at := map[string]int{}
	var out []string
	for _, entry := range append(all, env...) {
		name, _, _ := strings.Cut(entry, "=")
		if i, ok := at[name]; ok {
			out[i] = entry
			continue
		}
		at[name] = len(out)
		out = append(out, entry)
	}
	if _, ok := at["HOME"]; !ok {
		out = append(out, "HOME="+who.Home)
	}
	return out
}

// delta reads an index and writes the difference of the tree to it.
func (s *server) delta(ctx context.Context, r request, in io.Reader, out io.Writer) error {
	base, err := layer.DecodeIndex(bufio.NewReaderSize(in, 1<<16))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<18)
	opts := layer.DeltaOptions{Since: time.Unix(0, r.Since), Skip: slices.Concat(s.skip(), s.unmade(base), untouched(base))}
	if s.setup.Isolation != Chroot {
		err = layer.DeltaUpper(ctx, "/", upperView, base, opts, w)
	} else {
		opts.TrustCtime = layer.TrustworthyCtime("/")
		err = layer.Delta(ctx, "/", base, opts, w)
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// unmade are the device nodes of the tree that are not there, because an
// ordinary user cannot make them: they count as unchanged.
func (s *server) unmade(base *layer.Index) []string {
	var paths []string
	if s.setup.UserNS {
		for e := range base.All() {
			if e.Type == layer.Char || e.Type == layer.Block {
				paths = append(paths, e.Path)
			}
		}
	}
	return paths
}

// untouched is what a machine has of ours as long as nobody changed it.
func untouched(base *layer.Index) []string {
	_, there := base.Lookup(strings.TrimPrefix(mtab, "/"))
	if target, err := os.Readlink(mtab); err != nil || target != mtabTarget || there {
		return nil
	}
	return []string{mtab}
}

// settle reads an index and gives the tree its times.
func (s *server) settle(ctx context.Context, r request, in io.Reader) error {
	index, err := layer.DecodeIndex(bufio.NewReaderSize(in, 1<<16))
	if err != nil {
		return err
	}
	opts := layer.SettleOptions{Since: time.Unix(0, r.Since), Skip: s.skip()}
	if s.setup.Isolation != Chroot {
		opts.Upper = upperView
	}
	return layer.Settle(ctx, "/", index, opts)
}
