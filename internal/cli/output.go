package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/imgbake/imgbake-action/internal/publish"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/store"
)

// outputs reads what --output was given: a folder, or type=oci|docker,dest=PATH.
func (a *App) outputs(entries []string) ([]publish.Output, error) {
	var out []publish.Output
	streams := 0
	for _, entry := range entries {
		o, err := a.readOutput(entry)
		if err != nil {
			return nil, err
		}
		if o.Stream != nil {
			streams++
		}
		out = append(out, o)
	}
	if streams > 1 {
		return nil, usage("--output: only one can go to standard output")
	}
	return out, nil
}

func (a *App) readOutput(entry string) (publish.Output, error) {
	typ, dest := "oci", entry
	if strings.HasPrefix(entry, "type=") || strings.HasPrefix(entry, "dest=") {
		dest = ""
		for part := range strings.SplitSeq(entry, ",") {
			switch key, v, _ := strings.Cut(part, "="); key {
			case "type":
				typ = v
			case "dest":
				dest = v
			default:
				return publish.Output{}, usage("--output %q: unknown key %q; there are type and dest", entry, key)
			}
		}
	}
	if dest == "" {
		return publish.Output{}, usage("--output %q: want a folder, or type=oci,dest=PATH or type=docker,dest=FILE", entry)
	}
	o := publish.Output{Path: dest}
	if dest == "-" {
		o.Stream = a.Stdout
	} else {
		o.Path = a.path(dest)
	}
	switch archive := dest == "-" || strings.HasSuffix(dest, ".tar"); {
	case typ == "docker":
		o.Format = publish.DockerArchive
	case typ != "oci":
		return o, usage("--output %q: unknown type %q; there are oci and docker", entry, typ)
	case archive:
		o.Format = publish.OCIArchive
	default:
		o.Format = publish.Layout
	}
	return o, nil
}

// streamed reports whether standard output is taken by an image.
func streamed(outputs []publish.Output) bool {
	for _, o := range outputs {
		if o.Stream != nil {
			return true
		}
	}
	return false
}

// write writes every image to all outputs.
func write(ctx context.Context, outputs []publish.Output, results []run.Result) error {
	var errs []error
	for _, o := range outputs {
		errs = append(errs, o.Write(ctx, madeImages(results, o.Format == publish.DockerArchive)))
	}
	return errors.Join(errs...)
}

// madeImages are the images of a run, each under its tags or else under the
// name of its bake: those for several platforms together, or one by one.
func madeImages(results []run.Result, apart bool) []store.Named {
	together := map[string]bool{}
	for _, res := range results {
		for _, made := range res.Artifacts {
			for _, name := range res.Bake.After {
				together[name] = together[name] || made.Index != nil
			}
		}
	}
	var images []store.Named
	for _, res := range results {
		for _, made := range res.Artifacts {
			if made.Image == nil && made.Index == nil || !apart && together[res.Bake.Name] || apart && made.Image == nil {
				continue
			}
			names := []string{res.Bake.Name}
			for i, ref := range made.Refs {
				if i == 0 {
					names = nil
				}
				names = append(names, ref.Name())
			}
			for _, name := range names {
				images = append(images, store.Named{Name: name, Image: made.Image, Index: made.Index})
			}
		}
	}
	return images
}
