package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/report"
)

// mergeAll joins what the legs of a matrix pushed by digest, moves the tags, and
// tells of it.
func (s *workflowStep) mergeAll(ctx context.Context) error {
	f := s.options.flags
	sources := s.in.List("digests")
	if len(sources) == 0 {
		if !s.trust.Push {
			return nil // the legs pushed nothing either: the notice says why
		}
		return usage("input digests: mode merge wants the images that the legs pushed, REPOSITORY@sha256:... each")
	}
	merge := mergeFlags{registries: f.registries, tags: f.given.tags, dryRun: f.dryRun, record: s.in.Text("record")}
	for key, v := range f.given.annotations {
		merge.annotations = append(merge.annotations, key+"="+v)
	}
	repository, _, _ := strings.Cut(sources[0], "@")
	m, err := s.mergeImages(ctx, sources, merge)
	row := comment.Image{Name: repository, Builder: "merge", Status: comment.Done}
	if err != nil {
		row.Status, row.Reason = comment.Failed, advise(err.Error())
		s.tellMerge(ctx, row)
		return err
	}
	digest := m.index.Digest.String()
	row.Digest, row.Size, row.Platform = digest, m.index.Size, report.Platforms(m.index.Index)
	errs := []error{s.output("digest", digest, nil)}
	if merge.record != "" {
		errs = append(errs, s.giveToOwner(merge.record))
	}
	if !f.dryRun {
		image := repository + "@" + digest
		for _, tag := range f.given.tags {
			row.Tags = append(row.Tags, repository+":"+tag)
		}
		row.Run, row.Verify = "docker run --rm "+image, "docker pull "+image
		errs = append(errs, s.output("image", image, nil), s.output("tags", strings.Join(row.Tags, "\n"), nil), ignoreUnavailable(s.files.Artifact(image)))
	}
	s.tellMerge(ctx, row)
	return errors.Join(errs...)
}

// tellMerge writes the summary, and the merge's part of the comment.
func (s *workflowStep) tellMerge(ctx context.Context, row comment.Image) {
	d := comment.Data{Source: s.source(), Images: []comment.Image{row}}
	s.note(&d)
	s.summary(d)
	if ctx.Err() == nil {
		s.comment(ctx, d)
	}
}
