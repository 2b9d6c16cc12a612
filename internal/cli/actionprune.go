package cli

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry"
)

// prune deletes the preview tags of a pull request that was closed, and says so
// on it. A tag that cannot be deleted is told of, and is no failure.
func (s *workflowStep) prune(ctx context.Context) error {
	if s.event.PR == 0 {
		return usage("mode prune is for pull_request events, and this is %s", s.event.Name)
	}
	if !s.trust.Push {
		return nil // the notice says why
	}
	f := s.options.flags
	p, problems, err := s.prepare(ctx, s.options.template, f.selection, s.still(), newRunID(), s.Now())
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		return err
	}
	client, err := f.registries.client(s.App, func(text string) { _ = s.log.Debug(text) }, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	d := comment.Data{Source: s.source(), Closed: &comment.Closed{Merged: s.event.Merged}}
	for _, repository := range repositories(p.plan) {
		s.pruneRepository(ctx, client, repository, f.dryRun, d.Closed)
	}
	for _, left := range d.Closed.Left {
		_ = s.log.Warning(actions.Annotation{Title: "imgbake: preview tag left", Message: left.Tag + ": " + left.Why})
	}
	s.summary(d)
	s.comment(ctx, d)
	return nil
}

// repositories are those that a plan publishes to.
func repositories(p plan.Plan) []string {
	var out []string
	add := func(targets []plan.Target) {
		for _, t := range targets {
			if !slices.Contains(out, t.Repository) {
				out = append(out, t.Repository)
			}
		}
	}
	for _, img := range p.Images {
		for _, b := range img.Bakes {
			add(b.Publish)
		}
		for _, x := range img.Indexes {
			add(x.Publish)
		}
	}
	return out
}

// previewTag matches the tags of one pull request: pr-7 and pr-7-<commit>, and
// not pr-70 or a branch's pr-7-fix.
func previewTag(number int) *regexp.Regexp {
	return regexp.MustCompile(`^pr-` + strconv.Itoa(number) + `(-[0-9a-f]{7,40})?$`)
}

func (s *workflowStep) pruneRepository(ctx context.Context, client *registry.Client, repository string, dryRun bool, told *comment.Closed) {
	repo, err := name.NewRepository(repository)
	if err != nil {
		told.Left = append(told.Left, comment.Left{Tag: repository, Why: err.Error()})
		return
	}
	preview := previewTag(s.event.PR)
	if repo.RegistryStr() == "ghcr.io" {
		s.prunePackage(ctx, repo, preview, dryRun, told)
		return
	}
	tags, err := client.Tags(ctx, repo, registry.Auth{})
	if err != nil {
		told.Left = append(told.Left, comment.Left{Tag: repository, Why: err.Error()})
		return
	}
	for _, tag := range tags {
		if !preview.MatchString(tag) {
			continue
		}
		if !dryRun {
			err = client.Delete(ctx, repo.Tag(tag), registry.Auth{})
		}
		note(told, repo.Tag(tag).String(), err)
	}
}

func note(told *comment.Closed, tag string, err error) {
	if err != nil {
		told.Left = append(told.Left, comment.Left{Tag: tag, Why: err.Error()})
		return
	}
	told.Deleted = append(told.Deleted, tag)
}

// prunePackage deletes versions of a GitHub package. The API knows no deletion
// of a tag: a version that has other tags too is kept.
func (s *workflowStep) prunePackage(ctx context.Context, repo name.Repository, preview *regexp.Regexp, dryRun bool, told *comment.Closed) {
	owner, pkg, _ := strings.Cut(repo.RepositoryStr(), "/")
	versions, packages, err := s.versions(ctx, owner, pkg)
	if err != nil {
		told.Left = append(told.Left, comment.Left{Tag: repo.Name(), Why: err.Error()})
		return
	}
	for _, v := range versions {
		if !slices.ContainsFunc(v.Tags, preview.MatchString) {
			continue
		}
		var err error
		if slices.ContainsFunc(v.Tags, func(tag string) bool { return !preview.MatchString(tag) }) {
			err = errors.New("the image has other tags too, and GitHub deletes images only")
		} else if !dryRun {
			err = packages.Delete(ctx, pkg, v.ID)
		}
		for _, tag := range v.Tags {
			if preview.MatchString(tag) {
				note(told, repo.Tag(tag).String(), err)
			}
		}
	}
}

func (s *workflowStep) versions(ctx context.Context, owner, pkg string) ([]github.PackageVersion, *github.Packages, error) {
	client, _, err := s.api()
	if err != nil {
		return nil, nil, err
	}
	packages, err := client.Packages(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	versions, err := packages.Versions(ctx, pkg)
	return versions, packages, err
}
