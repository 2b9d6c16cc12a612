package docker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		config map[string]any
		want   string // the only problem, or none
	}{
		"image":               {map[string]any{"image": "debian:bookworm"}, ""},
		"earlier stage":       {map[string]any{}, ""},
		"packer":              {map[string]any{"image": "ubuntu", "commit": "true", "changes": []any{"USER www", `CMD ["a"]`}, "run_command": []any{"-d", "-i", "-t", "--entrypoint=/bin/sh", "--", "{{.Image}}"}}, "run_command: -- is not supported"},
		"packer run":          {map[string]any{"image": "ubuntu", "commit": true, "run_command": []any{"-d", "-i", "-t", "--entrypoint=/bin/sh", "{{ .Image }}"}}, ""},
		"bad reference":       {map[string]any{"image": "Not An Image"}, `image "Not An Image" is no reference`},
		"two sources":         {map[string]any{"image": "a", "rootfs": "b.tar"}, "image and rootfs are both given"},
		"two results":         {map[string]any{"image": "a", "commit": true, "discard": true}, "commit and discard are both given"},
		"no result":           {map[string]any{"image": "a", "commit": false}, "commit is false"},
		"export only":         {map[string]any{"image": "a", "commit": false, "export_path": "x.tar"}, ""},
		"unknown instruction": {map[string]any{"image": "a", "changes": []any{"USER x", "ENVV a=b"}}, `unknown instruction "ENVV"`},
		"pull word":           {map[string]any{"image": "a", "pull": "sometimes"}, "expected true, false or missing"},
		"pull missing":        {map[string]any{"image": "a", "pull": "missing"}, ""},
		"platform":            {map[string]any{"image": "a", "platform": "arm64"}, `platform "arm64"`},
		"shm":                 {map[string]any{"image": "a", "shm_size": "many"}, `shm_size "many"`},
		"memory":              {map[string]any{"image": "a", "memory": "much"}, `memory "much"`},
		"cpus":                {map[string]any{"image": "a", "cpus": -1}, "cpus: -1"},
		"pids_limit":          {map[string]any{"image": "a", "pids_limit": -1}, "pids_limit: -1"},
		"limits":              {map[string]any{"image": "a", "memory": "1g", "cpus": 1.5, "pids_limit": 100}, ""},
		"ulimit":              {map[string]any{"image": "a", "ulimits": []any{"nofile=a"}}, `ulimit "nofile=a"`},
		"host":                {map[string]any{"image": "a", "add_hosts": []any{"db"}}, `host entry "db"`},
		"volume":              {map[string]any{"image": "a", "volumes": map[string]any{"/x": "relative"}}, `volume path "relative"`},
		"tmpfs":               {map[string]any{"image": "a", "tmpfs": []any{"/run:size=1m", "x"}}, `tmpfs path "x"`},
		"device":              {map[string]any{"image": "a", "device": "/dev/fuse:/dev/fuse:z"}, `device "/dev/fuse:/dev/fuse:z"`},
		"login":               {map[string]any{"image": "a", "login": true, "login_username": "me"}, "login needs login_password"},
		"ecr":                 {map[string]any{"image": "a", "ecr_login": true}, "ecr_login is not supported"},
		"ecr off":             {map[string]any{"image": "a", "ecr_login": false}, ""},
		"windows":             {map[string]any{"image": "a", "windows_container": true}, "windows containers are not supported"},
		"ssh":                 {map[string]any{"image": "a", "communicator": "ssh"}, `communicator "ssh"`},
		"without effect":      {map[string]any{"image": "a", "container_dir": "/x"}, "container_dir has no effect"},
		"near miss":           {map[string]any{"imgae": "a"}, `"imgae"`},
		"build":               {map[string]any{"build": map[string]any{"build_dir": "ctx", "path": "Dockerfile.x", "arguments": map[string]any{"A": "1"}}}, ""},
	}
	kind := New(Deps{}).Kind()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			problems := kind.Check(value.Of(diag.Pos{File: "t.yaml", Line: 1}, test.config))
			switch {
			case test.want == "" && len(problems) > 0:
				t.Errorf("got %v", problems)
			case test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Error(), test.want)):
				t.Errorf("got %v, want one with %q", problems, test.want)
			}
		})
	}
}

func TestRunCommand(t *testing.T) {
	c := Config{Image: "debian", Volumes: map[string]string{"/a": "/b"}, RunCommand: strings.Fields(
		"-dit --privileged --cap-add SYS_PTRACE --network=none -m 1g --cpus 1.5 --pids-limit=9 -v /c:/d:ro --tmpfs /x --user me --entrypoint /bin/sh {{.Image}} /bin/bash -l")}
	got, err := c.withRunCommand()
	if err != nil {
		t.Fatal(err)
	}
	want := c
	want.Privileged, want.CapAdd, want.Network, want.ExecUser, want.Tmpfs = true, []string{"SYS_PTRACE"}, "none", "me", []string{"/x"}
	want.Memory, want.CPUs, want.PIDsLimit = "1g", 1.5, 9
	want.Volumes = map[string]string{"/a": "/b", "/c": "/d:ro"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(secret.Value{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(c.Volumes) != 1 {
		t.Error("the config given was changed")
	}
	for _, bad := range []string{"-d", "-d -p 80:80 {{.Image}}", "--cap-add", "-d {{.Image}} /usr/sbin/nginx", "--cpus 1.5x {{.Image}}", "-d other-image"} {
		c.RunCommand = strings.Fields(bad)
		if _, err := c.withRunCommand(); err == nil {
			t.Errorf("%s: got no error", bad)
		}
	}
}

func TestBuildPaths(t *testing.T) {
	tests := []struct {
		build        Build
		folder, file string
	}{
		{Build{}, ".", "Dockerfile"},
		{Build{File: "docker/Dockerfile.web"}, "docker", "docker/Dockerfile.web"},
		{Build{Context: "src"}, "src", "src/Dockerfile"},
		{Build{Context: "src", File: "build/D"}, "src", "src/build/D"},
		{Build{Context: "src", File: "/abs/D"}, "src", "/abs/D"},
	}
	for _, test := range tests {
		if folder, file := test.build.paths(); folder != test.folder || file != test.file {
			t.Errorf("%+v: got %s and %s, want %s and %s", test.build, folder, file, test.folder, test.file)
		}
	}
}

func TestInputs(t *testing.T) {
	inputs := New(Deps{}).Kind().Inputs(value.Of(diag.Pos{}, map[string]any{"build": map[string]any{"context": "src", "file": "/abs/D"}}))
	var got []string
	for _, i := range inputs {
		got = append(got, i.Path)
	}
	if diff := cmp.Diff([]string{"src", "/abs/D"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestContainerConfig(t *testing.T) {
	e := New(Deps{})
	m := &machine{job: bake.Job{RunID: "r", Name: "web.docker"}, builder: &builder{engine: e, config: Config{
		Volumes: map[string]string{"/b": "/y", "/a": "/x"}, Tmpfs: []string{"/t:size=1m"}, ShmSize: "64m", Ulimits: []string{"nofile=10:20"},
		Device: []string{"/dev/fuse:r"}, Network: "none", Memory: "1g", CPUs: 1.5, PIDsLimit: 9,
	}}}
	config, host, err := m.containerConfig("sha256:x")
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Env) != 0 {
		t.Errorf("environment at the making: %v", config.Env)
	}
	if diff := cmp.Diff([]string{"/a:/x", "/b:/y"}, host.Binds); diff != "" {
		t.Errorf("binds: %s", diff)
	}
	if host.ShmSize != 64<<20 || host.Tmpfs["/t"] != "size=1m" || host.Ulimits[0].Hard != 20 || host.NetworkMode != "none" {
		t.Errorf("got %+v", host)
	}
	if r := host.Resources; r.Memory != 1<<30 || r.MemorySwap != 1<<30 || r.NanoCPUs != 1_500_000_000 || *r.PidsLimit != 9 {
		t.Errorf("limits %+v", r)
	}
	if d := host.Devices[0]; d.PathInContainer != "/dev/fuse" || d.CgroupPermissions != "r" {
		t.Errorf("device %+v", d)
	}
	if o, ok := parseOwner(config.Labels[labelOwner]); !ok || o != self() {
		t.Errorf("owner %v", config.Labels)
	}
}
