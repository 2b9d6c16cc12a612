package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// ctimeSlack allows for the coarse clock a kernel stamps files with.
const ctimeSlack = 2 * time.Second

// node is an entry of a tree that is being compared.
type node struct {
	Entry
	ctime  time.Time
	inode  uint64 // of a live tree
	offset int64  // of the content in a tar
	hashed bool   // Digest is known
	gone   bool   // was not there any more when it was read
	lower  bool   // of an overlay: not in its upper directory
}

// tree is a tree whose files can be read. Its nodes are sorted.
type tree struct {
	nodes []node
	skip  skipper
	// partial says that base's entries that are not among the nodes are as
	// they were, but for those that are gone, which are sorted too.
	partial bool
	gone    []string
	// open reads a file from its start. It may correct the node, size
	// included, to what was found.
	open  func(n *node) (io.ReadCloser, error)
	close func()
}

// hashNodes fills in the digests of files, reading a link group once.
func hashNodes(ctx context.Context, t *tree, files []int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	bufs := sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}
	first := map[string]int{}
	for _, i := range files {
		n := &t.nodes[i]
		if n.hashed {
			continue
		}
		if g := n.LinkGroup; g != "" {
			if _, ok := first[g]; ok {
				continue
			}
			first[g] = i
		}
		group.Go(func() error {
			buf := bufs.Get().(*[]byte)
			defer bufs.Put(buf)
			return t.hash(ctx, n, *buf)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, i := range files {
		if n := &t.nodes[i]; n.LinkGroup != "" && !n.hashed {
			from := t.nodes[first[n.LinkGroup]]
			n.Digest, n.Size, n.hashed = from.Digest, from.Size, true
		}
	}
	return nil
}

func (t *tree) hash(ctx context.Context, n *node, buf []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := t.open(n)
	if errors.Is(err, fs.ErrNotExist) {
		n.gone, n.hashed = true, true // since the walk
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.CopyBuffer(h, &ctxReader{ctx, f}, buf)
	if err != nil {
		return fmt.Errorf("read %s: %w", n.Path, err)
	}
	n.Size, n.hashed = size, true
	h.Sum(n.Digest[:0])
	return nil
}

// ctxReader ends reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// writeDelta writes the difference of a tree to base.
func writeDelta(ctx context.Context, t *tree, base *Index, opts DeltaOptions, w io.Writer) error {
	changed, err := findChanged(ctx, t, base, opts)
	if err != nil {
		return err
	}
	if !t.partial {
		t.gone = t.missing(base)
	}
	out := deltaWriter{tarWriter: newTarWriter(w), ctx: ctx, tree: t, base: base, buf: make([]byte, 1<<20)}
	gone := t.gone
	for i := range t.nodes {
		if !changed[i] {
			continue
		}
		n := &t.nodes[i]
		for ; len(gone) > 0 && gone[0] < n.Path; gone = gone[1:] {
			if err := out.whiteout(gone[0]); err != nil {
				return err
			}
		}
		if err := out.node(n); err != nil {
			return err
		}
	}
	for _, p := range gone {
		if err := out.whiteout(p); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write delta: %w", err)
	}
	return nil
}

// missing is what of base is not among the nodes, less what went with its
// directory.
func (t *tree) missing(base *Index) []string {
	var gone []string
	nodes := t.nodes
	for _, e := range base.entries {
		for len(nodes) > 0 && nodes[0].Path < e.Path {
			nodes = nodes[1:]
		}
		if (len(nodes) == 0 || nodes[0].Path != e.Path) && t.lost(e.Path) {
			gone = append(gone, e.Path)
		}
	}
	return gone
}

// lost reports whether a path that is not there needs a whiteout: its
// directory is there.
func (t *tree) lost(p string) bool {
	if t.skip.skips(p) {
		return false
	}
	dir, ok := t.lookup(parent(p))
	return ok && dir.Type == Dir
}

// findChanged marks the nodes that are not as in base.
func findChanged(ctx context.Context, t *tree, base *Index, opts DeltaOptions) ([]bool, error) {
	changed := make([]bool, len(t.nodes))
	var unsure []int
	for i := range t.nodes {
		n := &t.nodes[i]
		b, ok := base.Lookup(n.Path)
		switch {
		case !ok || !n.sameMetadata(b):
			changed[i] = true
		case n.Type != File:
		case opts.TrustCtime && n.ctime.Before(opts.Since.Add(-ctimeSlack)):
			n.Digest, n.hashed = b.Digest, true
		default:
			unsure = append(unsure, i)
		}
	}
	if err := hashNodes(ctx, t, unsure); err != nil {
		return nil, err
	}
	for _, i := range unsure {
		b, _ := base.Lookup(t.nodes[i].Path)
		changed[i] = !t.nodes[i].same(b)
	}
	markLinkGroups(t.nodes, base, changed)
	return changed, nil
}

// markLinkGroups marks link groups as a whole: when a member changed, when
// they were not one group in base, or when what was one group is several now
// (the one with the first name may stay).
func markLinkGroups(nodes []node, base *Index, changed []bool) {
	members := map[string][]int{} // by the first name; a file with one name is its own group
	was := make([]string, len(nodes))
	for i, n := range nodes {
		if n.Type != File {
			continue
		}
		if b, ok := base.Lookup(n.Path); ok {
			was[i] = b.LinkGroup
		}
		if n.LinkGroup != "" || was[i] != "" {
			members[groupOf(n)] = append(members[groupOf(n)], i)
		}
	}
	mark := func(group []int) {
		for _, i := range group {
			changed[i] = true
		}
	}
	for _, group := range members {
		for _, i := range group {
			if changed[i] || len(group) > 1 && (was[i] == "" || was[i] != was[group[0]]) {
				mark(group)
				break
			}
		}
	}
	keeps := map[string]string{}
	for i, n := range nodes {
		if was[i] == "" || changed[i] || n.Type != File {
			continue
		}
		if _, ok := keeps[was[i]]; !ok {
			keeps[was[i]] = groupOf(n)
		}
		if keeps[was[i]] != groupOf(n) {
			mark(members[groupOf(n)])
		}
	}
}

func groupOf(n node) string {
	if n.LinkGroup != "" {
		return n.LinkGroup
	}
	return n.Path
}

// deltaWriter writes the entries of a delta.
type deltaWriter struct {
	*tarWriter
	ctx  context.Context
	tree *tree
	base *Index
	buf  []byte
}

func (t *tree) lookup(p string) (node, bool) {
	lo, hi := 0, len(t.nodes)
	for lo < hi {
		if mid := (lo + hi) / 2; t.nodes[mid].Path < p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t.nodes) && t.nodes[lo].Path == p {
		return t.nodes[lo], true
	}
	return node{}, false
}

func (d *deltaWriter) node(n *node) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	switch {
	case n.Type != File:
		return d.entry(n.Entry, "")
	case n.LinkGroup != "" && n.LinkGroup != n.Path:
		return d.entry(n.Entry, n.LinkGroup)
	}
	f, err := d.tree.open(n)
	if errors.Is(err, fs.ErrNotExist) && n.LinkGroup == "" {
		if _, ok := d.base.Lookup(n.Path); ok && d.tree.lost(n.Path) {
			return d.whiteout(n.Path)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return d.file(n, f)
}

// file writes a file as long as it was when it was opened. A small one is read
// before its header is written, so that it may even get shorter.
func (d *deltaWriter) file(n *node, f io.Reader) error {
	if n.Size <= int64(len(d.buf)) {
		got, err := io.ReadFull(f, d.buf[:n.Size])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s: %w", n.Path, err)
		}
		n.Size, f = int64(got), bytes.NewReader(d.buf[:got])
	}
	h := headerOf(n.Entry, "")
	if n.LinkGroup != "" {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[linkedRecord] = "1"
	}
	if err := d.header(h); err != nil {
		return err
	}
	if n.Size <= int64(len(d.buf)) {
		_, err := d.Write(d.buf[:n.Size])
		return err
	}
	got, err := io.CopyBuffer(struct{ io.Writer }{d.Writer}, io.LimitReader(&ctxReader{d.ctx, f}, n.Size), d.buf)
	if err == nil && got < n.Size {
		err = fmt.Errorf("is %d bytes instead of %d: %w", got, n.Size, ErrChanging)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.Path, err)
	}
	return nil
}
