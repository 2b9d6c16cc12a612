package packages

import (
	"cmp"
	"slices"
	"strings"
)

// Change is a package that was added (no Old), removed (no New) or changed.
type Change struct {
	Name string
	Old  string
	New  string
}

// Diff says how to get from one list of packages to another, by name. A
// package that is there for several architectures has its architecture in its
// name, as with dpkg: libc6:i386.
func Diff(before, now []Package) []Change {
	several := map[string]bool{}
	for _, list := range [][]Package{before, now} {
		seen := map[string]string{}
		for _, p := range list {
			if arch, ok := seen[p.Name]; ok && arch != p.Arch {
				several[p.Name] = true
			}
			seen[p.Name] = p.Arch
		}
	}
	was, is := versions(before, several), versions(now, several)
	var out []Change
	for name, version := range is {
		if old := was[name]; old != version {
			out = append(out, Change{name, old, version})
		}
	}
	for name, version := range was {
		if _, ok := is[name]; !ok {
			out = append(out, Change{Name: name, Old: version})
		}
	}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.kind(), b.kind()), strings.Compare(a.Name, b.Name))
	})
	return out
}

// kind sorts what changed before what came and what went.
func (c Change) kind() int {
	switch {
	case c.Old == "":
		return 1
	case c.New == "":
		return 2
	}
	return 0
}

// versions are the versions by name. A name can have several, as kernels do.
func versions(list []Package, several map[string]bool) map[string]string {
	out := map[string]string{}
	for _, p := range sorted(slices.Clone(list)) {
		name := p.Name
		if several[name] && p.Arch != "" {
			name += ":" + p.Arch
		}
		if old, ok := out[name]; ok {
			out[name] = old + ", " + p.Version
		} else {
			out[name] = p.Version
		}
	}
	return out
}
