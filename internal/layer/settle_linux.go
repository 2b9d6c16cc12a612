package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// settle is Settle.
func settle(ctx context.Context, root string, index *Index, opts SettleOptions) error {
	root, skip, err := liveRoot(root, opts.Skip)
	if err != nil {
		return err
	}
	s := settler{ctx: ctx, index: index, skip: skip, look: root, since: opts.Since.Add(-ctimeSlack)}
	if opts.Upper != "" {
		if s.look, err = realPath(opts.Upper); err != nil {
			return err
		}
	}
	if s.root, err = os.OpenRoot(root); err != nil {
		return err
	}
	defer s.root.Close()
	return s.settle("")
}

// settler is one run of Settle.
type settler struct {
	ctx   context.Context
	index *Index
	skip  skipper
	look  string // where to look for entries
	root  *os.Root
	since time.Time
}

// settle settles what is below a path, then the path.
func (s *settler) settle(p string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	host := hostPath(s.look, p)
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // gone since its directory was read
		}
		return &os.PathError{Op: "lstat", Path: host, Err: err}
	}
	n, ok := nodeOf(p, &st)
	if !ok {
		return nil
	}
	if n.Type == Dir {
		names, err := readNames(host)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, name := range names {
			if p := below(p, name); !s.skip.skips(p) {
				if err := s.settle(p); err != nil {
					return err
				}
			}
		}
	}
	e, ok := s.index.Lookup(p)
	if !ok || e.Type != n.Type || e.ModTime == n.ModTime && (st.Mtim.Nsec == 0 || n.ctime.Before(s.since)) {
		return nil
	}
	err := s.set(p, e.ModTime)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EPERM) { // EPERM: its owner is outside of this user namespace, so no step made it
		return fmt.Errorf("settle the time of %q: %w", clip(p), err)
	}
	return nil
}

// set sets a modification time; of a symbolic link, its own.
func (s *settler) set(p string, seconds int64) error {
	dir, err := s.root.Open(orDot(parent(p)))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := path.Base(orDot(p))
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: seconds}}
	return unix.UtimesNanoAt(int(dir.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW)
}
