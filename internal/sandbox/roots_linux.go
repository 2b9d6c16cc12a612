package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// Roots is a folder of unpacked layers and of machines. Several processes may
// use it at the same time.
//
//	layers/ID/        what a layer changes on top of those below it; complete once it is there
//	layers/ID-flat/   the tree of many layers
//	layers/ID.lock    held shared while a machine uses the layer, exclusively while it is made or removed;
//	                  names the boot that the layer was unpacked in
//	work/             layers that are being unpacked, and machines; each with a lock beside it
type Roots struct {
	dir    string
	boot   string // this boot's name
	userNS bool
	squash bool
}

// Open opens the folder and removes what dead processes left in it.
func Open(dir string, squash bool) (*Roots, error) {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // none: every boot is the same
	r := &Roots{boot: strings.TrimSpace(string(boot)), userNS: os.Geteuid() != 0}
	r.squash = squash && r.userNS
	name := strconv.Itoa(os.Geteuid())
	if r.squash {
		name += "-squashed" // owners differ
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if abs, err = realPath(abs); err != nil {
		return nil, err
	}
	r.dir = filepath.Join(abs, name)
	for _, d := range []string{"layers", "work"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("folder for unpacked layers: %w", err)
		}
	}
	spread(filepath.Join(r.dir, "work"))
	r.reap()
	return r, nil
}

// spread asks the file system to make each folder in a directory in a place of
// its own. Else ext4 looks, for every new file, at all that were removed near it
// in the last minutes, as are those of the machine before. Not all can do it.
func spread(dir string) {
	const topDir = 0x20000 // FS_TOPDIR_FL, as chattr +T
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

func realPath(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder for unpacked layers: %w", err)
	}
	return filepath.EvalSymlinks(dir)
}

// chainIDs names what each layer is on top of those below it (image-spec
// config.md, ChainID), short enough for many in one mount option.
func chainIDs(chain []Layer) []string {
	ids := make([]string, len(chain))
	before := ""
	for i, l := range chain {
		sum := sha256.Sum256([]byte(before + " " + l.Digest + " " + l.DiffID))
		before = hex.EncodeToString(sum[:])
		ids[i] = before[:20]
	}
	return ids
}

// part is what one folder has: most often one layer.
type part struct {
	id     string
	layers []Layer
}

// parts are at most as many as overlayfs takes. In a longer chain the lowest
// layers are one, by the hundred: a chain that grows keeps what it has.
func parts(chain []Layer) []part {
	const hundred = 100
	var out []part
	ids, flat := chainIDs(chain), 0
	if over := len(chain) - maxLayers; over > 0 {
		flat = (over/hundred + 1) * hundred
		out = append(out, part{ids[flat-1] + "-flat", chain[:flat]})
	}
	for i := flat; i < len(chain); i++ {
		out = append(out, part{ids[i], chain[i : i+1]})
	}
	return out
}

// Has reports whether every layer of the chain is unpacked.
func (r *Roots) Has(chain []Layer) bool {
	for _, p := range parts(chain) {
		if !r.whole(p.id) {
			return false
		}
	}
	return len(chain) > 0
}

// Read reads a file of at most limit bytes by its path without symbolic links:
// that of the highest layer that has one, if the chain is unpacked. Whether it is
// the one of the tree is for the caller to tell.
func (r *Roots) Read(chain []Layer, name string, limit int64) ([]byte, error) {
	if !r.Has(chain) {
		return nil, fs.ErrNotExist
	}
	for _, p := range slices.Backward(parts(chain)) {
		data, err := readIn(r.layer(p.id), name, limit)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return nil, fs.ErrNotExist
}

func readIn(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// whole tells whether a layer is there. Nothing waits until one is on the disk,
// so one of another boot may be torn: the machine may have lost its power.
func (r *Roots) whole(id string) bool {
	boot, err := os.ReadFile(r.layer(id) + ".lock")
	if err != nil || string(boot) != r.boot {
		return false
	}
	_, err = os.Stat(r.layer(id))
	return err == nil
}

func (r *Roots) layer(id string) string { return filepath.Join(r.dir, "layers", id) }

// held is a chain of unpacked layers that nobody removes.
type held struct {
	folders []string // lowest first
	locks   []*os.File
}

func (h *held) release() {
	for _, f := range h.locks {
		f.Close()
	}
	h.locks = nil
}

// hold unpacks the layers of a chain that are not there yet.
func (r *Roots) hold(ctx context.Context, chain []Layer) (_ *held, err error) {
	h := &held{}
	defer func() {
		if err != nil {
			h.release()
		}
	}()
	for _, p := range parts(chain) {
		lock, err := r.layerReady(ctx, p, h.folders)
		if err != nil {
			return nil, err
		}
		h.locks = append(h.locks, lock)
		h.folders = append(h.folders, r.layer(p.id))
	}
	return h, nil
}

// layerReady returns a layer's lock, held shared. The layer is there then.
func (r *Roots) layerReady(ctx context.Context, p part, below []string) (*os.File, error) {
	folder := r.layer(p.id)
	lock, err := os.OpenFile(folder+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = flock(ctx, lock, unix.LOCK_SH); err != nil {
			break
		}
		if r.whole(p.id) {
			touch(folder + ".lock")
			return lock, nil
		}
		_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN) // two that hold it shared would wait for each other
		if err = flock(ctx, lock, unix.LOCK_EX); err != nil {
			break
		}
		if !r.whole(p.id) {
			if err = r.unpack(ctx, p, below); err != nil {
				break
			}
		}
	}
	lock.Close()
	return nil, err
}

// unpack makes a layer's folder, whole or not at all.
func (r *Roots) unpack(ctx context.Context, p part, below []string) error {
	folder := r.layer(p.id)
	if _, err := r.discard(folder); err != nil {
		return err
	}
	work, err := r.newWork()
	if err != nil {
		return err
	}
	defer func() { _ = r.remove(work) }() // what stays is reaped
	s := setup{Options: Options{Isolation: Namespaces}, Root: work.path, Lowers: below, UserNS: r.userNS, Squashed: r.squash, Unpack: true}
	if len(below) == 0 {
		s.Root, s.Plain = filepath.Join(work.path, upperDir), true
	}
	if err := feedAll(ctx, s, p.layers); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work.path, upperDir), folder); err != nil {
		return err
	}
	return os.WriteFile(folder+".lock", []byte(r.boot), 0o600)
}

// feedAll unpacks layers, one onto the other.
func feedAll(ctx context.Context, s setup, layers []Layer) error {
	for _, l := range layers {
		stream, err := l.Open()
		if err == nil {
			err = errors.Join(feedLayer(ctx, s, l, stream), stream.Close())
		}
		if err != nil {
			return fmt.Errorf("unpacking layer %s: %w", l.DiffID, err)
		}
	}
	return nil
}

// feedLayer unpacks a layer and checks that it is what its image says: others
// may rely on that.
func feedLayer(ctx context.Context, s setup, l Layer, stream io.Reader) error {
	plain, err := layer.Decompress(stream, layer.BakeLimits())
	if err != nil {
		return err
	}
	defer plain.Close()
	sum := sha256.New()
	all := io.TeeReader(plain, sum)
	if err := feed(ctx, s, all); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != l.DiffID {
		return fmt.Errorf("its content is %s, which is not what the image's configuration says", got)
	}
	return nil
}

// feed runs a first process that reads a layer.
func feed(ctx context.Context, s setup, stream io.Reader) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, stream)
		out.Close()
		copied <- err
	}()
	p, err := spawn(ctx, s, in)
	if p != nil {
		p.end()
	}
	in.Close() // whoever still writes ends now
	if copyErr := <-copied; copyErr != nil && !errors.Is(copyErr, unix.EPIPE) {
		return copyErr // the cause: what was read is short
	}
	return err
}

// work is a folder that a living process holds.
type work struct {
	path string
	lock *os.File
}

func (r *Roots) newWork() (*work, error) {
	w, err := r.lockWork()
	if err != nil {
		return nil, err
	}
	path := w.path
	for _, d := range []string{"", upperDir, workDir, mergedDir} {
		if err := os.Mkdir(filepath.Join(path, d), 0o755); err != nil {
			_ = r.remove(w)
			return nil, err
		}
	}
	return w, nil
}

// lockWork makes the lock of a new work folder. A process that reaps may come
// between its making and its locking, and remove it.
func (r *Roots) lockWork() (*work, error) {
	for {
		path := filepath.Join(r.dir, "work", strings.ToLower(rand.Text()[:16]))
		lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			lock.Close()
			return nil, err
		}
		if _, err := os.Stat(path + ".lock"); err == nil {
			return &work{path, lock}, nil
		}
		lock.Close()
	}
}

// remove removes a work folder; its lock goes last.
func (r *Roots) remove(w *work) error {
	err := w.dropLimits()
	if err == nil {
		err = r.removeAll(w.path)
	} else { // their names stay, for the next one to try; what is large goes
		for _, d := range []string{upperDir, workDir, mergedDir} {
			err = errors.Join(err, r.removeAll(filepath.Join(w.path, d)))
		}
	}
	if err == nil {
		err = os.Remove(w.path + ".lock")
	}
	w.lock.Close()
	return err
}

// removeAll removes a folder that may belong to users of a user namespace.
func (r *Roots) removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !r.userNS {
		return err
	}
	p, err := spawn(context.Background(), setup{Options: Options{Isolation: Namespaces}, UserNS: true, Squashed: r.squash, Remove: path}, nil)
	if p != nil {
		p.end()
	}
	return err
}

// reap removes the work folders whose processes are gone.
func (r *Roots) reap() {
	locks, _ := filepath.Glob(filepath.Join(r.dir, "work", "*.lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			lock.Close()
			continue
		}
		path := strings.TrimSuffix(name, ".lock")
		endAll(path)
		_ = r.remove(&work{path, lock}) // the next one tries again
	}
}

// endAll ends processes that a machine without a pid namespace left.
func endAll(root string) {
	for range 100 {
		pids := inside(root)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
}

// Prune removes layers that were not used for longer than age, unless they are
// in use. It tells how many.
func (r *Roots) Prune(age time.Duration, now time.Time) (int, error) {
	locks, err := filepath.Glob(filepath.Join(r.dir, "layers", "*.lock"))
	if err != nil {
		return 0, err
	}
	removed := 0
	var problems []error
	for _, name := range locks {
		info, err := os.Stat(name)
		if err != nil || now.Sub(info.ModTime()) < age {
			continue
		}
		ok, err := r.prune(name)
		if err != nil {
			problems = append(problems, err)
		}
		if ok {
			removed++
		}
	}
	return removed, errors.Join(problems...)
}

// prune removes a layer that nobody uses. Its lock stays: another process may
// have it open.
func (r *Roots) prune(lockName string) (bool, error) {
	lock, err := os.OpenFile(lockName, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false, nil
	}
	return r.discard(strings.TrimSuffix(lockName, ".lock"))
}

// discard removes a layer's folder, if it is there, at once for all who look.
func (r *Roots) discard(folder string) (bool, error) {
	if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	gone, err := r.newWork()
	if err != nil {
		return false, err
	}
	defer func() { _ = r.remove(gone) }()
	return true, os.Rename(folder, filepath.Join(gone.path, "layer"))
}

// flock waits for a lock, or for the end of the context.
func flock(ctx context.Context, f *os.File, how int) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}
