package doctor

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// machine is a root with what a usual Linux has, and changes: an empty string
// takes a file away.
func machine(changes map[string]string) fstest.MapFS {
	files := map[string]string{
		"proc/self/status":                  "Name:\timgbake\nCapEff:\t000001ffffffffff\n",
		"proc/filesystems":                  "nodev\tproc\n\text4\nnodev\toverlay\n",
		"proc/sys/user/max_user_namespaces": "96000\n",
		"etc/passwd":                        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
		"etc/subuid":                        "ann:100000:65536\n",
		"etc/subgid":                        "bob:1:2\n1000:100000:65536\nann:400000:10\n",
		"proc/sys/fs/binfmt_misc/status":    "enabled\n",
	}
	for _, kind := range []string{"ipc", "mnt", "net", "pid", "user", "uts"} {
		files["proc/self/ns/"+kind] = kind
	}
	maps.Copy(files, changes)
	root := fstest.MapFS{}
	for name, text := range files {
		if text != "" {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return root
}

func TestIsolation(t *testing.T) {
	found := func(string) (string, error) { return "/usr/bin/x", nil }
	tests := map[string]struct {
		uid     int
		changes map[string]string
		find    func(string) (string, error)
		ok      bool
		detail  string
		hint    string
	}{
		"root":             {0, nil, found, true, "namespaces, as root", ""},
		"root in a box":    {0, map[string]string{"proc/self/status": "CapEff:\t00000000a80425fb\n"}, found, false, "CAP_SYS_ADMIN", "--privileged"},
		"user":             {1000, nil, found, true, "user namespaces, with 65536 users and 65546 groups", ""},
		"no overlay":       {1000, map[string]string{"proc/filesystems": "\text4\n"}, found, true, "user namespaces", "modprobe overlay"},
		"no Linux":         {0, map[string]string{"proc/self/ns/ipc": "", "proc/self/ns/mnt": "", "proc/self/ns/net": "", "proc/self/ns/pid": "", "proc/self/ns/uts": "", "proc/self/ns/user": ""}, found, false, "this is not Linux", "engine"},
		"no net":           {0, map[string]string{"proc/self/ns/net": ""}, found, false, "namespaces are missing: net", "engine"},
		"no user":          {1000, map[string]string{"proc/self/ns/user": ""}, found, false, "the kernel has none", "as root"},
		"limit":            {1000, map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, found, false, "/proc/sys/user/max_user_namespaces is 0", "as root"},
		"AppArmor":         {1000, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, found, false, "apparmor_restrict_unprivileged_userns is 1", "as root"},
		"AppArmor is open": {1000, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0\n"}, found, true, "user namespaces", ""},
		"no newuidmap":     {1000, nil, func(string) (string, error) { return "", errors.New("nope") }, false, "newuidmap: not installed", "uidmap"},
		"no range":         {1000, map[string]string{"etc/subuid": ""}, found, false, "/etc/subuid gives user ann 0", "usermod"},
		"small range":      {1000, map[string]string{"etc/subgid": "ann:1:20\nann:x:y\nann:1:-7\nnonsense"}, found, false, "/etc/subgid gives user ann 20", "usermod"},
		"another user":     {1001, nil, found, false, "/etc/subuid gives user 1001 0", "usermod"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := Probes{Root: machine(test.changes), UID: test.uid, Find: test.find}
			f := p.isolation(t.Context())[0]
			if f.OK != test.ok || !f.Optional || !strings.Contains(f.Detail, test.detail) || !strings.Contains(f.Hint, test.hint) || test.hint == "" && f.Hint != "" {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestNetwork(t *testing.T) {
	slirp := func(_ context.Context, name string) (string, error) { return name + " version 1", nil }
	none := func(context.Context, string) (string, error) { return "", errors.New("not installed") }
	tests := map[string]struct {
		tool func(context.Context, string) (string, error)
		tun  string
		want Finding
	}{
		"private": {slirp, "tun", Finding{OK: true, Detail: "private, by slirp4netns version 1"}},
		"no tool": {none, "tun", Finding{Detail: "slirp4netns: not installed", Hint: "install slirp4netns: network: private without an engine needs it"}},
		"no tun": {slirp, "", Finding{
			Detail: "/dev/net/tun is not there", Hint: "modprobe tun, or give the container --device /dev/net/tun: network: private needs it",
		}},
	}
	for name, test := range tests {
		test.want.Name, test.want.Optional = "network", true
		got := Probes{Root: machine(map[string]string{"dev/net/tun": test.tun}), Tool: test.tool}.network(t.Context())
		if diff := cmp.Diff([]Finding{test.want}, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// format is an entry of binfmt_misc as the kernel shows it.
func format(state, flags, magic string) string {
	return state + "\ninterpreter /usr/libexec/qemu-binfmt/x\nflags: " + flags + "\noffset 0\nmagic " + magic + "\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
}

const (
	magicARM64 = "7f454c460201010000000000000000000200b700"
	magicARM   = "7f454c4601010100000000000000000002002800"
	magicS390X = "7f454c4602020100000000000000000000020016"
	magicRISCV = "7f454c460201010000000000000000000200f300"
)

func TestPlatforms(t *testing.T) {
	const dir = "proc/sys/fs/binfmt_misc/"
	root := machine(map[string]string{
		dir + "qemu-aarch64": format("enabled", "PF", magicARM64),
		dir + "anything":     format("enabled", "", magicS390X),
		dir + "qemu-arm":     format("disabled", "F", magicARM),
		dir + "qemu-riscv64": format("enabled", "OCF", magicRISCV),
		dir + "python":       "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 6f0d0d0a\n",
		dir + "jar":          "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n",
		dir + "far":          strings.Replace(format("enabled", "F", magicARM), "offset 0", "offset 4", 1),
		dir + "register":     "cannot be read on a real machine",
	})
	got, err := Platforms(root)
	want := []Platform{
		{"linux/arm64", "/usr/libexec/qemu-binfmt/x", true},
		{"linux/riscv64", "/usr/libexec/qemu-binfmt/x", true},
		{"linux/s390x", "/usr/libexec/qemu-binfmt/x", false},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	f := Probes{Root: root}.platforms(t.Context())[0]
	if !f.OK || f.Detail != "linux/arm64, linux/riscv64, linux/s390x by emulation" || !strings.HasPrefix(f.Hint, "linux/s390x: registered without the flag F") {
		t.Errorf("got %+v", f)
	}
}

func TestNoPlatforms(t *testing.T) {
	const dir = "proc/sys/fs/binfmt_misc/"
	for name, root := range map[string]fs.FS{
		"not mounted": machine(map[string]string{dir + "status": ""}),
		"none":        machine(nil),
		"all off":     machine(map[string]string{dir + "status": "disabled\n", dir + "qemu-aarch64": format("enabled", "F", magicARM64)}),
		"nothing":     fstest.MapFS{},
	} {
		f := Probes{Root: root}.platforms(t.Context())[0]
		if f.OK || !f.Optional || !strings.Contains(f.Hint, "qemu-user-static") {
			t.Errorf("%s: got %+v", name, f)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(format("enabled", "F", magicARM64))
	f.Add("enabled\nmagic 7f454c46zz")
	f.Add("\noffset\n")
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := parseFormat(text); ok && !strings.HasPrefix(p.Name, "linux/") {
			t.Errorf("%q is taken for %+v", text, p)
		}
	})
}
