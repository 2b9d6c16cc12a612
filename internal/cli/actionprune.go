package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/comment"
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
	d := comment.Data{Source: s.source(), Closed: &comment.Closed{Merged: s.event.Merged, DryRun: f.dryRun}}
	for _, repository := range repositories(p.plan) {
		s.pruneRepository(ctx, client, repository, f.dryRun, d.Closed)
	}
	for _, left := range d.Closed.Left {
		_ = s.log.Warning(actions.Annotation{Title: "imgbake: preview tag left", Message: left.Tag + ": " + left.Why})
	}
	s.summary(d)
	if f.dryRun {
		for _, tag := range d.Closed.Deleted {
			fmt.Fprintln(s.Stdout, "would delete "+tag)
		}
		return nil
	}
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
	var pruned []registry.Pruned
	if preview := previewTag(s.event.PR); err == nil {
		if repo.RegistryStr() == packagesHost(s.event.ServerURL) {
			pruned, err = s.prunePackage(ctx, client, repo, preview, dryRun)
		} else {
			pruned, err = client.Prune(ctx, repo, preview.MatchString, registry.Auth{}, dryRun)
		}
	}
	for _, p := range pruned {
		tag := repository + ":" + p.Tag
		if p.Err == nil {
			told.Deleted = append(told.Deleted, tag)
			continue
		}
		told.Left = append(told.Left, comment.Left{Tag: tag, Why: p.Err.Error()})
	}
	if err != nil {
		told.Left = append(told.Left, comment.Left{Tag: repository, Why: err.Error()})
	}
}

// packagesHost is the registry whose images the API of a server deletes.
func packagesHost(server string) string {
	host := strings.TrimPrefix(server, "https://")
	if host == "github.com" {
		return "ghcr.io"
	}
	return "containers." + host
}

func (s *workflowStep) prunePackage(ctx context.Context, client *registry.Client, repo name.Repository, preview *regexp.Regexp, dryRun bool) ([]registry.Pruned, error) {
	api, _, err := s.api()
	if err != nil {
		return nil, err
	}
	owner, pkg, _ := strings.Cut(repo.RepositoryStr(), "/")
	packages, err := api.Packages(ctx, owner)
	if err != nil {
		return nil, err
	}
	p := &packagePrune{client: client, packages: packages, repo: repo, name: pkg, doomed: preview.MatchString, failed: map[string]error{}}
	return p.do(ctx, dryRun)
}
