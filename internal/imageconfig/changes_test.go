package imageconfig

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/bake"
)

func TestChanges(t *testing.T) {
	set := func(keys ...string) map[string]struct{} {
		out := map[string]struct{}{}
		for _, k := range keys {
			out[k] = struct{}{}
		}
		return out
	}
	base := v1.Config{Env: []string{"PATH=/bin", "A=1"}, Cmd: []string{"base"}, WorkingDir: "/base"}
	tests := map[string]struct {
		lines []string
		want  func(*v1.Config)
	}{
		"shell form":      {[]string{"CMD echo  $HOME"}, func(c *v1.Config) { c.Cmd = []string{"/bin/sh", "-c", "echo  $HOME"} }},
		"exec form":       {[]string{`ENTRYPOINT ["nginx", "-g", "daemon off;"]`}, func(c *v1.Config) { c.Entrypoint = []string{"nginx", "-g", "daemon off;"} }},
		"empty exec form": {[]string{"CMD []"}, func(c *v1.Config) { c.Cmd = []string{} }},
		"shell":           {[]string{`SHELL ["/bin/bash","-c"]`, "CMD x"}, func(c *v1.Config) { c.Shell, c.Cmd = []string{"/bin/bash", "-c"}, []string{"/bin/bash", "-c", "x"} }},
		"env": {[]string{`ENV PATH=$PATH:/x A="b c" B='$A' C=${NONE:-d} D=a\ b`}, func(c *v1.Config) {
			c.Env = []string{"PATH=/bin:/x", "A=b c", "B=$A", "C=d", "D=a b"}
		}},
		"env of old":   {[]string{"ENV HOSTNAME www.example.com too"}, func(c *v1.Config) { c.Env = append(c.Env, "HOSTNAME=www.example.com too") }},
		"one line":     {[]string{"ENV A=2 B=$A"}, func(c *v1.Config) { c.Env = []string{"PATH=/bin", "A=2", "B=1"} }},
		"label":        {[]string{`label version=1.0 "a b"="c d"`}, func(c *v1.Config) { c.Labels = map[string]string{"version": "1.0", "a b": "c d"} }},
		"expose":       {[]string{"EXPOSE 80 443/TCP 53/udp 8000-8001"}, func(c *v1.Config) { c.ExposedPorts = set("80/tcp", "443/tcp", "53/udp", "8000/tcp", "8001/tcp") }},
		"volume":       {[]string{"VOLUME /a /b", `VOLUME ["/c d"]`}, func(c *v1.Config) { c.Volumes = set("/a", "/b", "/c d") }},
		"user and dir": {[]string{"USER www-data", "WORKDIR app", "WORKDIR sub/.."}, func(c *v1.Config) { c.User, c.WorkingDir = "www-data", "/base/app" }},
		"stop signal":  {[]string{"STOPSIGNAL SIGQUIT"}, func(c *v1.Config) { c.StopSignal = "SIGQUIT" }},
		"onbuild":      {[]string{"ONBUILD RUN date"}, func(c *v1.Config) { c.OnBuild = []string{"RUN date"} }},
		"health": {[]string{"HEALTHCHECK --interval=5s --retries=3 CMD curl localhost"}, func(c *v1.Config) {
			c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD-SHELL", "curl localhost"}, Interval: 5 * time.Second, Retries: 3}
		}},
		"no health":      {[]string{"HEALTHCHECK none"}, func(c *v1.Config) { c.Healthcheck = &v1.HealthConfig{Test: []string{"NONE"}} }},
		"health as list": {[]string{`HEALTHCHECK CMD ["a","b"]`}, func(c *v1.Config) { c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD", "a", "b"}} }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, want := base.DeepCopy(), base.DeepCopy()
			test.want(want)
			if err := Instruct(got, test.lines); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestChangesInError(t *testing.T) {
	tests := map[string]string{
		"RUN x": `unknown instruction "RUN"`, "ENV A": "not name=value", "CMD": "CMD needs an argument", `LABEL a="b`: "a quote is not closed",
		"ONBUILD FROM x": "ONBUILD FROM is not allowed", "HEALTHCHECK x": "HEALTHCHECK needs", "HEALTHCHECK --retries=0 CMD x": "not a positive number",
		"HEALTHCHECK --bad=1 CMD x": "unknown flag", "SHELL bash": "SHELL needs a JSON list", "EXPOSE 80/icmp": "unknown protocol", "EXPOSE 0": "not a number or range", "": "unknown instruction",
	}
	for line, want := range tests {
		if err := Instruct(&v1.Config{}, []string{"USER x", line}); err == nil || !strings.HasPrefix(err.Error(), "changes[1]: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

func FuzzParseChanges(f *testing.F) {
	for _, seed := range []string{"ENV A=$B", `CMD ["a"]`, "HEALTHCHECK --interval=1s CMD x", "EXPOSE 1-65535", `LABEL "a\`, "ENV A=${B:-${C}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		_ = Instruct(&v1.Config{Env: []string{"B=x"}}, []string{line})
	})
}

func TestApplyConfig(t *testing.T) {
	c := v1.Config{Entrypoint: []string{"old"}, Cmd: []string{"old"}, Env: []string{"A=1"}, WorkingDir: "/w", Volumes: map[string]struct{}{"/v": {}}}
	Apply(&c, bake.ImageConfig{
		Entrypoint: []string{"new"}, Env: map[string]string{"B": "2", "A": "3"}, Workdir: "sub", Volumes: []string{}, Expose: []string{"80"},
		Healthcheck: &bake.Healthcheck{Test: []string{"curl -f localhost"}},
	})
	want := v1.Config{
		Entrypoint: []string{"new"}, Env: []string{"A=3", "B=2"}, WorkingDir: "/w/sub", ExposedPorts: map[string]struct{}{"80/tcp": {}},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD-SHELL", "curl -f localhost"}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
