package packages

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// Layer is what one layer of an image does to the package database.
type Layer struct {
	files map[string][]Package // that are part of the database, by path
	gone  []string             // paths whose lower content is hidden, with all below
}

// ReadLayer reads a layer, a plain tar, to its end.
func ReadLayer(r io.Reader) (Layer, error) {
	l := Layer{files: map[string][]Package{}}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r) // who verifies the layer does so at the end
			return l, err
		}
		if err != nil {
			return l, fmt.Errorf("layer: %w", err)
		}
		if err := l.entry(h, t); err != nil {
			return l, err
		}
	}
}

func (l *Layer) entry(h *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	dir, file := path.Split(name)
	if hidden, ok := strings.CutPrefix(file, ".wh."); ok {
		if hidden == ".wh..opq" {
			hidden = ""
		}
		l.gone = append(l.gone, path.Join(dir, hidden))
		return nil
	}
	format := FormatOf(name)
	switch {
	case format == None:
		return nil
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("package database %q is no regular file", name)
	}
	list, err := Read(content, format)
	if err != nil {
		return fmt.Errorf("package database %q: %w", name, err)
	}
	l.files[name] = list
	return nil
}

// Empty reports whether the layer leaves the database as it is.
func (l Layer) Empty() bool {
	return len(l.files) == 0 && !slices.ContainsFunc(l.gone, func(gone string) bool {
		return slices.ContainsFunc(databases, func(db string) bool { return covers(gone, db) || covers(db, gone) })
	})
}

// databases are where packages are listed: files, and a folder of them.
var databases = []string{"var/lib/dpkg/status", "var/lib/dpkg/status.d", "lib/apk/db/installed", "usr/lib/apk/db/installed"}

// covers reports whether a path is another one, or a folder above it.
func covers(dir, name string) bool {
	return dir == "" || dir == name || strings.HasPrefix(name, dir+"/")
}

// Database is the package database of an image, put together from its layers,
// the highest first. The zero value is that of no layer.
type Database struct {
	files map[string][]Package
	gone  []string
}

// Under adds the next lower layer.
func (d *Database) Under(l Layer) {
	if d.files == nil {
		d.files = map[string][]Package{}
	}
	for name, list := range l.files {
		if _, higher := d.files[name]; !higher && !d.hides(name) {
			d.files[name] = list
		}
	}
	d.gone = append(d.gone, l.gone...)
}

func (d *Database) hides(name string) bool {
	return slices.ContainsFunc(d.gone, func(gone string) bool { return covers(gone, name) })
}

// Complete reports whether no lower layer can change what is in the image: one
// file with everything was found, or what is below is hidden.
func (d *Database) Complete() bool {
	for name := range d.files {
		if slices.Contains(databases, name) {
			return true
		}
	}
	return d.hides("var/lib/dpkg/status") && d.hides("var/lib/dpkg/status.d") || d.hides("lib/apk/db/installed")
}

// Packages are the installed packages, sorted.
func (d *Database) Packages() []Package {
	var out []Package
	for _, list := range slices.Collect(maps.Values(d.files)) {
		out = append(out, list...)
	}
	return sorted(out)
}
