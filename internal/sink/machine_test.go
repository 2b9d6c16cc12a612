package sink

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
)

func csv(events ...bake.Event) []string {
	var b bytes.Buffer
	play(NewMachineReadable(&b), events)
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestMachineReadableEnd(t *testing.T) {
	lines := csv(sample()...)
	from := 0
	for i, l := range lines {
		if strings.Contains(l, "ui,say,==> 1 baked") {
			from = i
		}
	}
	want := strings.Split(`1772600833,,ui,say,==> 1 baked%!(PACKER_COMMA) 1 failed%!(PACKER_COMMA) 1 skipped in 1m07s
1772600833,,ui,say,--> base.docker: docker linux/amd64 `+digest+` (31.2 MB) as localhost:5000/base:1.0%!(PACKER_COMMA) localhost:5000/base:latest
1772600833,,ui,say,--> base.docker: manifest in /out/manifest.json
1772600833,,ui,error,==> web.docker: step 1 (shell): make: exit status 2
1772600833,,error-count,1
1772600833,web.docker,error,step 1 (shell): make: exit status 2\nimgbake.yaml:31:9
1772600833,base.docker,artifact-count,2
1772600833,base.docker,artifact,0,builder-id,imgbake.docker
1772600833,base.docker,artifact,0,id,`+digest+`
1772600833,base.docker,artifact,0,string,docker linux/amd64 `+digest+` (31.2 MB) as localhost:5000/base:1.0%!(PACKER_COMMA) localhost:5000/base:latest
1772600833,base.docker,artifact,0,files-count,0
1772600833,base.docker,artifact,0,end
1772600833,base.docker,artifact,1,builder-id,imgbake.manifest
1772600833,base.docker,artifact,1,id,/out/manifest.json
1772600833,base.docker,artifact,1,string,manifest in /out/manifest.json
1772600833,base.docker,artifact,1,files-count,1
1772600833,base.docker,artifact,1,file,0,/out/manifest.json
1772600833,base.docker,artifact,1,end`, "\n")
	if diff := cmp.Diff(want, lines[from:]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMachineReadableLines(t *testing.T) {
	tests := []struct {
		name  string
		event bake.Event
		want  []string
	}{
		{
			"output", bake.Event{Type: bake.Output, Bake: "a", Text: "x, y"},
			[]string{"1772600767,,ui,message,    a: x%!(PACKER_COMMA) y"},
		},
		{
			"several lines", bake.Event{Type: bake.Note, Bake: "a", Text: "one\ntwo"},
			[]string{"1772600767,,ui,say,==> a: one", "1772600767,,ui,say,==> a: two"},
		},
		{
			"an error", bake.Event{Type: bake.BakeSkipped, Bake: "a", Text: "base failed"},
			[]string{"1772600767,,ui,error,==> a: skipped: base failed"},
		},
		{"nothing to say", bake.Event{Type: bake.StepFinished, Bake: "a"}, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.event.Time = start
			if diff := cmp.Diff(tt.want, csv(tt.event)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestMachineReadableArtifactOfNothing(t *testing.T) {
	lines := csv(
		bake.Event{Time: start, Type: bake.ArtifactMade, Bake: "a", Artifact: &bake.ArtifactSummary{Builder: "null"}},
		bake.Event{Time: start, Type: bake.BakeFinished, Bake: "a"},
		bake.Event{Time: start, Type: bake.RunFinished},
	)
	got := strings.Join(lines[len(lines)-3:], "\n")
	want := "1772600767,a,artifact-count,1\n1772600767,a,artifact,0,nil\n1772600767,a,artifact,0,end"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
