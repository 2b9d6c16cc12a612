package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestCapabilities(t *testing.T) {
	catalog := bake.Catalog{
		Provisioners: []bake.Kind[bake.Provisioner]{{Name: "shell"}, {Name: "shell-local", HostExec: true}},
		Posts:        []bake.Kind[bake.Post]{{Name: "shell-local", HostExec: true}},
	}
	for _, test := range []struct {
		name string
		body map[string]any
		step plan.Step
		post string
		want []string
	}{
		{"nothing", map[string]any{"image": "debian", "privileged": false, "network": "bridge", "volumes": map[string]string{}}, plan.Step{Type: "shell"}, "manifest", nil},
		{"privileged", map[string]any{"privileged": true}, plan.Step{}, "", []string{"privileged (web)"}},
		{"network", map[string]any{"network": "host"}, plan.Step{}, "", []string{"network host (web)"}},
		{"mounts", map[string]any{"volumes": map[string]string{"/srv": "/srv:ro"}, "cap_add": []string{"SYS_ADMIN", "NET_ADMIN"}, "device": []string{"/dev/kvm"}}, plan.Step{}, "",
			[]string{"cap_add SYS_ADMIN NET_ADMIN (web)", "device /dev/kvm (web)", "volumes /srv (web)"}},
		{"packer", map[string]any{"run_command": []string{"-d", "--privileged"}}, plan.Step{}, "", []string{"run_command -d --privileged (web)"}},
		{"host", nil, plan.Step{Type: "shell-local"}, "shell-local", []string{"commands of shell-local (web)"}},
		{"agent", nil, plan.Step{Type: "shell", Common: plan.StepCommon{Mounts: []plan.StepMount{{Type: "ssh"}, {Type: "cache"}}}}, "", []string{"the SSH agent (web)"}},
	} {
		p := plan.Plan{Images: []plan.Image{{Bakes: []plan.Bake{{
			Name: "web", Body: value.Of(diag.Pos{}, test.body), Steps: []plan.Step{test.step}, Posts: [][]plan.Post{{{Type: test.post}}},
		}}}}}
		if diff := cmp.Diff(test.want, Capabilities(p, catalog)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestCapabilitiesOfSeveral(t *testing.T) {
	body := value.Of(diag.Pos{}, map[string]any{"privileged": true})
	p := plan.Plan{Images: []plan.Image{{Bakes: []plan.Bake{{Name: "a", Body: body}, {Name: "b", Body: body}}}}}
	if diff := cmp.Diff([]string{"privileged (a, b)"}, Capabilities(p, bake.Catalog{})); diff != "" {
		t.Error(diff)
	}
}
