package cli

import (
	"crypto/sha256"
	"encoding/hex"
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
func fileDigest(dir string, files fs.FS, in bake.Input) (func() (string, error), error) {
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
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return func() (string, error) { return pathDigest(files, path, in.Exclude) }, nil
}

func pathDigest(files fs.FS, path string, exclude []string) (string, error) {
	info, err := fs.Stat(files, path)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return folderDigest(files, path, exclude)
	}
	return contentDigest(files, path, make([]byte, readBuffer))
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

// contentDigest hashes a file, reading it into the buffer.
func contentDigest(files fs.FS, path string, buf []byte) (string, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, buf); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// listed is one line of a folder's listing.
type listed struct {
	path, rel string
	d         fs.DirEntry
	line      string
}

// folderDigest hashes a folder's listing: names, kinds, executable bits, link
// targets and contents, without what is excluded.
func folderDigest(files fs.FS, root string, exclude []string) (string, error) {
	all, err := listFolder(files, root, exclude)
	if err != nil {
		return "", err
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	const some = 64 // files of a directory, one after the other
	for i := 0; i < len(all); i += some {
		group.Go(func() (err error) {
			buf := make([]byte, readBuffer)
			for j := i; j < min(i+some, len(all)) && err == nil; j++ {
				all[j].line, err = listing(files, all[j].path, all[j].d, buf)
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
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// listFolder finds what is in a folder and not left out.
func listFolder(files fs.FS, root string, exclude []string) (all []*listed, err error) {
	skip, err := patternmatcher.New(exclude)
	if err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
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
		all = append(all, &listed{path: path, rel: rel, d: d})
		return nil
	})
	return all, err
}

func listing(files fs.FS, path string, d fs.DirEntry, buf []byte) (string, error) {
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := fs.ReadLink(files, path)
		return fmt.Sprintf("link %q", target), err
	case !d.Type().IsRegular():
		return d.Type().String(), nil
	}
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	digest, err := contentDigest(files, path, buf)
	return fmt.Sprintf("%t %s", info.Mode()&0o111 != 0, digest), err
}
