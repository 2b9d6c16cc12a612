package cli

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
)

// folder is a folder's files as a file system that nothing leads out of. It
// keeps the directory of the file opened last, which most often is that of the
// next one too: a path is walked once for all files of a directory.
type folder struct {
	rootFiles
	root *os.Root

	mu   sync.Mutex
	dir  string
	near *os.Root // the directory dir; nil: none yet
}

// rootFiles is what os.Root gives as a file system.
type rootFiles interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadFileFS
	fs.ReadLinkFS
}

func openFolder(dir string) (fs.FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{rootFiles: root.FS().(rootFiles), root: root}, nil
}

// Open opens a file. What cannot be opened from its directory, as a link that
// leads to another one, is opened from the top.
func (f *folder) Open(name string) (fs.File, error) {
	if dir := path.Dir(name); dir != "." && fs.ValidPath(name) {
		if file, err := f.openNear(dir, path.Base(name)); err == nil {
			return file, nil
		}
	}
	return f.rootFiles.Open(name)
}

func (f *folder) openNear(dir, name string) (fs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.near == nil || f.dir != dir {
		near, err := f.root.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		if f.near != nil {
			f.near.Close()
		}
		f.near, f.dir = near, dir
	}
	info, err := f.near.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	return f.near.Open(name)
}
