package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/moby/patternmatcher"
)

// contentDigest hashes a file.
func contentDigest(files fs.FS, path string) (string, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// folderDigest hashes a folder's listing: names, kinds, executable bits, link
// targets and contents, without what is excluded.
func folderDigest(files fs.FS, root string, exclude []string) (string, error) {
	skip, err := patternmatcher.New(exclude)
	if err != nil {
		return "", fmt.Errorf("exclude: %w", err)
	}
	h := sha256.New()
	err = fs.WalkDir(files, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if rel != "" {
			left, err := skip.MatchesOrParentMatches(rel)
			if err != nil {
				return err
			}
			if left {
				return nil
			}
		}
		line, err := listing(files, path, d)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %s\n", rel, line)
		return nil
	})
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

func listing(files fs.FS, path string, d fs.DirEntry) (string, error) {
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
	digest, err := contentDigest(files, path)
	return fmt.Sprintf("%t %s", info.Mode()&0o111 != 0, digest), err
}
