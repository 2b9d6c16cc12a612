package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The layers of the push workload.
const (
	layerBytes = 200_000_000
	fileBytes  = 4_000_000
)

// layers writes a folder of files for each layer: the tar of a root file
// system over and over, cut into pieces. So it compresses as images do, no two
// pieces are the same, and it is the same data each time.
func layers(dir, rootfs string) error {
	source := &loop{file: rootfs}
	defer source.Close()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		for i := range layerBytes / fileBytes {
			if err := fill(filepath.Join(dir, name, fmt.Sprintf("%03d", i)), source, fileBytes); err != nil {
				return err
			}
		}
	}
	return nil
}

func fill(file string, from io.Reader, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, from, size)
	return errors.Join(err, f.Close())
}

// loop reads a file again and again.
type loop struct {
	file string
	open *os.File
}

func (l *loop) Read(p []byte) (int, error) {
	for range 2 {
		if l.open == nil {
			var err error
			if l.open, err = os.Open(l.file); err != nil {
				return 0, err
			}
		}
		n, err := l.open.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		l.Close()
	}
	return 0, fmt.Errorf("%s is empty", l.file)
}

// Close closes the file, for now.
func (l *loop) Close() error {
	if l.open == nil {
		return nil
	}
	err := l.open.Close()
	l.open = nil
	return err
}

// writeTiny writes a tar of one empty folder, the smallest of bases.
func writeTiny(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o755})
	return errors.Join(err, w.Close(), f.Close())
}
