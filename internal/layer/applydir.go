package layer

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is an open directory of the tree that is made.
//
// A name is looked up in one directory at a time, and what it leads to is
// opened only if it is a directory itself: the kernel follows no symbolic link
// and sees no "..", so that nothing leads out of root, whatever the tree is
// turned into meanwhile. Links are followed here, by their text.
type directory struct {
	openFile
	path     string
	inherits bool // what is made in it gets an ACL from it
}

// maxOpen is how many directories are kept open: those above the entry, and
// some around it.
const maxOpen = 128

// dir opens the directory at a path, which in a layer is one without symbolic
// links on the way.
func (a *applier) dir(p string) (*directory, error) {
	if d, ok := a.open[p]; ok {
		return d, nil
	}
	f, err := a.openDir(p)
	if err != nil {
		return nil, err
	}
	d := &directory{openFile: f, path: p}
	d.inherits = a.opts.Xattrs && a.opts.Layer && hasDefaultACL(f)
	a.open[p] = d
	return d, nil
}

func (a *applier) openDir(p string) (openFile, error) {
	if p != "" && a.opts.Layer {
		up, err := a.dir(parent(p))
		if err != nil {
			return 0, err
		}
		return up.openDir(path.Base(p))
	}
	f, err := openDir(a.root, orDot(p))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return directory{openFile: openFile(f.Fd())}.openDir(".")
}

// tidy forgets directories before there are too many, or when a path may lead
// elsewhere by now.
func (a *applier) tidy() {
	if a.stale || len(a.open) > maxOpen {
		a.forget()
	}
}

func (a *applier) forget() {
	for _, d := range a.open {
		_ = d.Close()
	}
	clear(a.open)
	a.stale = false
}

// enter makes the directory of a name the current one. With create it is made
// when it is not there.
func (a *applier) enter(name string, create bool) (err error) {
	a.tidy()
	if a.opts.Layer {
		if name, err = a.resolve(name); err != nil {
			return err
		}
	}
	if create {
		a.at, err = a.mkdirs(name)
	} else {
		a.at, err = a.dir(name)
	}
	if err != nil {
		return err
	}
	return a.remember(a.at)
}

var errLoop = errors.New("too many symbolic links")

// notThere tells that there is no directory at a path.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, errLoop)
}

// mkdirs opens a directory. It is made, with those above it, when a tar has
// something in it, but not an entry for it.
func (a *applier) mkdirs(dir string) (*directory, error) {
	d, err := a.dir(dir)
	switch {
	case err == nil || dir == "":
		return d, err
	case !a.opts.Layer:
		if err := a.root.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		return a.dir(dir)
	case errors.Is(err, fs.ErrNotExist):
	case notThere(err):
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	default:
		return nil, err
	}
	up, err := a.mkdirs(parent(dir))
	if err != nil {
		return nil, err
	}
	if err := a.remember(up); err != nil {
		return nil, err
	}
	a.dirs[dir] = Entry{Path: dir, Type: Dir, Mode: 0o755}
	if err := up.mkdir(path.Base(dir)); err != nil {
		return nil, err
	}
	return a.dir(dir)
}

// remember keeps the time of a directory that is to change.
func (a *applier) remember(d *directory) error {
	if _, ok := a.times[d.path]; ok || !a.opts.Layer {
		return nil
	}
	st, err := d.stat()
	if err == nil {
		a.times[d.path] = st.Mtim
	}
	return err
}

// resolve follows symbolic links as a process whose root directory is root
// would. What is not there ends it.
func (a *applier) resolve(p string) (string, error) {
	if _, ok := a.open[p]; ok {
		return p, nil
	}
	at, todo := "", strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		target, ok := a.readlink(at, name)
		if !ok {
			if at = below(at, name); strings.Count(at, "/") >= maxDepth {
				return "", ErrLimit
			}
			continue
		}
		if links++; links > maxSymlinks {
			return "", errLoop
		}
		if strings.HasPrefix(target, "/") {
			at = ""
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}

// readlink tells where a symbolic link leads, and whether there is one.
func (a *applier) readlink(dir, name string) (string, bool) {
	if _, err := a.dir(below(dir, name)); err == nil {
		return "", false
	}
	d, err := a.dir(dir)
	if err != nil {
		return "", false
	}
	target, err := d.readlink(name)
	return target, err == nil
}

// delete removes what was there before this layer: a path, or what is in an
// opaque directory.
func (a *applier) delete(p string, opaque bool) error {
	dir := p
	if !opaque {
		dir = parent(p)
	}
	err := a.enter(dir, false)
	switch {
	case notThere(err):
		return nil // nothing to delete
	case err != nil:
		return err
	case opaque:
		return a.removeChildren(a.at)
	}
	return a.removeLower(a.at, path.Base(p))
}

// removeLower removes what has a name, but for what is of this layer.
func (a *applier) removeLower(d *directory, name string) error {
	p := below(d.path, name)
	if !a.made[p] {
		return a.removeAll(d, name)
	}
	f, err := d.openDir(name)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sub := &directory{openFile: f, path: p}
	if err := a.remember(sub); err != nil {
		return err
	}
	return a.removeChildren(sub)
}

func (a *applier) removeChildren(d *directory) error {
	names, err := d.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.removeLower(d, name); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes what has a name, if there is anything.
func (a *applier) removeAll(d *directory, name string) error {
	err := d.remove(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM): // the latter as POSIX has it
		a.stale = true
		return a.root.RemoveAll(below(d.path, name))
	}
	return err
}

func orDot(p string) string {
	if p == "" {
		return "."
	}
	return p
}
