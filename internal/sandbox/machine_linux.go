package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/guest"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// Machine is a tree with a first process in it. Its methods are safe for
// concurrent use, but for Close.
type Machine struct {
	roots   *Roots
	held    *held
	work    *work
	limits  *cgroup
	process *process
	options Options
	since   time.Time
}

// Start makes a machine whose tree is that of the chain, unpacking what is not
// unpacked yet. Nothing is left behind when it fails.
func (r *Roots) Start(ctx context.Context, chain []Layer, o Options) (*Machine, error) {
	if o.Hostname == "" {
		o.Hostname = "imgbake"
	}
	if o.Isolation == Chroot {
		if o.ownNetwork() {
			return nil, fmt.Errorf("%w: network %s: a chroot has this machine's network", ErrUnavailable, o.Network)
		}
		return r.start(ctx, chain, o)
	}
	given := o.Isolation
	o.Isolation = Namespaces
	m, err := r.start(ctx, chain, o)
	if given == "" && errors.Is(err, ErrUnavailable) && os.Geteuid() == 0 && !o.ownNetwork() && !errors.Is(err, errNoLimits) {
		if o.Notify != nil {
			o.Notify(fmt.Sprintf("using a chroot, in which there is no /proc: no namespaces: %v", err))
		}
		o.Isolation = Chroot
		return r.start(ctx, chain, o)
	}
	return m, err
}

func (r *Roots) start(ctx context.Context, chain []Layer, o Options) (_ *Machine, err error) {
	m := &Machine{roots: r, options: o}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.work, err = r.newWork(); err != nil {
		return nil, err
	}
	if m.limits, err = m.work.limit(o.Limits); err != nil {
		return nil, err
	}
	helper, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if helper, err = filepath.EvalSymlinks(helper); err != nil {
		return nil, err
	}
	resolv, _ := os.ReadFile("/etc/resolv.conf") // none: names are not resolved
	if o.Network == PrivateNetwork {
		resolv = resolvedBy(resolv, wayOutResolver)
	}
	s := setup{Options: o, Root: m.work.path, UserNS: r.userNS, Squashed: r.squash, Helper: helper, Resolv: resolv, limits: m.limits}
	if o.Isolation == Chroot {
		s.Root = filepath.Join(m.work.path, mergedDir)
		err = feedAll(ctx, setup{Options: Options{Isolation: Chroot}, Root: s.Root, Plain: true, Unpack: true}, chain)
	} else if m.held, err = r.hold(ctx, chain); err == nil {
		s.Lowers = m.held.folders
		if len(s.Lowers) == 0 { // overlayfs wants one
			s.Lowers = []string{filepath.Join(m.work.path, "empty")}
			err = os.Mkdir(s.Lowers[0], 0o755)
		}
	}
	if err != nil {
		return nil, err
	}
	m.since = time.Now()
	if m.process, err = spawn(ctx, s, nil); err != nil {
		return nil, m.limits.explain(err)
	}
	return m, nil
}

// Isolation is how the machine is kept apart.
func (m *Machine) Isolation() string { return m.options.Isolation }

// Close ends everything in the machine and removes it.
func (m *Machine) Close() error {
	if m.process != nil {
		if m.options.Isolation == Chroot {
			m.process.control.Close()
			endAll(filepath.Join(m.work.path, mergedDir))
		}
		m.process.end()
		m.process = nil
	}
	var err error
	if m.work != nil {
		err = m.roots.remove(m.work)
		m.work = nil
	}
	if m.held != nil {
		m.held.release()
	}
	return err
}

// Exec implements bake.Executor.
func (m *Machine) Exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	status, err := m.exec(ctx, cmd)
	if err != nil {
		return status, m.limits.explain(err)
	}
	hit := m.limits.hit() // asked in any case: what one command did is not to be blamed on the next
	if status != 0 && hit != "" && m.options.Notify != nil {
		m.options.Notify(hit)
	}
	return status, nil
}

func (m *Machine) exec(ctx context.Context, cmd bake.Cmd) (int, error) {
	if len(cmd.Args) == 0 {
		return -1, errors.New("no command")
	}
	id, dir := rand.Text(), cmd.Dir
	if dir == "" {
		dir = "?" + path.Join("/", m.options.Dir)
	}
	r := request{
		Op: "exec", Args: append([]string{id, dir}, cmd.Args...), User: cmd.User,
		Env: append(append([]string{}, m.options.Env...), cmd.Env...),
	}
	status, err := m.ask(ctx, r, cmd.Stdin, cmd.Stdout, cmd.Stderr)
	if err == nil && status >= guest.StatusCannotRun {
		err = m.whyNot(ctx, id)
	}
	if err != nil {
		return -1, err
	}
	return status, nil
}

// whyNot tells an exit status that is the command's own, nil, from one that
// says that the command could not run.
func (m *Machine) whyNot(ctx context.Context, id string) error {
	var why bytes.Buffer
	err := m.guest(ctx, nil, &why, guest.Why, id)
	switch {
	case err == nil && why.Len() > 0:
		return errors.New(why.String())
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("the command could not be started, or was ended from outside")
	}
	return err
}

// Put implements bake.Communicator.
func (m *Machine) Put(ctx context.Context, dst string, tar io.Reader) error {
	if err := m.guest(ctx, tar, nil, guest.Put, remotePath(dst)); err != nil {
		return fmt.Errorf("copying to %s: %w", dst, err)
	}
	return nil
}

// Get implements bake.Communicator.
func (m *Machine) Get(ctx context.Context, src string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	go func() { in.CloseWithError(m.guest(ctx, nil, in, guest.Get, remotePath(src))) }()
	var head [512]byte
	n, err := io.ReadFull(out, head[:]) // the first bytes tell whether there is anything
	if err != nil {
		cancel()
		out.Close()
		if errors.Is(err, fs.ErrNotExist) {
			err = &fs.PathError{Op: "get", Path: src, Err: fs.ErrNotExist}
		}
		return nil, fmt.Errorf("copying from %s: %w", src, err)
	}
	return &stream{io.MultiReader(bytes.NewReader(head[:n]), out), out, cancel}, nil
}

// stream is what Get gives; closing it early ends the helper.
type stream struct {
	io.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
}

// Close ends the stream.
func (s *stream) Close() error {
	s.cancel()
	return s.pipe.Close()
}

// guest runs a subcommand of the helper in the first process.
func (m *Machine) guest(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	var stderr bytes.Buffer
	status, err := m.ask(ctx, request{Op: "guest", Args: args}, stdin, stdout, &stderr)
	switch {
	case err != nil:
		return err
	case status == guest.StatusMissing:
		return fs.ErrNotExist
	case status != 0:
		return errors.New(strings.TrimSpace(stderr.String()))
	}
	return nil
}

// Delta writes the difference of the tree to the index, as layer.Delta does.
func (m *Machine) Delta(ctx context.Context, base *layer.Index, w io.Writer) error {
	_, err := m.ask(ctx, request{Op: "delta", Since: m.since.UnixNano()}, encoded(base), w, nil)
	return err
}

// Settle gives the tree the times of the index, as layer.Settle does.
func (m *Machine) Settle(ctx context.Context, index *layer.Index) error {
	_, err := m.ask(ctx, request{Op: "settle", Since: m.since.UnixNano()}, encoded(index), nil, nil)
	m.since = time.Now()
	return err
}

func encoded(index *layer.Index) io.Reader {
	out, in := io.Pipe()
	go func() { in.CloseWithError(index.Encode(in)) }()
	return out
}

// Mount shows something in the tree until Unmount. content is that of a file.
func (m *Machine) Mount(ctx context.Context, mount Mount, content io.Reader) error {
	_, err := m.ask(ctx, request{Op: "mount", Mount: &mount}, content, nil, nil)
	return err
}

// Listen makes a socket at the path, until Unmount, and returns its listener.
func (m *Machine) Listen(ctx context.Context, target string) (net.Listener, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	r := request{Op: "mount", Mount: &Mount{Target: target, Socket: true}}
	if _, err := m.ask(ctx, r, passedOn{theirs}, nil, nil); err != nil {
		return nil, err
	}
	files, err := take(ours)
	if err != nil {
		return nil, fmt.Errorf("socket at %s: %w", target, err)
	}
	defer closeAll(files)
	if len(files) != 1 {
		return nil, fmt.Errorf("socket at %s: %d descriptors came", target, len(files))
	}
	return net.FileListener(files[0])
}

// Unmount undoes every Mount.
func (m *Machine) Unmount(ctx context.Context) error {
	_, err := m.ask(ctx, request{Op: "unmount"}, nil, nil, nil)
	return err
}

// cancelTime is how long a machine may take to end what was cancelled.
const cancelTime = 5 * time.Second

// drainTime is how long output may still come after its command has ended: from
// what it left running.
const drainTime = 100 * time.Millisecond

// ask sends a request and waits for the answer.
func (m *Machine) ask(ctx context.Context, r request, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var p plumbing
	defer p.close()
	in, err := p.input(stdin)
	if err != nil {
		return 0, err
	}
	out, err := p.output(stdout)
	if err != nil {
		return 0, err
	}
	errOut := out
	if !sameWriter(stdout, stderr) { // one writer gets one pipe: it need not be safe for two
		if errOut, err = p.output(stderr); err != nil {
			return 0, err
		}
	}
	talk, theirs, err := socketPair()
	if err != nil {
		return 0, err
	}
	defer talk.Close()
	err = pass(m.process.control, theirs, in, out, errOut)
	theirs.Close()
	p.passed()
	if err != nil {
		return 0, fmt.Errorf("the machine is gone: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		_ = talk.CloseWrite()
		p.close() // what the machine reads or writes by itself ends too
		_ = talk.SetReadDeadline(time.Now().Add(cancelTime))
	})()
	if err := json.NewEncoder(talk).Encode(r); err != nil {
		return 0, fmt.Errorf("the machine is gone: %w", err)
	}
	var answer reply
	if err := json.NewDecoder(talk).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return 0, errors.New("the machine ended")
	}
	if err := p.drain(); err != nil {
		return 0, err
	}
	if ctx.Err() != nil && answer.Error != "" {
		return 0, context.Cause(ctx)
	}
	return answer.Status, answer.err()
}

// plumbing connects readers and writers to the descriptors of a command.
type plumbing struct {
	theirs, ours []*os.File
	outputs      sync.WaitGroup
	mu           sync.Mutex
	failed       error // of the reader or a writer
}

func (p *plumbing) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
}

// input is a descriptor from which the reader's content can be read.
func (p *plumbing) input(r io.Reader) (*os.File, error) {
	switch r := r.(type) {
	case nil:
		return p.null(os.O_RDONLY)
	case passedOn:
		p.theirs = append(p.theirs, r.File)
		return r.File, nil
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs, p.ours = append(p.theirs, theirs), append(p.ours, ours)
	go func() {
		defer ours.Close()
		if _, err := io.Copy(ours, readerOnly{r, p}); err != nil {
			return // the command does not read on; its status tells
		}
	}()
	return theirs, nil
}

// passedOn is a descriptor that the machine gets as it is.
type passedOn struct{ *os.File }

// readerOnly notes the reader's own errors.
type readerOnly struct {
	r io.Reader
	p *plumbing
}

// Read reads.
func (r readerOnly) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && err != io.EOF {
		r.p.fail(err)
	}
	return n, err
}

// output is a descriptor whose writes go to the writer.
func (p *plumbing) output(w io.Writer) (*os.File, error) {
	if w == nil {
		return p.null(os.O_WRONLY)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs, p.ours = append(p.theirs, theirs), append(p.ours, ours)
	p.outputs.Go(func() {
		_, err := io.Copy(w, ours)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = copyReady(w, ours)
		}
		if err != nil && !errors.Is(err, os.ErrClosed) {
			p.fail(err)
			ours.Close() // the command learns that nobody listens
		}
	})
	return theirs, nil
}

// copyReady copies what can be read without waiting.
func copyReady(w io.Writer, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n := 0
		if err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) }); err != nil || n <= 0 {
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// sameWriter reports whether two writers are one.
func sameWriter(a, b io.Writer) bool {
	if a == nil || b == nil || !reflect.TypeOf(a).Comparable() || !reflect.TypeOf(b).Comparable() {
		return false
	}
	return a == b
}

func (p *plumbing) null(flag int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err == nil {
		p.theirs = append(p.theirs, f)
	}
	return f, err
}

// passed closes what the machine has now.
func (p *plumbing) passed() {
	closeAll(p.theirs)
	p.theirs = nil
}

// drain waits for the rest of the output, but not for what a command left
// running may still say.
func (p *plumbing) drain() error {
	for _, f := range p.ours {
		_ = f.SetReadDeadline(time.Now().Add(drainTime))
	}
	p.outputs.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *plumbing) close() {
	closeAll(p.theirs)
	closeAll(p.ours)
}

// remotePath makes a path of the machine absolute and clean. A slash at its end
// stays: it says that a link shall be followed.
func remotePath(p string) string {
	clean := path.Join("/", p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
