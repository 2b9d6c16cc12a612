package cli

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	pathpkg "path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sync/errgroup"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
)

const readBuffer = 64 << 10

// fileDigest checks what a component reads, and makes its digest later: that of a
// file's content, or of a folder's listing, a line for every file in it with mode,
// digest and path.
func fileDigest(dir string, files *folder, in bake.Input) (func() (string, error), error) {
	path, err := inputPath(dir, in)
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(files, path); err != nil {
		return nil, err
	}
	skip, err := patternmatcher.New(in.Exclude)
	if err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	f, err := files.open(path)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return files.reads.digest(func() (string, error) { return pathDigest(files, path, skip) }), nil
}

func pathDigest(files *folder, path string, skip *patternmatcher.PatternMatcher) (string, error) {
	info, err := fs.Stat(files, path)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return folderDigest(files, path, skip)
	}
	digest, _, err := contentDigest(files, path, make([]byte, readBuffer))
	return digest, err
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
	was, read := files.reads.at(path)
	if read {
		now, err := files.look(path)
		if err != nil || was.changed || now != was.stat {
			return "", false, changedError(path)
		}
		if was.digest != "" {
			return was.digest, now.Mode&0o111 != 0, nil
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
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf)
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
func folderDigest(files *folder, root string, skip *patternmatcher.PatternMatcher) (string, error) {
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
	dirs := []string{root}
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
			if d.IsDir() {
				dirs = append(dirs, path)
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
	if err != nil {
		return nil, err
	}
	return all, files.reads.same(dirs)
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
