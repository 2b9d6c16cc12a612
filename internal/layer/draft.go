package layer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// Draft is a tree that tars are put into while no file system holds it: what a
// step that copies files needs, and no machine. It gives the bytes that Delta
// gives of the same tars unpacked in a live tree. What it cannot do exactly as a
// kernel would, it leaves to one. It is safe for concurrent use.
type Draft struct {
	mu      sync.Mutex // for as long as one entry takes
	left    bool
	tree    overlay
	files   map[string]*content // of the files put, by path; names of one file share it
	now     int64               // the time of what changes by itself: made or entered directories
	maxID   int                 // of owners
	skip    skipper
	scratch *os.File
	end     int64  // of the contents
	unsaved []byte // the last of them, not in the scratch file yet
	touched bool   // something was put

	follower *follower // nil: none

	last struct{ said, real string } // the directory of the entry before, most often also of the next
}

// content is where a file's bytes are: in the layer that is written meanwhile, and at
// the same place of the scratch file once that is filled.
type content struct {
	offset int64
	err    error // why they are lost
}

// errBeyond says that an entry takes a kernel: it is an error there, or touches
// what only one knows, such as mounts, ACLs and capabilities.
var errBeyond = errors.New("not without a file system")

// NewDraft starts at a tree. Directories that get a time by themselves get that
// of now, Unix seconds. Skip are paths that a machine has mounts at: it makes the
// directories that they are in. Owners beyond maxID are left to a kernel. The
// scratch file holds contents that nobody else has; it is closed, and best has no name any more.
func NewDraft(base *Index, now int64, skip []string, maxID int, scratch *os.File) *Draft {
	d := &Draft{tree: overlay{base: base}, files: map[string]*content{}, now: max(now, 0), maxID: maxID, scratch: scratch}
	for _, p := range skip {
		_, _ = d.directory(parent(p)) // as a file it is in the way of a machine too
	}
	d.skip = newSkipper(skip)
	return d
}

// Leave makes the draft one that takes no more: what is put is the rest, as if
// it took a kernel.
func (d *Draft) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = true
	d.lose()
}

// Close gives the draft up.
func (d *Draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.follower = true, nil
	return d.scratch.Close()
}

// Empty reports whether nothing was put.
func (d *Draft) Empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tree.edits) == 0
}

// check tells whether an entry can be put where it is said to.
func (d *Draft) check(e Entry) error {
	was, there := d.tree.lookup(e.Path)
	if there && (was.Type == Dir || was.LinkGroup != "") { // a kernel refuses, or the others of the group change
		return errBeyond
	}
	if dir, _ := d.tree.lookup(parent(e.Path)); dir.Xattrs[defaultACL] != "" {
		return errBeyond
	}
	return nil
}

const defaultACL = "system.posix_acl_default"

// replace puts an entry in the place of what is there.
func (d *Draft) replace(e Entry) error {
	if err := d.check(e); err != nil {
		return err
	}
	if was, _ := d.tree.lookup(e.Path); was.Type == Symlink || e.Type != File {
		d.last.said = "" // it may lead elsewhere now
	}
	delete(d.files, e.Path)
	d.tree.set(e)
	d.entered(parent(e.Path))
	return nil
}

// entered gives a directory that something was made in the time of that.
func (d *Draft) entered(dir string) { d.setTime(dir, d.now) }

// setTime sets the time of a directory that differs from the one in the base.
func (d *Draft) setTime(dir string, t int64) {
	if e, ok := d.tree.edits[dir]; ok {
		e.ModTime = t
		d.tree.edits[dir] = e
	}
}

// directory finds a directory by the path that leads there, or makes it with
// those above it. It makes nothing when it finds what takes a kernel.
func (d *Draft) directory(said string) (string, error) {
	if said == d.last.said && said != "" {
		return d.last.real, nil
	}
	real, missing, err := d.resolve(said)
	if err != nil {
		return "", err
	}
	for i, name := range missing {
		if i == 0 {
			above, _ := d.tree.lookup(real)
			if above.Mode&0o2000 != 0 || above.Xattrs[defaultACL] != "" {
				return "", errBeyond // it would inherit from the one above
			}
		}
		real = below(real, name)
		d.tree.set(Entry{Path: real, Type: Dir, Mode: 0o755, ModTime: d.now})
		d.entered(parent(real))
	}
	d.last.said, d.last.real = said, real
	return real, nil
}

// maxFollowed is how many symbolic links a kernel follows (path_resolution(7)).
const maxFollowed = 40

// resolve finds the directory that a path leads to: the real path of what is
// there, and the names that are missing below it.
func (d *Draft) resolve(said string) (real string, missing []string, err error) {
	todo := strings.Split(said, "/")
	links, inLink := 0, 0 // inLink of todo's names come from a link
	at, _ := d.tree.lookup("")
	for ; len(todo) > 0; inLink = max(0, inLink-1) {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			real = parent(real)
			at, _ = d.tree.lookup(real)
			continue
		}
		p := below(real, name)
		e, ok := d.tree.lookup(p)
		switch {
		case d.skip.skips(p) || !ok && inLink > 0:
			return "", nil, errBeyond
		case !ok:
			missing = append([]string{name}, todo...)
			return real, missing, d.plain(real, missing)
		case e.Type == Dir:
			real, at = p, e
		case e.Type == Symlink && links < maxFollowed && !protected(at, e):
			links++
			if strings.HasPrefix(e.Linkname, "/") {
				real = ""
				at, _ = d.tree.lookup("")
			}
			target := strings.Split(e.Linkname, "/")
			todo = append(target, todo...)
			inLink += len(target) + 1 // and this one
		default:
			return "", nil, errBeyond
		}
	}
	return real, nil, nil
}

// protected tells a link that a kernel may not follow for root either
// (fs.protected_symlinks in proc_sys_fs(5)).
func protected(dir, link Entry) bool {
	return dir.Mode&0o1002 == 0o1002 && link.UID != 0 && link.UID != dir.UID
}

// plain reports whether directories can be made as they are named.
func (d *Draft) plain(dir string, names []string) error {
	for _, name := range names {
		dir = below(dir, name)
		if name == "" || name == "." || name == ".." || len(name) > maxName || strings.HasPrefix(name, whiteoutPrefix) || d.skip.skips(dir) {
			return errBeyond
		}
	}
	return nil
}

// Lookup finds what a path leads to; a symbolic link at its end is followed if
// a slash stands behind it. It is false for what is not there, and an error for
// what only a kernel can tell.
func (d *Draft) Lookup(name string) (e Entry, there bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clean := strings.Trim(path.Join("/", name), "/")
	if clean == "" || strings.HasSuffix(name, "/") {
		real, missing, err := d.resolve(clean)
		e, _ = d.tree.lookup(real)
		return e, err == nil && len(missing) == 0, err
	}
	dir, missing, err := d.resolve(parent(clean))
	if err != nil || len(missing) > 0 {
		return Entry{}, false, err
	}
	p := below(dir, path.Base(clean))
	if d.skip.skips(p) {
		return Entry{}, false, errBeyond
	}
	e, there = d.tree.lookup(p)
	return e, there, nil
}

// Open opens a file that was put, from its start; nil: it was not.
func (d *Draft) Open(e Entry) io.Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content(e)
}

func (d *Draft) content(e Entry) io.Reader {
	at := d.files[e.Path]
	if at == nil {
		return nil
	}
	d.lose()
	if err := cmp.Or(at.err, d.save()); err != nil {
		return failedReader{err}
	}
	return io.NewSectionReader(d.scratch, at.offset, e.Size)
}

// Delta writes the difference to the tree that the draft started at, or was last
// rebased to.
func (d *Draft) Delta(ctx context.Context, w io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return writeDelta(ctx, d.changed(), d.tree.base, DeltaOptions{}, w)
}

// changed is what was put, as a tree to compare.
func (d *Draft) changed() *tree {
	first := map[*content]string{} // of the names of a file
	count := map[*content]int{}
	paths := slices.Sorted(maps.Keys(d.tree.edits))
	for _, p := range paths {
		if at := d.files[p]; at != nil {
			if count[at]++; count[at] == 1 {
				first[at] = p
			}
		}
	}
	t := &tree{partial: true, close: func() {}, nodes: make([]node, len(paths))}
	for i, p := range paths {
		t.nodes[i].Entry = d.tree.edits[p]
		if at := d.files[p]; at != nil && count[at] > 1 {
			t.nodes[i].LinkGroup = first[at]
		}
	}
	t.open = func(n *node) (io.ReadCloser, error) { return io.NopCloser(d.content(n.Entry)), nil }
	return t
}

// Rebase makes the tree, in which all that was put is, the one that the draft
// starts at.
func (d *Draft) Rebase(base *Index) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tree = overlay{base: base}
	clear(d.files)
	d.last.said = ""
	d.end, d.unsaved, d.touched, d.follower = 0, d.unsaved[:0], false, nil
	return d.scratch.Truncate(0)
}

// Replay writes a tar that makes of a live tree, as the draft started at it,
// what the draft is.
func (d *Draft) Replay(w io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.changed()
	out := deltaWriter{tarWriter: newTarWriter(w), ctx: context.Background(), tree: t, base: d.tree.base, buf: make([]byte, 1<<20)}
	for i := range t.nodes {
		if err := out.node(&t.nodes[i]); err != nil {
			return err
		}
	}
	return out.Close()
}

// Beyond reports whether an error of Lookup says that a kernel has to be asked.
func Beyond(err error) bool { return errors.Is(err, errBeyond) }
