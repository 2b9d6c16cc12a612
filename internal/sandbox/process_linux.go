package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// child is a process that ends with this one.
type child struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

// run starts the process and sees it end. The kernel takes the end of the thread
// that started it for the end of this process.
func (c *child) run() error {
	started := make(chan error)
	c.ended = make(chan struct{})
	c.cmd.Stderr = &c.stderr
	go func() {
		defer close(c.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // what it says, it says before
		}
	}()
	return <-started
}

// process is this program as the first process of a machine.
type process struct {
	child
	control *net.UnixConn
	wayOut  *wayOut // nil: none is needed
}

// spawn starts a first process and waits until its tree is ready, or, where it
// unpacks or removes, done. input may be nil.
func spawn(ctx context.Context, s setup, input *os.File) (_ *process, err error) {
	control, theirControl, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirControl.Close()
	talk, theirTalk, err := socketPair()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer theirTalk.Close()
	defer talk.Close()
	defer context.AfterFunc(ctx, func() { talk.Close() })()

	p := &process{control: control}
	p.cmd = exec.Command("/proc/self/exe", command)
	p.cmd.Args[0], p.cmd.Env, p.cmd.Dir = "imgbake", []string{}, "/"
	p.cmd.ExtraFiles = []*os.File{theirControl, theirTalk}
	if input != nil {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, input)
	}
	p.cmd.SysProcAttr = s.attributes()
	if err := p.run(); err != nil {
		control.Close()
		return nil, deniedBy(fmt.Errorf("starting a machine: %w", err))
	}
	theirControl.Close() // so that the end of the process is seen here
	theirTalk.Close()
	defer func() {
		if err != nil {
			p.end()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
		}
	}()
	if err := s.limits.add(p.cmd.Process.Pid); err != nil { // it waits for the setup: nothing was run yet
		return nil, err
	}
	if s.UserNS && !s.Squashed {
		if err := mapIDs(ctx, p.cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	if s.Network == PrivateNetwork {
		if p.wayOut, err = openWayOut(ctx, p.cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	if err := json.NewEncoder(talk).Encode(s); err != nil {
		return nil, fmt.Errorf("starting a machine: %w", err)
	}
	var r reply
	if err := json.NewDecoder(talk).Decode(&r); err != nil {
		p.end()
		return nil, fmt.Errorf("starting a machine: its first process ended: %s", strings.TrimSpace(p.stderr.String()))
	}
	return p, r.err()
}

// end ends the process and what it runs. Its namespace ends with it.
func (p *process) end() {
	p.control.Close()
	_ = p.cmd.Process.Kill()
	<-p.ended
	if p.wayOut != nil {
		p.wayOut.end()
	}
}

func (r reply) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Denied:
		return fmt.Errorf("%w: %s", ErrUnavailable, r.Error)
	}
	return errors.New(r.Error)
}

func deniedBy(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// attributes are the namespaces of a first process.
func (s setup) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if s.Isolation == Chroot {
		return attr // it ends what it has started when its connection ends
	}
	attr.Pdeathsig = unix.SIGKILL // though it were stopped
	attr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if s.ownNetwork() {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if !s.UserNS {
		return attr
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	if s.Squashed {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return attr
	}
	// The ids are mapped after the program has started: until then it is
	// nobody, and keeps its rights in the namespace as ambient ones.
	for i := range lastCapability() + 1 {
		attr.AmbientCaps = append(attr.AmbientCaps, uintptr(i))
	}
	return attr
}

func lastCapability() int {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return len(capabilities) - 1
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return len(capabilities) - 1
	}
	return last
}

// mapIDs gives a process's user namespace this user as root and the subordinate
// ids as everybody else, by the programs that may do so (newuidmap(1)).
func mapIDs(ctx context.Context, pid int) error {
	for _, kind := range []struct {
		program, file string
		id            int
	}{{"newuidmap", "/etc/subuid", os.Geteuid()}, {"newgidmap", "/etc/subgid", os.Getegid()}} {
		ranges, err := subordinate(kind.file)
		if err != nil {
			return err
		}
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(kind.id), "1"}
		next := int64(1)
		for _, r := range ranges {
			args = append(args, strconv.FormatInt(next, 10), strconv.FormatInt(r.SubID, 10), strconv.FormatInt(r.Count, 10))
			next += r.Count
		}
		program, err := exec.LookPath(kind.program)
		if err != nil {
			return fmt.Errorf("%w: %s is not installed (Debian package uidmap)", ErrUnavailable, kind.program)
		}
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s: %w: %s", ErrUnavailable, filepath.Base(program), err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// subordinate are this user's ranges of a file such as /etc/subuid (subuid(5)).
func subordinate(file string) ([]user.SubID, error) {
	uid := strconv.Itoa(os.Geteuid())
	name := uid
	if who, err := user.CurrentUser(); err == nil {
		name = who.Name
	}
	ranges, err := user.ParseSubIDFileFilter(file, func(r user.SubID) bool { return r.Name == name || r.Name == uid })
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("%w: user %s has no subordinate ids in %s (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s)", ErrUnavailable, name, file, name)
	}
	return ranges, nil
}
