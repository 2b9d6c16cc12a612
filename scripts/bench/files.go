package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The tree of many small files.
const (
	smallFiles = 50_000
	smallBytes = 4_000
)

const filesImgbake = `variables:
  compression: { default: gzip }

images:
  files:
    compression: "${var.compression}"
    builders:
      docker: { rootfs: tiny.tar }
    provisioners:
      - file: { source: tree/, destination: /srv/tree }
    post_processors:
      - [docker-tag: { repository: REGISTRY/bench/files }, docker-push: {}]
`

// filesBench sends a tree that lies in memory to the registry.
type filesBench struct {
	host
	options
}

func (b filesBench) setup(context.Context) error {
	if _, err := os.Stat(filepath.Join(b.dir, "tree")); err == nil {
		return nil
	}
	err := errors.Join(b.write(b.dir, map[string]string{"imgbake.yaml": filesImgbake}), writeTiny(filepath.Join(b.dir, "tiny.tar")))
	source := &loop{file: b.Rootfs}
	defer source.Close()
	for i := 0; i < smallFiles && err == nil; i++ {
		dir := filepath.Join(b.dir, "tree", fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = fill(filepath.Join(dir, fmt.Sprintf("%02d", i%100)), source, smallBytes)
		}
	}
	return err
}

// fresh forgets the image: the registry and imgbake's cache are empty.
func (b filesBench) fresh(context.Context, int) error {
	return errors.Join(os.RemoveAll(filepath.Join(b.Storage, "docker")), os.RemoveAll(b.cache()))
}

func (b filesBench) cache() string { return filepath.Join(b.Work, "files-cache") }

// manyFiles is W7.
func manyFiles(h host, o options) workload {
	b := filesBench{h.in(filepath.Join(o.Memory, "files")), o}
	w := workload{
		ID: "W7", Title: fmt.Sprintf("%d small files to a pushed image", smallFiles),
		Note: "Files of 4 KB on tmpfs, copied into an image that is pushed to an empty registry, from the program's start to its end. " +
			"`tar | sha256sum` of the same tree is what reading and hashing it once costs.",
		Metrics: []metric{{"time", "s"}},
		Goals:   []goal{{Metric: "time", Against: "tar | sha256sum", Limit: 3}},
		Setup:   b.setup,
	}
	add := func(tool string, args []string) {
		w.Cells = append(w.Cells, cell{Tool: tool, Before: b.fresh, Run: func(ctx context.Context) (sample, error) {
			return seconds(ctx, b.with("IMGBAKE_CACHE_DIR="+b.cache()), append(args[:len(args):len(args)], "imgbake.yaml")...)
		}})
	}
	for _, k := range o.imgbakes("files", func(string) []string { return []string{"-load=false"} }) {
		switch k.tool {
		case "imgbake, loaded":
			continue
		case subject:
			add(subject+", zstd", append(k.args[:len(k.args):len(k.args)], "-var", "compression=zstd"))
		}
		add(k.tool, k.args)
	}
	w.Cells = append(w.Cells, cell{Tool: "tar | sha256sum", Run: func(ctx context.Context) (sample, error) {
		return seconds(ctx, b.host, "sh", "-c", "tar -c tree | sha256sum")
	}})
	return w
}
