// Package packages reads which packages an image has from the databases of
// dpkg and apk in it. They were written by whoever made the image: what is
// read is bounded, and names and versions are checked. It is pure.
package packages

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Package is an installed package.
type Package struct {
	Name    string
	Version string
	Arch    string
}

// The bounds of a database.
const (
	MaxSize  = 64 << 20
	MaxField = 1 << 20 // a line, or a field of several
	maxCount = 100_000
	maxValue = 256 // a name or version
)

// ErrTooLarge is a database beyond the bounds.
var ErrTooLarge = errors.New("package database is too large")

// Format is a kind of database.
type Format int

// The formats.
const (
	None Format = iota
	Dpkg        // one file, or with distroless one a package
	Apk
)

// FormatOf tells the database that a file in an image is part of, by its path
// without a slash in front.
func FormatOf(name string) Format {
	switch name {
	case "var/lib/dpkg/status":
		return Dpkg
	case "lib/apk/db/installed", "usr/lib/apk/db/installed":
		return Apk
	}
	if dir, file := path.Split(name); dir == "var/lib/dpkg/status.d/" && file != "" && !strings.HasSuffix(file, ".md5sums") {
		return Dpkg
	}
	return None
}

// Read reads the installed packages of a database, sorted.
func Read(r io.Reader, f Format) ([]Package, error) {
	switch f {
	case Dpkg:
		return read(r, dpkgStanza)
	case Apk:
		return read(r, apkStanza)
	}
	return nil, nil
}

// stanza makes a package of the fields of one paragraph. Without an error and
// ok it is none that is installed.
type stanza func(field map[string]string) (p Package, ok bool)

// read splits a database into paragraphs. Only the first line of a field is
// kept: the others are descriptions and lists of files.
func read(r io.Reader, parse stanza) ([]Package, error) {
	limited := &io.LimitedReader{R: r, N: MaxSize + 1}
	lines := bufio.NewReaderSize(limited, 64<<10)
	var out []Package
	fields := map[string]string{}
	size := 0 // of the field so far
	end := func() error {
		if p, ok := parse(fields); ok {
			if err := p.check(); err != nil {
				return err
			}
			out = append(out, p)
		}
		clear(fields)
		if len(out) > maxCount {
			return fmt.Errorf("more than %d packages: %w", maxCount, ErrTooLarge)
		}
		return nil
	}
	for {
		line, err := readLine(lines)
		if limited.N <= 0 {
			return nil, fmt.Errorf("more than %d bytes: %w", MaxSize, ErrTooLarge)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		key, value, isField := bytes.Cut(line, []byte(":"))
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			if err := end(); err != nil {
				return nil, err
			}
		case line[0] == ' ' || line[0] == '\t' || !isField:
			size += len(line)
		case wanted[string(key)]:
			size = len(line)
			if _, twice := fields[string(key)]; !twice {
				fields[string(key)] = string(bytes.TrimSpace(value))
			}
		default:
			size = len(line)
		}
		if size > MaxField {
			return nil, fmt.Errorf("field of more than %d bytes: %w", MaxField, ErrTooLarge)
		}
		if err == io.EOF {
			err = end()
			return sorted(out), err
		}
	}
}

// wanted are the fields that are kept, of both formats: apk's have one letter.
var wanted = map[string]bool{"Package": true, "Version": true, "Architecture": true, "Status": true, "P": true, "V": true, "A": true}

// readLine reads a line without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxField {
			return nil, fmt.Errorf("line of more than %d bytes: %w", MaxField, ErrTooLarge)
		}
		if err != bufio.ErrBufferFull {
			return bytes.TrimRight(line, "\r\n"), err
		}
	}
}

// dpkgStanza knows the files of distroless too, which have no Status.
func dpkgStanza(f map[string]string) (Package, bool) {
	status, ok := f["Status"]
	installed := !ok || strings.HasSuffix(status, " installed")
	return Package{f["Package"], f["Version"], f["Architecture"]}, installed && f["Package"] != ""
}

func apkStanza(f map[string]string) (Package, bool) {
	return Package{f["P"], f["V"], f["A"]}, f["P"] != ""
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// check holds a package against what dpkg and apk allow in names and versions.
func (p Package) check() error {
	for _, v := range []struct{ what, value, chars string }{
		{"name", p.Name, letters + digits + "+-._"},
		{"version", p.Version, letters + digits + "+-._~:^"},
		{"architecture", p.Arch, letters + digits + "-_"},
	} {
		missing := v.value == "" && v.what != "architecture"
		if missing || len(v.value) > maxValue || strings.Trim(v.value, v.chars) != "" || strings.HasPrefix(v.value, "-") {
			return fmt.Errorf("package %.60q: %s %.60q is not one", p.Name, v.what, v.value)
		}
	}
	return nil
}

func sorted(in []Package) []Package {
	slices.SortFunc(in, compare)
	return slices.Compact(in)
}

func compare(a, b Package) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
}
