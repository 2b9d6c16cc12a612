package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/comment"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/run"
)

// Compared is what an image is against that of the base branch.
type Compared struct {
	Before   *comment.Before
	Packages *comment.Packages
}

// Comment is what a run tells the people of a pull request. What source knows
// of the event stays; the rest of it is filled in. Images are compared by the
// names of their bakes.
func Comment(r Record, results []run.Result, redact func(string) string, source comment.Source, compared map[string]Compared) comment.Data {
	source.Template, source.TemplateDigest = r.Template.File, r.Template.Digest
	source.Tool = r.Tool.Name + " " + r.Tool.Version
	for _, v := range r.Variables {
		if !v.Default && !v.Sensitive && v.Value != nil {
			source.Variables = append(source.Variables, comment.Variable{Name: v.Name, Value: redact(valueText(v.Value)), From: v.Source})
		}
	}
	d := comment.Data{Source: source}
	joined := members(results)
	for i, b := range r.Bakes {
		d.Source.Secrets = unique(append(d.Source.Secrets, b.Secrets...))
		d.Stages = append(d.Stages, stageOf(results[i]))
		if !results[i].Bake.Ancestor || b.Status != "done" {
			img := imageOf(b, results[i], redact)
			if joined[b.Name] {
				img.Run = "" // that of the index is for every platform
			}
			img.Before, img.Packages = compared[b.Name].Before, compared[b.Name].Packages
			d.Images = append(d.Images, img)
		}
	}
	for _, p := range Problems(results, redact) {
		d.Problems = append(d.Problems, ProblemOf(p, source))
	}
	return d
}

// ProblemOf is a problem as a comment shows it: with a link to its line, if it
// is the template's.
func ProblemOf(p diag.Problem, source comment.Source) comment.Problem {
	out := comment.Problem{Warning: p.Severity == diag.Warning, Place: p.Pos.String(), Text: p.Text, Hint: p.Hint}
	if p.Pos.Line > 0 && p.Pos.File == source.Template && source.TemplateURL != "" {
		out.URL = fmt.Sprintf("%s#L%d", source.TemplateURL, p.Pos.Line)
	}
	return out
}

// members are the bakes that are part of an index which was made.
func members(results []run.Result) map[string]bool {
	out := map[string]bool{}
	for _, res := range results {
		if a := Image(res); a != nil && a.Index != nil && len(res.Published) > 0 {
			for _, name := range res.Bake.After {
				out[name] = true
			}
		}
	}
	return out
}

func valueText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return text(v)
}

func imageOf(b Bake, res run.Result, redact func(string) string) comment.Image {
	img := comment.Image{
		Name: b.Name, Builder: b.Builder, Platform: res.Bake.Platform, Status: comment.Status(b.Status), Reason: b.Reason,
		Tags: unique(b.Tags), Steps: len(res.Bake.Steps), Cached: cachedSteps(res), Seconds: b.Seconds,
	}
	if b.Error != "" {
		img.Reason = redact(b.Error)
	}
	if b.Image != "" {
		img.Name = b.Image
	}
	for _, s := range b.Steps {
		if s.Error != "" {
			img.Output = s.Output
		}
	}
	if a := Image(res); a != nil {
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
	if a.Index != nil {
		img.Platform = Platforms(a.Index)
	}
	if pushed := published(res); len(pushed) > 0 {
		img.Run = "docker run --rm " + ports(a) + pushed[0]
		img.Verify = "docker pull " + pushed[0]
	}
}

// Platforms are those of an index, in one line.
func Platforms(index v1.ImageIndex) string {
	var out []string
	if m, err := index.IndexManifest(); err == nil {
		for _, one := range m.Manifests {
			if one.Platform != nil && one.Platform.OS != "unknown" {
				out = append(out, one.Platform.String())
			}
		}
	}
	return strings.Join(out, ", ")
}

// maxPorts is how many ports a command opens.
const maxPorts = 3

// ports are the options that make the ports of an image reachable. A port is a
// number, whatever its configuration says.
func ports(a bake.Artifact) string {
	if a.Image == nil {
		return ""
	}
	config, err := a.Image.ConfigFile()
	if err != nil {
		return ""
	}
	var numbers []int
	for port := range config.Config.ExposedPorts {
		number, protocol, _ := strings.Cut(port, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && n > 0 && (protocol == "" || protocol == "tcp") {
			numbers = append(numbers, int(n))
		}
	}
	slices.Sort(numbers)
	var out strings.Builder
	for _, n := range numbers[:min(maxPorts, len(numbers))] {
		fmt.Fprintf(&out, "-p %d:%d ", n, n)
	}
	return out.String()
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
	if a := Image(res); len(s.Needs) == 0 && a != nil && a.Base.Name != "" {
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
