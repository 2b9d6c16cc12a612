package cli

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	pathpkg "path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sync/errgroup"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
)

const readBuffer = 64 << 10

// input is a file or folder that a component reads.
type input struct {
	files   *folder
	path    string
	exclude []string
}

// newInput checks what a component reads.
func newInput(dir string, files *folder, in bake.Input) (*input, error) {
	path, err := inputPath(dir, in)
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(files, path); err != nil {
		return nil, err
	}
	if _, err := patternmatcher.New(in.Exclude); err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	f, err := files.open(path)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	files.reads.want(path)
	return &input{files, path, in.Exclude}, nil
}

// Digest makes that of a file's content, or of a folder's listing, a line for every
// file in it with mode, digest and path. It is asked for once.
func (in *input) Digest() (digest string, err error) {
	defer in.files.reads.made(in.path)
	info, err := fs.Stat(in.files, in.path)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		digest, err = folderDigest(in.files, in.path, in.exclude)
	default:
		digest, _, err = contentDigest(in.files, in.path, make([]byte, readBuffer))
	}
	if err != nil {
		return "", err
	}
	return digest, in.Still()
}

// Still is an error if the run has read something of the input, by whomever, that
// was another one before.
func (in *input) Still() error {
	changes := in.files.reads.changes()
	if len(changes) == 0 {
		return nil
	}
	skip, err := patternmatcher.New(in.exclude)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		rel, below := inside(in.path, path)
		if !below {
			continue
		}
		left, err := skip.MatchesOrParentMatches(rel)
		if err != nil {
			return err
		}
		if rel == "." || !left || changes[path] && skip.Exclusions() { // something in it may come back
			return changedError(path)
		}
	}
	return nil
}

// inside is a path as seen from a folder, if it is that or in it.
func inside(folder, path string) (rel string, is bool) {
	rel, err := filepath.Rel(folder, path)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// inputPath is where an input is in the folder.
func inputPath(dir string, in bake.Input) (string, error) {
	path := filepath.ToSlash(in.Path)
	if filepath.IsAbs(in.Path) {
		rel, err := filepath.Rel(dir, in.Path)
		if err != nil {
			return "", err
		}
		path = filepath.ToSlash(rel)
	}
	path = strings.TrimSuffix(strings.TrimPrefix(path, "./"), "/")
	if path == "" {
		path = "."
	}
	if !fs.ValidPath(path) {
		return "", diag.Problem{Pos: in.Pos, Text: fmt.Sprintf("%s is outside the template's folder", in.Path), Hint: "only files below the folder of the template can be read"}
	}
	return path, nil
}

// contentDigest is that of a file's content, and whether it may be executed. What
// a bake has read to its end is not read again, and must be what it was.
func contentDigest(files *folder, path string, buf []byte) (digest string, exec bool, err error) {
	if was, read := files.reads.at(path); read {
		now, err := files.look(path)
		switch {
		case err != nil:
			return "", false, err
		case !files.reads.again(path, now):
			return "", false, changedError(path)
		case was.content != "":
			return was.content, now.mode&0o111 != 0, nil
		}
	}
	f, err := files.open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", false, err
	}
	h := sha256.New()
	plain, regular := f.(*plainFile)
	if !regular {
		_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf)
		return sumOf(h), info.Mode()&0o111 != 0, err
	}
	s, _ := files.reads.watch(plain)
	if _, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf); err == nil {
		files.reads.hashed(s, sumOf(h))
	}
	return sumOf(h), info.Mode()&0o111 != 0, err
}

// listed is one line of a folder's listing.
type listed struct {
	path, rel string
	d         fs.DirEntry
	line      string
}

// folderDigest hashes a folder's listing: names, kinds, executable bits, link
// targets and contents, without what is excluded.
func folderDigest(files *folder, root string, exclude []string) (string, error) {
	skip, err := patternmatcher.New(exclude)
	if err != nil {
		return "", err
	}
	all, err := listFolder(files, root, skip)
	if err != nil {
		return "", err
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	const some = 64 // files of a directory, one after the other
	for i := 0; i < len(all); i += some {
		group.Go(func() (err error) {
			buf := make([]byte, readBuffer)
			for _, l := range all[i:min(i+some, len(all))] {
				if l.line == "" && err == nil {
					l.line, err = listing(files, l.path, l.d, buf)
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	h := sha256.New()
	for _, l := range all {
		fmt.Fprintf(h, "%q %s\n", l.rel, l.line)
	}
	return sumOf(h), nil
}

// listFolder finds what is in a folder and not left out. What a bake has read has
// its line then: its directory is the one just listed.
func listFolder(files *folder, root string, skip *patternmatcher.PatternMatcher) (all []*listed, err error) {
	seen := map[string]patternmatcher.MatchInfo{} // by directory
	err = fs.WalkDir(files, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if rel != "" {
			left, info, err := skip.MatchesUsingParentResults(rel, seen[pathpkg.Dir(rel)])
			if err != nil {
				return err
			}
			if d.IsDir() {
				seen[rel] = info
			}
			if left && d.IsDir() && !skip.Exclusions() {
				return fs.SkipDir // nothing in it comes back
			}
			if left {
				return nil
			}
		}
		l := &listed{path: path, rel: rel, d: d}
		all = append(all, l)
		if _, read := files.reads.at(path); read && d.Type().IsRegular() {
			l.line, err = listing(files, path, d, nil)
		}
		return err
	})
	return all, err
}

func listing(files *folder, path string, d fs.DirEntry, buf []byte) (string, error) {
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := fs.ReadLink(files, path)
		return fmt.Sprintf("link %q", target), err
	case !d.Type().IsRegular():
		return d.Type().String(), nil
	}
	digest, exec, err := contentDigest(files, path, buf)
	return fmt.Sprintf("%t %s", exec, digest), err
}
