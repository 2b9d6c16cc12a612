package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// DeltaTar is Delta for a tree that is a tar, such as an engine's export,
// plain and complete. What such a tar does not tell is taken from base:
// extended attributes other than file capabilities. Since and TrustCtime do
// not count: all of it is read.
func DeltaTar(ctx context.Context, r io.ReaderAt, size int64, base *Index, opts DeltaOptions, w io.Writer) error {
	t, err := openTar(ctx, r, size, base, newSkipper(opts.Skip))
	if err != nil {
		return err
	}
	opts.TrustCtime = false
	return writeDelta(ctx, t, base, opts, w)
}

// openTar reads a tar into nodes that know where their content is.
func openTar(ctx context.Context, r io.ReaderAt, size int64, base *Index, skip skipper) (*tree, error) {
	in := newTarReader(ctx, io.NewSectionReader(r, 0, size), BakeLimits())
	nodes := map[string]node{"": {Entry: Entry{Type: Dir, Mode: 0o755}}}
	if root, ok := base.Lookup(""); ok {
		nodes[""] = node{Entry: root}
	}
	for {
		h, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		p, err := cleanName(h.Name)
		if err != nil {
			return nil, err
		}
		if skip.skips(p) {
			continue
		}
		if _, _, reserved := whiteoutOf(p); reserved {
			return nil, fmt.Errorf("file %q: image layers reserve names that start with %s", clip(p), whiteoutPrefix)
		}
		offset := in.in.n
		n, err := tarNode(h, p, in, nodes)
		if err != nil {
			return nil, fmt.Errorf("tar entry %q: %w", clip(h.Name), err)
		}
		if h.Typeflag != tar.TypeLink {
			n.offset = offset
		}
		if b, ok := base.Lookup(p); ok && b.Type == n.Type {
			n.Xattrs = mergeXattrs(n.Xattrs, b.Xattrs)
		}
		nodes[p] = n
	}
	t := &tree{skip: skip, close: func() {}}
	t.open = func(n *node) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(r, n.offset, n.Size)), nil
	}
	t.nodes = sortedNodes(nodes)
	return t, nil
}

// tarNode reads one entry to its end.
func tarNode(h *tar.Header, p string, in io.Reader, nodes map[string]node) (node, error) {
	e, err := entryOf(h, p)
	if err != nil {
		return node{}, err
	}
	if isSparse(h) {
		return node{}, errors.New("sparse entries are not supported")
	}
	if h.Typeflag == tar.TypeLink {
		to, err := cleanName(h.Linkname)
		if err != nil {
			return node{}, err
		}
		first, ok := nodes[to]
		if !ok || first.Type != File {
			return node{}, fmt.Errorf("hard link to %q, which is not there", clip(h.Linkname))
		}
		if first.LinkGroup == "" {
			first.LinkGroup = newGroup + to
			nodes[to] = first
		}
		first.Path = p
		return first, nil
	}
	n := node{Entry: e, hashed: true}
	if e.Type == File {
		sum := sha256.New()
		if _, err := io.Copy(sum, in); err != nil {
			return node{}, err
		}
		sum.Sum(n.Digest[:0])
	}
	return n, nil
}

// mergeXattrs adds what a tar cannot tell.
func mergeXattrs(has, base map[string]string) map[string]string {
	for k, v := range base {
		if _, ok := has[k]; ok || k == "security.capability" {
			continue
		}
		if has == nil {
			has = map[string]string{}
		}
		has[k] = v
	}
	return has
}

// sortedNodes sorts the nodes and names their link groups by the first member.
func sortedNodes(nodes map[string]node) []node {
	out := make([]node, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b node) int { return strings.Compare(a.Path, b.Path) })
	entries := make([]Entry, len(out))
	for i, n := range out {
		entries[i] = n.Entry
	}
	regroup(entries)
	for i := range out {
		out[i].LinkGroup = entries[i].LinkGroup
	}
	return out
}
