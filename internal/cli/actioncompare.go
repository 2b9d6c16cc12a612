package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/packages"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/report"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/store"
)

// What a comparison with the base branch's images may cost.
const (
	compareTime  = 30 * time.Second
	compareBytes = 256 << 20 // fetched
	comparePlain = 4 << 30   // of a layer, unpacked
	compareTags  = 2         // that are looked for
)

// comparison is the work of telling what a pull request changes.
type comparison struct {
	*tools
	branch string
	names  map[string][]name.Tag // of the base branch's images, by bake
	done   []run.Result
	left   int64 // bytes that may be fetched
	say    func(string)
}

// compare tells of each image what it is against that of the branch which the
// pull request goes into. What cannot be told is left out, with a line for who
// looks for it: nothing depends on it.
func (s *workflowStep) compare(ctx context.Context, done baked) map[string]report.Compared {
	if s.event.PR == 0 || s.event.BaseRef == "" || ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
	c := comparison{branch: s.event.BaseRef, done: done.results, left: compareBytes}
	c.say = func(text string) { _ = s.log.Debug("comparison: " + done.redactor.Redact(text)) }
	var err error
	if c.names, err = s.baseNames(ctx, done.results); err == nil {
		c.tools, err = s.tools(s.options.flags)
	}
	if err != nil {
		c.say(err.Error())
		return nil
	}
	defer c.close()
	out := map[string]report.Compared{}
	for _, res := range done.results {
		if a := report.Image(res); a != nil && a.Image != nil && res.Err == nil && !res.Bake.Ancestor {
			if out[res.Bake.Name], err = c.image(ctx, res, *a); err != nil {
				c.say(fmt.Sprintf("%s: %v", res.Bake.Name, err))
			}
		}
	}
	return out
}

// baseNames are the tags that a push to the base branch moves: the same
// template planned as if that were the event. Those that this run has moved
// itself do not count.
func (s *workflowStep) baseNames(ctx context.Context, results []run.Result) (map[string][]name.Tag, error) {
	facts := s.tagFacts()
	facts.Event, facts.Ref, facts.SHA, facts.PR, facts.BaseRef = "push", "refs/heads/"+s.event.BaseRef, s.event.BaseSHA, 0, ""
	made, problems := s.automaticTags(facts)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	selection := s.options.flags.selection
	selection.given.tags = append([]string{}, made.Names()...)
	selection.given.git = map[string]any{"branch": s.event.BaseRef, "sha": facts.SHA, "short_sha": facts.SHA[:min(7, len(facts.SHA))]}
	p, problems, err := s.prepare(ctx, s.options.template, selection, s.still(), newRunID(), s.Now())
	if err = errors.Join(err, problems.Err()); err != nil {
		return nil, err
	}
	var moved []string
	for _, res := range results {
		moved = append(moved, res.Tags...)
	}
	return targetNames(p.plan, moved), nil
}

// targetNames are the tags of each bake, those of the index that it is in among
// them.
func targetNames(p plan.Plan, except []string) map[string][]name.Tag {
	out := map[string][]name.Tag{}
	add := func(bake string, targets []plan.Target) {
		for _, t := range targets {
			repo, err := name.NewRepository(t.Repository)
			if err != nil {
				continue
			}
			for _, tag := range t.Tags {
				if ref := repo.Tag(tag); !slices.Contains(except, ref.Name()) && len(out[bake]) < compareTags {
					out[bake] = append(out[bake], ref)
				}
			}
		}
	}
	for _, img := range p.Images {
		for _, b := range img.Bakes {
			add(b.Name, b.Publish)
		}
		for _, x := range img.Indexes {
			for _, b := range x.Bakes {
				add(b, x.Publish)
			}
		}
	}
	return out
}

// image compares one image with the first of its names that is there.
func (c *comparison) image(ctx context.Context, res run.Result, a bake.Artifact) (out report.Compared, err error) {
	var platform v1.Platform
	if a.Platform != nil {
		platform = *a.Platform
	}
	for _, tag := range c.names[res.Bake.Name] {
		before, desc, err := c.registry.Image(ctx, tag, platform, registry.Auth{})
		var refused *registry.Error
		if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
			out.Before = &comment.Before{Name: c.branch} // and nothing of it: the image is new
			continue
		}
		if err != nil {
			return report.Compared{}, err
		}
		was, err := before.Manifest()
		if err != nil {
			return report.Compared{}, err
		}
		is, err := a.Image.Manifest()
		if err != nil {
			return report.Compared{}, err
		}
		out.Before = &comment.Before{Name: c.branch, Digest: desc.Digest.String(), Size: bake.ImageSize(was), SameFiles: shared(was.Layers, is.Layers) == max(len(was.Layers), len(is.Layers))}
		out.Packages, err = c.packages(ctx, source{was.Layers, []name.Repository{tag.Context()}}, source{is.Layers, c.homes(res)})
		return out, err
	}
	return out, nil
}

// homes are the repositories that have what was baked: where it was published,
// and where its first base is from.
func (c *comparison) homes(res run.Result) (out []name.Repository) {
	for _, ref := range res.Published[:min(1, len(res.Published))] {
		out = append(out, ref.Context())
	}
	for from := res.Bake.From; from != ""; from = res.Bake.From {
		i := slices.IndexFunc(c.done, func(r run.Result) bool { return r.Bake.Name == from })
		if i < 0 {
			return out
		}
		res = c.done[i]
	}
	if a := report.Image(res); a != nil {
		if ref, err := name.ParseReference(a.Base.Name); err == nil {
			out = append(out, ref.Context())
		}
	}
	return out
}

// shared is how many of the lowest layers two images have in common.
func shared(a, b []v1.Descriptor) (n int) {
	for n < min(len(a), len(b)) && a[n].Digest == b[n].Digest {
		n++
	}
	return n
}

// source is where the layers of an image can be had that are not in the store.
type source struct {
	layers []v1.Descriptor // lowest first
	repos  []name.Repository
}

// packages compares the packages of two images. The layers that they share are
// read only where the others do not tell everything.
func (c *comparison) packages(ctx context.Context, was, is source) (*comment.Packages, error) {
	common := shared(was.layers, is.layers)
	var before, now packages.Database
	touchedBefore, err := c.read(ctx, was, common, &before)
	if err != nil {
		return nil, err
	}
	touchedNow, err := c.read(ctx, is, common, &now)
	if err != nil {
		return nil, err
	}
	out := &comment.Packages{Against: c.branch}
	if !touchedBefore && !touchedNow {
		return out, nil
	}
	for i := common - 1; i >= 0 && !(before.Complete() && now.Complete()); i-- {
		l, err := c.layer(ctx, was.layers[i], was.repos)
		if err != nil {
			return nil, err
		}
		before.Under(l)
		now.Under(l)
	}
	list := now.Packages()
	for _, change := range packages.Diff(before.Packages(), list) {
		out.Changes = append(out.Changes, comment.Package(change))
	}
	out.Total = len(list)
	return out, nil
}

// read reads an image's layers, the highest first, until all is known or those
// are reached that it shares.
func (c *comparison) read(ctx context.Context, from source, common int, into *packages.Database) (touched bool, err error) {
	for i := len(from.layers) - 1; i >= common && !into.Complete(); i-- {
		l, err := c.layer(ctx, from.layers[i], from.repos)
		if err != nil {
			return false, err
		}
		touched = touched || !l.Empty()
		into.Under(l)
	}
	return touched, nil
}

// layer reads what a layer says of packages.
func (c *comparison) layer(ctx context.Context, desc v1.Descriptor, repos []name.Repository) (packages.Layer, error) {
	packed, err := c.open(ctx, desc, repos)
	if err != nil {
		return packages.Layer{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	defer packed.Close()
	plain, err := layer.Decompress(store.Reader(ctx, packed), layer.Limits{Bytes: comparePlain})
	if err != nil {
		return packages.Layer{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	defer plain.Close()
	read, err := packages.ReadLayer(plain)
	if err == nil {
		_, err = io.Copy(io.Discard, packed) // it is verified at its end
	}
	if err != nil {
		return packages.Layer{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return read, nil
}

// open opens a layer: in the store, or else in the first repository that has
// it, as far as that is not too much.
func (c *comparison) open(ctx context.Context, desc v1.Descriptor, repos []name.Repository) (io.ReadCloser, error) {
	l, err := c.store.Layer(desc.Digest)
	if err == nil {
		return l.Compressed()
	}
	if c.left -= desc.Size; c.left < 0 {
		return nil, fmt.Errorf("comparing packages takes more than %d MiB from the registry", compareBytes>>20)
	}
	for _, repo := range repos {
		if l, err = c.registry.Layer(ctx, repo.Digest(desc.Digest.String()), registry.Auth{}); err == nil {
			var packed io.ReadCloser
			if packed, err = l.Compressed(); err == nil {
				return packed, nil
			}
		}
	}
	return nil, err
}
