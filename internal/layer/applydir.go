package layer

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// directory is an open directory of the tree that is made.
type directory struct {
	*os.Root
	file     *os.File // the same, for calls that Root has not
	name     string   // as a tar says it
	path     string   // without symbolic links on the way
	inherits bool     // what is made in it gets an ACL from it
	setgid   bool     // what is made in it gets a group from it
}

// enter makes the directory of a name the current one. With create it is made
// when it is not there.
func (a *applier) enter(name string, create bool) error {
	if a.at != nil && a.at.name == name {
		return nil
	}
	a.forget()
	dir := name
	if a.opts.Layer {
		var err error
		if dir, err = a.resolve(name); err != nil {
			return err
		}
	}
	if create {
		if err := a.mkdirs(dir); err != nil {
			return err
		}
	}
	info, err := a.root.Stat(orDot(dir))
	if err == nil && !info.IsDir() { // OpenRoot would wait for a writer of a fifo
		err = &fs.PathError{Op: "open", Path: dir, Err: errNotDir}
	}
	if err != nil {
		return err
	}
	a.remember(dir, info)
	root, err := a.root.OpenRoot(orDot(dir))
	if err != nil {
		return err
	}
	file, err := openDir(root, ".")
	if err != nil {
		root.Close()
		return err
	}
	a.at = &directory{Root: root, file: file, name: name, path: dir, setgid: info.Mode()&fs.ModeSetgid != 0}
	a.at.inherits = a.opts.Xattrs && a.opts.Layer && hasDefaultACL(file)
	return nil
}

var (
	errNotDir = errors.New("not a directory")
	errLoop   = errors.New("too many symbolic links")
)

// forget closes the current directory: its name may mean another.
func (a *applier) forget() {
	if a.at != nil {
		a.at.Close()
		a.at.file.Close()
		a.at = nil
	}
}

// mkdirs makes the directories that a tar has something in, but not an entry
// for.
func (a *applier) mkdirs(dir string) error {
	if dir == "" {
		return nil
	}
	if !a.opts.Layer {
		return a.root.MkdirAll(dir, 0o755)
	}
	info, err := a.root.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := a.mkdirs(parent(dir)); err != nil {
		return err
	}
	if info, err := a.root.Lstat(orDot(parent(dir))); err == nil {
		a.remember(parent(dir), info)
	}
	a.dirs[dir] = Entry{Path: dir, Type: Dir, Mode: 0o755}
	return a.root.Mkdir(dir, 0o700)
}

// remember keeps the time of a directory that is to change.
func (a *applier) remember(dir string, info fs.FileInfo) {
	if _, ok := a.times[dir]; !ok && a.opts.Layer {
		a.times[dir] = info.ModTime()
	}
}

// isReal reports whether no symbolic link is on the way to a path.
func (a *applier) isReal(p string) bool {
	real, err := a.resolve(p)
	return err == nil && real == p
}

// resolve follows symbolic links as a process whose root directory is root
// would. What is not there ends it. root itself keeps a race from leading out.
func (a *applier) resolve(p string) (string, error) {
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
		next := below(at, name)
		info, err := a.root.Lstat(next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := a.root.Readlink(next)
		if err != nil {
			return "", err
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

// delete removes what was there before this layer: a path, or what is in an
// opaque directory.
func (a *applier) delete(p string, opaque bool) error {
	dir := p
	if !opaque {
		dir = parent(p)
	}
	err := a.enter(dir, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) || errors.Is(err, errLoop) || isNotDir(err):
		return nil // nothing to delete
	case err != nil:
		return err
	case opaque:
		return a.removeChildren(a.at.path)
	}
	return a.removeLower(below(a.at.path, path.Base(p)))
}

// removeLower removes what is at a path, but for what is of this layer.
func (a *applier) removeLower(p string) error {
	info, err := a.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case !a.made[p]:
		if info.IsDir() || info.Mode()&fs.ModeSymlink != 0 {
			a.forget()
		}
		return a.root.RemoveAll(p)
	case info.IsDir():
		a.remember(p, info)
		return a.removeChildren(p)
	}
	return nil
}

func (a *applier) removeChildren(dir string) error {
	f, err := openDir(a.root, orDot(dir))
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.removeLower(below(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes what is in the way in the current directory.
func (a *applier) remove(name string, info fs.FileInfo) error {
	if info.IsDir() || info.Mode()&fs.ModeSymlink != 0 {
		a.at.name = "\x00" // its name may mean another from now on
	}
	if !info.IsDir() {
		return a.at.Remove(name)
	}
	a.replaced = true
	return a.at.RemoveAll(name)
}

func orDot(p string) string {
	if p == "" {
		return "."
	}
	return p
}
