package guest

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// get writes src as a tar whose first entry is the base name of src. A
// symbolic link is followed if a slash stands behind it.
func get(src string, w io.Writer) error {
	root, err := resolve(src)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	p := packer{tw: tar.NewWriter(out), links: map[inode]string{}}
	base := strings.TrimPrefix(path.Base(path.Clean(src)), "/")
	err = filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return p.add(file, path.Join(base, strings.TrimPrefix(file, root)))
	})
	if err != nil {
		return err
	}
	if err := p.tw.Close(); err != nil {
		return err
	}
	return out.Flush()
}

func resolve(src string) (string, error) {
	if strings.HasSuffix(src, "/") {
		return filepath.EvalSymlinks(src)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(src))
	return filepath.Join(dir, filepath.Base(src)), err
}

type inode struct{ dev, ino uint64 }

type packer struct {
	tw    *tar.Writer
	links map[inode]string // the first name of each file with several
}

func (p *packer) add(file, name string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	h := &tar.Header{
		Name: name, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.Uid), Gid: int(stat.Gid),
		ModTime: time.Unix(0, info.ModTime().UnixNano()), Format: tar.FormatPAX,
	}
	switch info.Mode().Type() {
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		p.hardLink(h, stat)
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(file); err != nil {
			return err
		}
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag = tar.TypeBlock
		if info.Mode()&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	default:
		return nil // a socket
	}
	if h.PAXRecords, err = xattrs(file); err != nil {
		return err
	}
	return p.write(h, file)
}

func (p *packer) hardLink(h *tar.Header, stat *syscall.Stat_t) {
	if stat.Nlink < 2 {
		return
	}
	key := inode{uint64(stat.Dev), stat.Ino}
	first, seen := p.links[key]
	if !seen {
		p.links[key] = h.Name
		return
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
}

func (p *packer) write(h *tar.Header, file string) error {
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(p.tw, f, h.Size); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// xattrs reads the extended attributes that belong to the file itself; those of
// the trusted and system namespaces (but for ACLs) belong to the machine.
func xattrs(file string) (map[string]string, error) {
	size, err := unix.Llistxattr(file, nil)
	if err != nil || size == 0 {
		return nil, nil // a file system without
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(file, list); err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: file, Err: err}
	}
	var records map[string]string
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if !strings.HasPrefix(attr, "user.") && attr != "security.capability" && !strings.HasPrefix(attr, "system.posix_acl_") {
			continue
		}
		val := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(file, attr, val)
		if err != nil {
			return nil, fmt.Errorf("%s: reading %s: %w", file, attr, err)
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrPrefix+attr] = string(val[:n])
	}
	return records, nil
}
