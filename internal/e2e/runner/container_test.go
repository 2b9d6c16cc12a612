package runner

import (
	"slices"
	"strings"
	"testing"
)

func TestDocker(t *testing.T) {
	s := Step{Dir: "/job", Program: []string{"/imgbake", "version"}, Container: &Container{Engine: "unix:///run/e.sock", Image: "action", Name: "one", Network: "net"}}
	args, values := s.docker(map[string]string{
		"CI": "true", "GITHUB_WORKSPACE": s.workspace(), "INPUT_DIR": s.workspace() + "/x", "INPUT_LIST": "a=" + s.workspace(),
		"RUNNER_WORKSPACE": s.runnerWorkspace(), "HOME": s.home(), "RUNNER_TEMP": s.temp(), "INPUT_OTHER": s.workspace() + "-other",
	})
	want := []string{
		"GITHUB_WORKSPACE=/github/workspace", "HOME=/github/home", "INPUT_DIR=/github/workspace/x", "INPUT_LIST=a=/job/web/web",
		"INPUT_OTHER=/job/web/web-other", "RUNNER_TEMP=/github/runner_temp", "RUNNER_WORKSPACE=/job/web",
	}
	if !slices.Equal(values, want) {
		t.Errorf("environment %q, want %q", values, want)
	}
	line := strings.Join(args, " ")
	for _, want := range []string{
		"docker --host unix:///run/e.sock run --name one ", " -e HOME ", " -e CI=true ", " --network net ", " --entrypoint /imgbake ",
		" -v /run/e.sock:/var/run/docker.sock ", " -v /job/_temp/_github_home:/github/home ", " action version",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
	}
}
