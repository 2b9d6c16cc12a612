package layer

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Rule is one line of the list of noise.
type Rule struct {
	Name     string   // for reports: "package cache"
	Patterns []string // of paths without leading slash; one covers all below what it matches
	Targets  []string // of symbolic links that are noise too, verbatim
	Action   Action
	Reason   string // why it is noise
}

// Action is what becomes of a change that is noise.
type Action int

// The actions. A deletion of what the base image has is published, except
// where Ignore says otherwise.
const (
	Ignore    Action = iota + 1 // the path is the engine's: neither change nor deletion is published
	DropEntry                   // no change is published
	DropFiles                   // changes of regular files are not published; directories and symbolic links are
	Truncate                    // regular files are published empty, for their owner and mode; else as DropFiles
)

// Noise is the one list of what is not published unless it is kept. The first
// rule that matches counts.
func Noise() []Rule {
	return []Rule{
		{Name: "engine file", Action: Ignore, Reason: "the engine makes or mounts it in every container",
			Patterns: []string{"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv", "run/.containerenv", HelperDir}},
		{Name: "temporary file", Action: DropEntry, Reason: "empty at every start of a machine",
			Patterns: []string{"tmp/*", "var/tmp/*", "run/*"}},
		{Name: "package list", Action: DropFiles, Reason: "old the next day; the package manager fetches it",
			Patterns: []string{"var/lib/apt/lists/*", "var/lib/pacman/sync/*", "var/cache/apk/*", "etc/apk/cache/*", "lib/apk/db/lock"}},
		{Name: "package cache", Action: DropFiles, Reason: "the installed files are in the image already",
			Patterns: []string{"var/cache/apt/*", "var/cache/yum/*", "var/cache/dnf/*", "var/cache/libdnf5/*", "var/cache/zypp/*",
				"var/cache/pacman/pkg/*", "var/lib/dnf/repos/*"}},
		{Name: "package log", Action: DropFiles, Reason: "times of this bake",
			Patterns: []string{"var/log/apt/*", "var/log/dpkg.log*", "var/log/alternatives.log*", "var/log/bootstrap.log", "var/log/dnf*", "var/log/yum.log*",
				"var/log/hawkey.log*", "var/log/zypper.log*", "var/log/zypp/*", "var/log/pacman.log", "var/log/apk.log", "var/log/unattended-upgrades/*"}},
		{Name: "system log", Action: DropFiles, Reason: "times and names of the machine of this bake",
			Patterns: []string{"var/log/journal/*", "var/log/**/*.[0-9]", "var/log/**/*.gz", "var/log/installer/*", "var/log/private/*"}},
		{Name: "log", Action: Truncate, Reason: "times of this bake; an empty file keeps owner and mode for its program",
			Patterns: []string{"var/log/*"}},
		{Name: "generated cache", Action: DropFiles, Reason: "holds times; made again when missing",
			Patterns: []string{"var/cache/ldconfig/aux-cache", "var/cache/man/*", "var/cache/fontconfig/*"}},
		{Name: "backup", Action: DropFiles, Reason: "the state before a step of this bake",
			Patterns: []string{"etc/{passwd,group,shadow,gshadow,subuid,subgid}-", "var/cache/debconf/*-old", "var/lib/dpkg/*-old"}},
		{Name: "SSH host key", Action: DropFiles, Reason: "every machine needs its own",
			Patterns: []string{"etc/ssh/ssh_host_*"}},
		{Name: "self-signed key", Action: DropFiles, Reason: "a private key that all machines would share; make-ssl-cert makes one",
			Patterns: []string{"etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"},
			Targets:  []string{"ssl-cert-snakeoil.pem"}}, // named by a hash of the host's name
		{Name: "machine ID", Action: Truncate, Reason: "every machine needs its own; systemd makes one where the file is empty",
			Patterns: []string{"etc/machine-id"}},
		{Name: "machine ID", Action: DropFiles, Reason: "every machine needs its own",
			Patterns: []string{"var/lib/dbus/machine-id", "etc/hostid", "etc/iscsi/initiatorname.iscsi"}},
		{Name: "random seed", Action: DropFiles, Reason: "every machine needs its own",
			Patterns: []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/random-seed", "var/lib/systemd/credential.secret"}},
		{Name: "shell history", Action: DropFiles, Reason: "commands of this bake",
			Patterns: []string{"root/.{ash,bash,sh,zsh,python}_history", "home/*/.{ash,bash,sh,zsh,python}_history",
				"root/.{lesshst,viminfo,wget-hsts}", "home/*/.{lesshst,viminfo,wget-hsts}"}},
	}
}

// verdict finds the rule for an entry, nil when it is to be published as it is.
func (n *noise) verdict(e Entry) *Rule {
	if e.Type == Symlink {
		for i, r := range n.rules {
			if slices.Contains(r.Targets, e.Linkname) && !n.keeps(e.Path) {
				return &n.rules[i]
			}
		}
	}
	r := n.rule(e.Path)
	if r == nil || (r.Action == DropFiles || r.Action == Truncate) && e.Type != File && e.Type != Fifo {
		return nil
	}
	return r
}

// noise is the list made ready for many look-ups.
type noise struct {
	rules []Rule
	byTop map[string][]pattern // by the first component; "" for those that start with a wildcard
	keep  []string
}

type pattern struct {
	glob string
	rule int
}

func newNoise(keep []string) (*noise, error) {
	n := &noise{rules: Noise(), byTop: map[string][]pattern{}}
	for i, r := range n.rules {
		for _, glob := range r.Patterns {
			top, _, _ := strings.Cut(glob, "/")
			if strings.ContainsAny(top, "*?[{\\") {
				top = ""
			}
			n.byTop[top] = append(n.byTop[top], pattern{glob, i})
		}
	}
	for _, k := range keep {
		if !doublestar.ValidatePattern(k) {
			return nil, fmt.Errorf("keep %q is not a valid pattern", k)
		}
		n.keep = append(n.keep, strings.Trim(path.Clean("/"+k), "/"))
	}
	return n, nil
}

// rule is the first rule for a path, nil when none matches or it is kept.
func (n *noise) rule(p string) *Rule {
	top, _, _ := strings.Cut(p, "/")
	best := len(n.rules)
	for _, list := range [][]pattern{n.byTop[top], n.byTop[""]} {
		for _, x := range list {
			if x.rule < best && covers(x.glob, p) {
				best = x.rule
			}
		}
	}
	if best == len(n.rules) || n.keeps(p) {
		return nil
	}
	return &n.rules[best]
}

func (n *noise) keeps(p string) bool {
	return slices.ContainsFunc(n.keep, func(k string) bool { return covers(k, p) })
}

// covers reports whether the pattern matches the path or a directory above it.
func covers(glob, p string) bool {
	for ; p != ""; p = parent(p) {
		if ok, _ := doublestar.Match(glob, p); ok {
			return true
		}
	}
	return false
}

// removals collects what was left out, for people to read: paths by the rule's
// name and the folder of its pattern.
type removals map[[2]string][]string

func (r removals) add(rule *Rule, p string) {
	key := [2]string{rule.Name, parent(p)}
	for _, glob := range rule.Patterns {
		if covers(glob, p) {
			key[1], _ = doublestar.SplitPattern(glob)
			break
		}
	}
	r[key] = append(r[key], p)
}

// list names every path, or, for more than a few of one rule in one folder,
// their number.
func (r removals) list() []string {
	const few = 6
	lines := map[string]bool{}
	for key, paths := range r {
		if len(paths) > few {
			lines[fmt.Sprintf("/%s/ (%d x %s)", key[1], len(paths), key[0])] = true
			continue
		}
		for _, p := range paths {
			lines["/"+p] = true
		}
	}
	return slices.Sorted(maps.Keys(lines))
}
