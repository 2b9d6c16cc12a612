package cli

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// folder is a folder's files as a file system that nothing leads out of. Between
// two looks at what is there it keeps the directory of the file opened last,
// which most often is that of the next one too: a path is walked once for all
// files of a directory.
type folder struct {
	rootFiles
	root  *os.Root
	reads reads

	mu   sync.Mutex
	dir  string
	near *os.File // the directory dir; nil: none yet
}

// rootFiles is what os.Root gives as a file system.
type rootFiles interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadLinkFS
}

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{rootFiles: root.FS().(rootFiles), root: root}, nil
}

// forget lets the next file be looked for from the top: its directory may be
// another one by now.
func (f *folder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leave()
}

func (f *folder) leave() {
	if f.near != nil {
		f.near.Close()
		f.near = nil
	}
}

// enter opens a directory, unless it is the one that is kept.
func (f *folder) enter(dir string) (fd int, err error) {
	if f.near == nil || f.dir != dir {
		near, err := f.root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			return -1, err
		}
		f.leave()
		f.near, f.dir = near, dir
	}
	return int(f.near.Fd()), nil
}

// Stat tells what is at a path.
func (f *folder) Stat(name string) (fs.FileInfo, error) {
	f.forget()
	return f.rootFiles.Stat(name)
}

// Lstat is Stat, but for a symbolic link.
func (f *folder) Lstat(name string) (fs.FileInfo, error) {
	f.forget()
	return f.rootFiles.Lstat(name)
}

// ReadDir tells what is in a directory: names and types, as the directory itself
// has them.
func (f *folder) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := f.list(name)
	if err != nil {
		if list, err = f.rootFiles.ReadDir(name); err != nil { // which says what is wrong
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	f.reads.listed(name, list)
	for i, d := range list {
		list[i] = entry{d, f, path.Join(name, d.Name())}
	}
	return list, nil
}

func (f *folder) list(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leave() // also since one can be listed only once
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	fd, err := f.enter(name)
	if err != nil {
		return nil, err
	}
	fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), name) // one of os.Root asks about every entry
	defer dir.Close()
	return dir.ReadDir(-1)
}

// ReadLink tells where a link leads to.
func (f *folder) ReadLink(name string) (string, error) {
	target, err := f.rootFiles.ReadLink(name)
	if err == nil {
		f.reads.linked(name, target)
	}
	return target, err
}

// entry is one of a directory.
type entry struct {
	fs.DirEntry
	folder *folder
	path   string
}

// Info asks the folder: the entry itself would look wherever its path leads to.
func (e entry) Info() (fs.FileInfo, error) { return e.folder.Lstat(e.path) }

// Open opens a file for a bake.
func (f *folder) Open(name string) (fs.File, error) {
	file, err := f.open(name)
	if plain, ok := file.(*plainFile); ok {
		f.reads.opened(plain)
	}
	return file, err
}

// open opens a file. What is no regular file of its directory, as a link that
// leads to another one, is opened from the top.
func (f *folder) open(name string) (fs.File, error) {
	if fs.ValidPath(name) && name != "." {
		if file, err := f.openNear(path.Dir(name), path.Base(name)); err == nil {
			return file, nil
		}
	}
	file, err := f.rootFiles.Open(name)
	if err != nil {
		return nil, err
	}
	if plain, err := plainOf(file, name); err == nil {
		return plain, file.Close()
	}
	return file, nil
}

// openNear opens a regular file of a directory. No link is followed.
func (f *folder) openNear(dir, name string) (fs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	near, err := f.enter(dir)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(near, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return newPlainFile(fd, path.Join(dir, name))
}

// look tells what Open would open now, in a directory that was opened since the
// folder was last told to forget it. There may be no regular file any more.
func (f *folder) look(name string) (state, error) {
	stat, err := f.lookNear(path.Dir(name), path.Base(name))
	if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		stat, err = f.lookBehind(name)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return state{}, nil
	}
	return stateOf(stat), err
}

func (f *folder) lookNear(dir, name string) (stat unix.Stat_t, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	near, err := f.enter(dir)
	if err != nil {
		return stat, err
	}
	if err := unix.Fstatat(near, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stat, &fs.PathError{Op: "stat", Path: path.Join(dir, name), Err: err}
	}
	return stat, nil
}

// lookBehind looks at what a link leads to.
func (f *folder) lookBehind(name string) (stat unix.Stat_t, err error) {
	file, err := f.open(name)
	if err != nil {
		return stat, err
	}
	if plain, ok := file.(*plainFile); ok {
		stat = plain.stat
	}
	return stat, file.Close()
}

// plainFile is a regular file and what was seen when it was opened.
type plainFile struct {
	layer.RawFile
	stat  unix.Stat_t
	reads *reads // which want to know how it is when it is closed; nil: they do not
	ear   *ear   // nil: nobody listens
}

func newPlainFile(fd int, name string) (fs.File, error) {
	file := &plainFile{RawFile: layer.RawFile{FD: fd, Name: name}}
	if err := unix.Fstat(fd, &file.stat); err != nil || file.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		file.Close()
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	return file, nil
}

// plainOf is an open file as a plain one, if it is regular.
func plainOf(file fs.File, name string) (fs.File, error) {
	opened, ok := file.(*os.File)
	if !ok {
		return nil, fs.ErrInvalid
	}
	fd, err := unix.FcntlInt(opened.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return newPlainFile(fd, name)
}

// Read reads on.
func (f *plainFile) Read(p []byte) (int, error) {
	n, err := f.RawFile.Read(p)
	if f.ear != nil {
		f.ear.take(p[:n], err)
	}
	return n, err
}

// Close closes the file.
func (f *plainFile) Close() error {
	if f.ear != nil {
		f.ear.close()
		f.ear = nil
	}
	if f.reads != nil {
		var now unix.Stat_t
		_ = unix.Fstat(f.FD, &now) // else it is not known to be the same
		f.reads.again(f.Name, stateOf(now))
		f.reads = nil
	}
	return f.RawFile.Close()
}

// Stat tells of the file as it was opened.
func (f *plainFile) Stat() (fs.FileInfo, error) { return plainInfo{f}, nil }

// plainInfo is what is known of an open file.
type plainInfo struct{ f *plainFile }

// Name is the file's name in its directory.
func (i plainInfo) Name() string { return path.Base(i.f.Name) }

// Size is in bytes.
func (i plainInfo) Size() int64 { return i.f.stat.Size }

// Mode has the permissions; the file is a regular one.
func (i plainInfo) Mode() fs.FileMode { return fs.FileMode(i.f.stat.Mode) & fs.ModePerm }

// ModTime is when the content changed last.
func (i plainInfo) ModTime() time.Time { return time.Unix(i.f.stat.Mtim.Unix()) }

// IsDir is false.
func (i plainInfo) IsDir() bool { return false }

// Sys is what the system told.
func (i plainInfo) Sys() any { return &i.f.stat }
