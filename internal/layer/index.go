package layer

import (
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// Type is what an entry is.
type Type byte

// The types. Sockets are never recorded, nor is the character device 0:0, which
// overlayfs takes for a whiteout.
const (
	File Type = iota + 1
	Dir
	Symlink
	Char
	Block
	Fifo
)

var typeNames = [...]string{File: "file", Dir: "directory", Symlink: "symbolic link", Char: "character device", Block: "block device", Fifo: "fifo"}

// String names the type.
func (t Type) String() string {
	if t < File || t > Fifo {
		return fmt.Sprintf("type %d", byte(t))
	}
	return typeNames[t]
}

// Entry is one file of a tree.
type Entry struct {
	Path      string            // clean, without leading slash; "" is the root; any encoding
	Type      Type              // a hard link is a File with a LinkGroup
	Mode      uint32            // permissions with setuid, setgid and sticky, as in stat(2): at most 07777
	UID, GID  int               // numeric owners
	Size      int64             // of a File
	Digest    [32]byte          // SHA-256 of a File's content
	Linkname  string            // of a Symlink, verbatim
	Xattrs    map[string]string // user.*, security.capability, system.posix_acl_*
	DevMajor  int64             // of Char and Block
	DevMinor  int64             // of Char and Block
	LinkGroup string            // of a File with several names: the first of them in sort order
	ModTime   int64             // Unix seconds; no part of the entry's identity
}

// sameMetadata reports whether two entries are the same but for content, link
// group and time.
func (e Entry) sameMetadata(o Entry) bool {
	return e.Path == o.Path && e.Type == o.Type && e.Mode == o.Mode && e.UID == o.UID && e.GID == o.GID &&
		e.Size == o.Size && e.Linkname == o.Linkname && e.DevMajor == o.DevMajor && e.DevMinor == o.DevMinor &&
		maps.Equal(e.Xattrs, o.Xattrs)
}

// same is sameMetadata with content.
func (e Entry) same(o Entry) bool { return e.sameMetadata(o) && e.Digest == o.Digest }

// isWhiteout tells the device that is a whiteout to overlayfs.
func (e Entry) isWhiteout() bool { return e.Type == Char && e.DevMajor == 0 && e.DevMinor == 0 }

// Index describes a tree: its entries, sorted by path. It never changes.
type Index struct {
	entries []Entry
}

// NewIndex makes an index of entries in any order. It is an error when two
// entries have one path or an entry's parent is no directory. A root that is
// not among them is added.
func NewIndex(entries []Entry) (*Index, error) {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	if len(sorted) == 0 || sorted[0].Path != "" {
		sorted = slices.Insert(sorted, 0, Entry{Type: Dir, Mode: 0o755})
	}
	return checkedIndex(sorted)
}

func checkedIndex(sorted []Entry) (*Index, error) {
	x := &Index{entries: sorted}
	for i, e := range sorted {
		switch {
		case i == 0:
			if e.Path != "" || e.Type != Dir {
				return nil, fmt.Errorf("index without a root directory")
			}
			continue
		case e.Path <= sorted[i-1].Path:
			return nil, fmt.Errorf("entry %q is there twice or out of order", e.Path)
		case !validPath(e.Path):
			return nil, fmt.Errorf("entry %q: path is not clean", e.Path)
		}
		if p, ok := x.Lookup(parent(e.Path)); !ok || p.Type != Dir {
			return nil, fmt.Errorf("entry %q has no parent directory", e.Path)
		}
	}
	return x, nil
}

// validPath tells clean relative paths that stay inside the root.
func validPath(p string) bool {
	if p == "" || p[0] == '/' || strings.IndexByte(p, 0) >= 0 || path.Clean(p) != p {
		return false
	}
	return p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// parent is the path of the directory that holds p; the root is its own.
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// below is the path of a name in a directory.
func below(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// under reports whether p is dir or below it.
func under(p, dir string) bool {
	return dir == "" || p == dir || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

func (x *Index) search(p string) (int, bool) {
	return slices.BinarySearchFunc(x.entries, p, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
}

// Lookup finds the entry of a clean path.
func (x *Index) Lookup(path string) (Entry, bool) {
	if i, ok := x.search(path); ok {
		return x.entries[i], true
	}
	return Entry{}, false
}

// Len is the number of entries.
func (x *Index) Len() int { return len(x.entries) }

// All walks the entries in sort order: a directory before what is in it.
func (x *Index) All() iter.Seq[Entry] { return slices.Values(x.entries) }

// Below walks everything below a directory, in sort order.
func (x *Index) Below(dir string) iter.Seq[Entry] {
	prefix := dir + "/"
	if dir == "" {
		return slices.Values(x.entries[min(1, len(x.entries)):])
	}
	return func(yield func(Entry) bool) {
		i, _ := x.search(prefix)
		for ; i < len(x.entries) && strings.HasPrefix(x.entries[i].Path, prefix); i++ {
			if !yield(x.entries[i]) {
				return
			}
		}
	}
}

// Children walks what is directly in a directory.
func (x *Index) Children(dir string) iter.Seq[Entry] {
	prefix := dir + "/"
	if dir == "" {
		prefix = ""
	}
	return func(yield func(Entry) bool) {
		i, _ := x.search(prefix)
		for i < len(x.entries) && strings.HasPrefix(x.entries[i].Path, prefix) {
			e := x.entries[i]
			slash := strings.IndexByte(e.Path[len(prefix):], '/')
			if slash >= 0 { // on to what sorts behind all of this subdirectory
				i, _ = x.search(e.Path[:len(prefix)+slash] + string('/'+1))
				continue
			}
			if i++; e.Path != "" && !yield(e) {
				return
			}
		}
	}
}

// with is the index after edits: gone paths are removed with all below them,
// then entries set.
func (x *Index) with(set map[string]Entry, gone map[string]bool) *Index {
	out := make([]Entry, 0, len(x.entries)+len(set))
	added := slices.Sorted(maps.Keys(set))
	for _, e := range x.entries {
		for len(added) > 0 && added[0] <= e.Path {
			out = append(out, set[added[0]])
			added = added[1:]
		}
		if _, replaced := set[e.Path]; !replaced && !anyAbove(gone, e.Path) {
			out = append(out, e)
		}
	}
	for _, p := range added {
		out = append(out, set[p])
	}
	regroup(out)
	return &Index{entries: out}
}

// above are the directories that a path is in, but for the root, from the top.
func above(p string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(p) {
			if p[i] == '/' && !yield(p[:i]) {
				return
			}
		}
	}
}

// anyAbove reports whether the path or a directory above it is in the set.
func anyAbove(set map[string]bool, p string) bool {
	if len(set) == 0 {
		return false
	}
	for ; p != ""; p = parent(p) {
		if set[p] {
			return true
		}
	}
	return false
}

// regroup names every link group by its first member that is left, and drops
// groups of one.
func regroup(sorted []Entry) {
	count := map[string]int{}
	first := map[string]string{}
	for _, e := range sorted {
		if g := e.LinkGroup; g != "" {
			if count[g]++; count[g] == 1 {
				first[g] = e.Path
			}
		}
	}
	for i := range sorted {
		if g := sorted[i].LinkGroup; g != "" {
			if sorted[i].LinkGroup = first[g]; count[g] < 2 {
				sorted[i].LinkGroup = ""
			}
		}
	}
}
