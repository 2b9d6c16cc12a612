package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// locked runs f while no other process or Store does.
func (s *Store) locked(f func() error) error {
	lock, err := lockFile(s.path("lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close() // gives the lock up
	return f()
}

// lockFile locks a file. The kernel gives the lock up when the process ends,
// however it ends.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// processDir is the folder for one Store's unfinished files. A lock held on a
// file beside it tells that its process lives.
type processDir struct {
	dir  string
	lock *os.File
}

const lockSuffix = ".lock"

// newProcessDir is called with the store locked, so that nobody takes the
// folder for a dead one before its lock is held.
func newProcessDir(parent string) (*processDir, error) {
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(dir+lockSuffix, unix.LOCK_EX)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &processDir{dir, lock}, nil
}

func (p *processDir) remove() error {
	err := errors.Join(os.RemoveAll(p.dir), os.Remove(p.dir+lockSuffix))
	p.lock.Close()
	return err
}

// reap removes the folders of dead processes and reports whether other live
// ones are left. The store is locked. What cannot be removed is left to the
// next.
func reap(parent string) (alive int) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		dir := filepath.Join(parent, strings.TrimSuffix(e.Name(), lockSuffix))
		lock, err := lockFile(dir+lockSuffix, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) && e.IsDir() {
				alive++
			}
			continue
		}
		os.RemoveAll(dir)
		os.Remove(dir + lockSuffix)
		lock.Close()
	}
	return alive
}
