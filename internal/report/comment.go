package report

import (
	"slices"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
)

// Comment is what a run tells the people of a pull request. What source knows
// of the event stays; the rest of it is filled in.
func Comment(r Record, results []run.Result, redact func(string) string, source comment.Source) comment.Data {
	source.Template, source.TemplateDigest = r.Template.File, r.Template.Digest
	source.Tool = r.Tool.Name + " " + r.Tool.Version
	for _, v := range r.Variables {
		if !v.Default && !v.Sensitive && v.Value != nil {
			source.Variables = append(source.Variables, comment.Variable{Name: v.Name, Value: redact(valueText(v.Value)), From: v.Source})
		}
	}
	d := comment.Data{Source: source}
	for i, b := range r.Bakes {
		d.Source.Secrets = unique(append(d.Source.Secrets, b.Secrets...))
		d.Stages = append(d.Stages, stageOf(results[i]))
		if !results[i].Bake.Ancestor || b.Status != "done" {
			d.Images = append(d.Images, imageOf(b, results[i]))
		}
	}
	for _, p := range Problems(results, redact) {
		d.Problems = append(d.Problems, comment.Problem{Place: p.Pos.String(), Text: p.Text, Hint: p.Hint})
	}
	return d
}

func valueText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return text(v)
}

func imageOf(b Bake, res run.Result) comment.Image {
	img := comment.Image{
		Name: b.Name, Builder: b.Builder, Platform: res.Bake.Platform, Status: comment.Status(b.Status), Reason: b.Reason,
		Tags: unique(b.Tags), Steps: len(res.Bake.Steps), Cached: cachedSteps(res), Seconds: b.Seconds,
	}
	if b.Error != "" {
		img.Reason = b.Error
	}
	if b.Image != "" {
		img.Name = b.Image
	}
	if a := last(res); a != nil {
		describe(&img, *a, res)
	}
	return img
}

func describe(img *comment.Image, a bake.Artifact, res run.Result) {
	img.Digest, img.Size, img.Base = digest(res, a), a.Size, a.Base.Name
	if a.Base.Digest.Hex != "" {
		img.BaseDigest = a.Base.Digest.String()
	}
	if p := platform(a); p != "" {
		img.Platform = p
	}
	if pushed := published(res); len(pushed) > 0 {
		img.Run = "docker run --rm " + pushed[0]
	}
}

func cachedSteps(res run.Result) (n int) {
	for _, s := range res.Steps {
		if s.Cached {
			n++
		}
	}
	return n
}

func stageOf(res run.Result) comment.Stage {
	s := comment.Stage{Name: res.Bake.Name, Needs: needed(res.Bake), Seconds: res.Seconds, Status: comment.Status(Status(res))}
	if a := last(res); len(s.Needs) == 0 && a != nil && a.Base.Name != "" {
		s.Needs = []string{a.Base.Name}
	}
	if s.Status == comment.Done && len(res.Steps) > 0 && cachedSteps(res) == len(res.Steps) {
		s.Status = comment.Cached
	}
	return s
}

// needed are the bakes that a bake waits for.
func needed(b plan.Bake) []string {
	names := slices.Clone(b.After)
	if b.From != "" && !slices.Contains(names, b.From) {
		names = append([]string{b.From}, names...)
	}
	return names
}
