package sink

import (
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

const digest = "sha256:3f2a91bc0d1288aabbccddeeff00112233445566778899aabbccddeeff001122"

// sample is a run of three bakes: base goes well, web fails, edge is skipped.
func sample() []bake.Event {
	return []bake.Event{
		{Time: at(0), Type: bake.RunStarted, Text: "imgbake.yaml", Data: map[string]string{"bakes": "base.docker,web.docker,edge.docker"}},
		{Time: at(0), Type: bake.BakeStarted, Bake: "base.docker", Steps: 2},
		{Time: at(0), Type: bake.StepStarted, Bake: "base.docker", Step: 1, Steps: 2, Title: "shell: apt-get update"},
		{Time: at(0), Type: bake.StepFinished, Bake: "base.docker", Step: 1, Steps: 2, Data: map[string]string{"cached": "true"}},
		{Time: at(1), Type: bake.StepStarted, Bake: "base.docker", Step: 2, Steps: 2, Title: "shell: scripts/harden.sh"},
		{Time: at(2), Type: bake.Output, Bake: "base.docker", Step: 2, Stream: "stdout", Text: "a, \x1b[31mred\x1b[0m\tline"},
		{Time: at(3), Type: bake.StepFinished, Bake: "base.docker", Step: 2, Steps: 2, Seconds: 2},
		{Time: at(3), Type: bake.Warned, Bake: "base.docker", Text: "no created time"},
		{Time: at(4), Type: bake.ArtifactMade, Bake: "base.docker", Artifact: &bake.ArtifactSummary{
			Builder: "docker", Digest: digest, Size: 31234567, Platform: "linux/amd64",
			Tags: []string{"localhost:5000/base:1.0", "localhost:5000/base:latest"},
		}},
		{Time: at(4), Type: bake.ArtifactMade, Bake: "base.docker", Artifact: &bake.ArtifactSummary{
			Builder: "manifest", Files: []string{"/out/manifest.json"},
		}},
		{Time: at(4), Type: bake.Published, Bake: "base.docker", Refs: []string{"localhost:5000/base@" + digest}},
		{Time: at(4), Type: bake.BakeFinished, Bake: "base.docker", Seconds: 4},
		{Time: at(4), Type: bake.BakeStarted, Bake: "web.docker", Steps: 1},
		{Time: at(4), Type: bake.Note, Bake: "web.docker", Text: "container 0123 started"},
		{Time: at(4), Type: bake.StepStarted, Bake: "web.docker", Step: 1, Steps: 1, Title: "shell: make"},
		{Time: at(5), Type: bake.Output, Bake: "web.docker", Step: 1, Stream: "stderr", Text: "::error::make: *** Error 2"},
		{Time: at(6), Type: bake.StepFinished, Bake: "web.docker", Step: 1, Steps: 1, Seconds: 2, Error: "make: exit status 2\nimgbake.yaml:31:9"},
		{Time: at(6), Type: bake.CleanupProblem, Bake: "web.docker", Error: "container 0123: in use"},
		{Time: at(6), Type: bake.MachineDetached, Bake: "web.docker", Text: "docker rm -f 0123"},
		{Time: at(6.5), Type: bake.BakeFinished, Bake: "web.docker", Seconds: 2.5, Error: "step 1 (shell): make: exit status 2\nimgbake.yaml:31:9"},
		{Time: at(6.5), Type: bake.BakeSkipped, Bake: "edge.docker", Text: "web.docker failed"},
		{Time: at(66.5), Type: bake.RunFinished, Seconds: 66.5},
	}
}

func play(s bake.Sink, events []bake.Event) {
	for _, e := range events {
		s.Emit(e)
	}
}

// recorder keeps events.
type recorder struct{ events []bake.Event }

func (r *recorder) Emit(e bake.Event) { r.events = append(r.events, e) }
