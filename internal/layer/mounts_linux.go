package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// mount is a line of mountinfo.
type mount struct {
	point   string
	fstype  string
	options string // of the superblock
}

func readMounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no /proc: a bare chroot, where nothing could be mounted
	}
	if err != nil {
		return nil, fmt.Errorf("find mount points: %w", err)
	}
	return parseMounts(string(data)), nil
}

func parseMounts(mountinfo string) []mount {
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, g := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		mounts = append(mounts, mount{point: unescape(f[4]), fstype: g[0], options: g[2]})
	}
	return mounts
}

// unescape undoes the octal escapes of mountinfo: space, tab, newline and
// backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// TrustworthyCtime reports whether on the file system at root every changed
// path shows a new ctime: true on overlayfs without redirect_dir, where a
// directory of the image is renamed by copying what is in it. Elsewhere a
// renamed directory brings old files to new paths.
func TrustworthyCtime(root string) bool {
	root, err := realPath(root)
	if err != nil {
		return false
	}
	mounts, err := readMounts()
	if err != nil {
		return false
	}
	// The kernel shows the option only where it is not the default.
	redirects, err := os.ReadFile("/sys/module/overlay/parameters/redirect_dir")
	return trustworthy(mountOf(mounts, root), err == nil && strings.TrimSpace(string(redirects)) == "N")
}

func trustworthy(m mount, noRedirects bool) bool {
	if m.fstype != "overlay" {
		return false
	}
	for o := range strings.SplitSeq(m.options, ",") {
		if value, ok := strings.CutPrefix(o, "redirect_dir="); ok {
			return value == "off" || value == "nofollow"
		}
	}
	return noRedirects
}

// mountOf is the mount that holds the path: the deepest, and of several at one
// place the last.
func mountOf(mounts []mount, path string) mount {
	var best mount
	for _, m := range mounts {
		point := strings.Trim(m.point, "/")
		if under(strings.Trim(path, "/"), point) && len(m.point) >= len(best.point) {
			best = m
		}
	}
	return best
}
