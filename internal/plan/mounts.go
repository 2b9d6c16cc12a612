package plan

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/value"
)

// StepMount is something that a step sees and the image never has.
type StepMount struct {
	Type   string     `key:"type" doc:"cache: a folder that is kept between bakes, on this machine or the engine's. secret: a read-only file. ssh: the socket of your SSH agent. tmpfs: a folder in memory." opt:"required,known,enum=cache|secret|ssh|tmpfs" json:"type"`
	Target string     `key:"target" doc:"Absolute path in the machine. For a secret /run/secrets/ID if not given, for ssh /run/ssh-agent.sock." opt:"known" json:"target"`
	ID     string     `key:"id" doc:"Of a cache: steps that give the same id share the folder; the target if not given. Of a secret: its file's name in /run/secrets." opt:"known" json:"id,omitempty"`
	Value  value.Node `key:"value" alias:"secret" doc:"Content of a secret: a sensitive variable, such as ${var.token}." json:"value,omitzero"`
	UID    int        `key:"uid" doc:"Owner of a secret, a cache that is new, or a tmpfs." opt:"known" json:"uid,omitempty"`
	GID    int        `key:"gid" doc:"Group of the same." opt:"known" json:"gid,omitempty"`
	Mode   string     `key:"mode" doc:"Permissions of the same, in octal: 0400 for a secret, 0755 for a folder, if not given." opt:"known" json:"mode,omitempty"`
	Size   string     `key:"size" doc:"Limit of a tmpfs, such as 256m." opt:"known" json:"size,omitempty"`
}

// Where secrets and the agent's socket are, unless the template says otherwise.
const (
	secretsDir  = "/run/secrets"
	agentSocket = "/run/ssh-agent.sock"
	maxMountID  = 200 // so that it is a file name in any encoding of ours
)

// complete fills in what follows from the rest.
func (m *StepMount) complete() {
	switch {
	case m.Type == bake.MountSecret && m.Target == "" && m.ID != "":
		m.Target = path.Join(secretsDir, m.ID)
	case m.Type == bake.MountSSH && m.Target == "":
		m.Target = agentSocket
	case m.Type == bake.MountCache && m.ID == "":
		m.ID = m.Target
	}
}

// Mount is the mount for a machine, without content and socket.
func (m StepMount) Mount() bake.Mount {
	mode, err := m.mode()
	if err != nil {
		mode = 0o400 // the plan was checked: not reached
	}
	size, err := m.size()
	if err != nil {
		size = 0
	}
	return bake.Mount{Type: m.Type, Target: m.Target, ID: m.ID, UID: m.UID, GID: m.GID, Mode: mode, Size: size}
}

func (m StepMount) mode() (fs.FileMode, error) {
	switch {
	case m.Mode != "":
		bits, err := strconv.ParseUint(m.Mode, 8, 9)
		return fs.FileMode(bits), err
	case m.Type == bake.MountSecret:
		return 0o400, nil
	}
	return 0o755, nil
}

func (m StepMount) size() (int64, error) {
	if m.Size == "" {
		return 0, nil
	}
	return units.RAMInBytes(m.Size)
}

// mounts completes and checks a step's mounts.
func (p *planner) mounts(mounts []StepMount, where value.Where) {
	seen := map[string]bool{}
	for i := range mounts {
		m := &mounts[i]
		m.complete()
		at := func(key string) bool { return where.Given("mounts", i, key) }
		add := func(key, hint, format string, args ...any) {
			p.problems.Add(where.At("mounts", i, key), hint, format, args...)
		}
		p.mountKeys(*m, at, add)
		p.mountTarget(*m, add)
		if seen[m.Target] && m.Target != "" {
			add("target", "", "two mounts at %s", m.Target)
		}
		seen[m.Target] = true
	}
}

// usedBy are the types of mount that have a use for a key.
var usedBy = map[string]string{"id": "cache secret", "value": "secret", "size": "tmpfs",
	"uid": "cache secret tmpfs", "gid": "cache secret tmpfs", "mode": "cache secret tmpfs"}

func (p *planner) mountKeys(m StepMount, given func(string) bool, add func(key, hint, format string, args ...any)) {
	for _, key := range []string{"id", "value", "uid", "gid", "mode", "size"} {
		if m.Type != "" && given(key) && !strings.Contains(usedBy[key], m.Type) {
			add(key, "remove it", "a mount of type %s has no %s", m.Type, key)
		}
	}
	if m.UID < 0 || m.GID < 0 {
		add("uid", "", "uid and gid cannot be negative")
	}
	if len(m.ID) > maxMountID || m.Type == bake.MountSecret && !validSecretID(m.ID) {
		add("id", "", "%q cannot be the id of a %s", m.ID, m.Type)
	}
	if _, err := m.mode(); err != nil {
		add("mode", `write octal digits, such as "0400"`, "%q are no permissions", m.Mode)
	}
	if size, err := m.size(); err != nil || size < 0 || size == 0 && m.Size != "" {
		add("size", "write it as 256m", "%q is no size", m.Size)
	}
	if m.Type != bake.MountSecret {
		return
	}
	if _, late := m.Value.V.(value.Expr); !late {
		add("value", "declare a variable with sensitive: true and write ${var.NAME}; for what is no secret there is the file provisioner",
			"the value of a secret must be an expression with a sensitive variable")
	}
}

func validSecretID(id string) bool {
	return id == "" || id == path.Base(id) && id != "." && id != ".." && id != "/"
}

func (p *planner) mountTarget(m StepMount, add func(key, hint, format string, args ...any)) {
	switch {
	case m.Type == bake.MountSecret && m.Target == "":
		add("id", "", "a secret needs an id, or a target")
	case m.Target == "" && m.Type != "":
		add("target", "", "a mount of type %s needs a target", m.Type)
	case m.Target != "" && (path.Clean(m.Target) != m.Target || !path.IsAbs(m.Target) || m.Target == "/"):
		add("target", "", "target %q is not an absolute path below the root", m.Target)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/.imgbake"} {
		if m.Target == dir || strings.HasPrefix(m.Target, dir+"/") {
			add("target", "", "nothing can be mounted below %s", dir)
		}
	}
}

// Late are the nodes of the step that may hold expressions which are evaluated
// during the run.
func (s Step) Late() []value.Node {
	nodes := []value.Node{s.Body, s.Common.Env}
	for _, m := range s.Common.Mounts {
		nodes = append(nodes, m.Value)
	}
	return nodes
}
