package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchies(t *testing.T) {
	unified := t.TempDir()
	if err := os.WriteFile(filepath.Join(unified, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		mountinfo, self string
		want            []hierarchy
	}{
		"version 2": {
			"30 24 0:26 / " + unified + " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/user.slice/job.scope\n",
			[]hierarchy{{2, []string{"cpu", "memory", "pids"}, unified, unified + "/user.slice/job.scope"}},
		},
		"version 2, in a container": { // without a namespace for groups
			"30 24 0:26 /docker/x " + unified + " ro - cgroup2 cgroup2 rw\n",
			"0::/docker/x\n",
			[]hierarchy{{2, []string{"cpu", "memory", "pids"}, unified, unified}},
		},
		"version 1": {
			"31 24 0:27 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n32 24 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n33 24 0:28 / /again rw - cgroup cgroup rw,memory\n",
			"4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n",
			[]hierarchy{{1, []string{"rw", "cpu", "cpuacct"}, "/cg/cpu,cpuacct", "/cg/cpu,cpuacct"}, {1, []string{"rw", "memory"}, "/cg/memory", "/cg/memory/a/b"}},
		},
		"none": {"25 1 0:22 / /proc rw - proc proc rw\nnonsense\n", "", nil},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, hierarchies(test.mountinfo, test.self), cmp.AllowUnexported(hierarchy{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestSettings(t *testing.T) {
	all := Limits{Memory: 1 << 30, CPUs: 1.5, PIDs: 100}
	want := map[int][]setting{
		1: {
			{"memory", "memory.limit_in_bytes", "1073741824", false}, {"memory", "memory.memsw.limit_in_bytes", "1073741824", true},
			{"cpu", "cpu.cfs_period_us", "100000", false}, {"cpu", "cpu.cfs_quota_us", "150000", false}, {"pids", "pids.max", "100", false},
		},
		2: {
			{"memory", "memory.max", "1073741824", false}, {"memory", "memory.swap.max", "0", true},
			{"cpu", "cpu.max", "150000 100000", false}, {"pids", "pids.max", "100", false},
		},
	}
	for version, want := range want {
		if diff := cmp.Diff(want, all.settings(version), cmp.AllowUnexported(setting{})); diff != "" {
			t.Errorf("version %d (-want +got)\n%s", version, diff)
		}
		if got := (Limits{}).settings(version); got != nil {
			t.Errorf("version %d: no limits are %v", version, got)
		}
	}
}
