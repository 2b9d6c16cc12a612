package tagrule

import (
	"strconv"
	"strings"
)

func pullRef(n int) string { return "refs/pull/" + strconv.Itoa(n) + "/merge" }

// Defaults are the rules when the user gives none:
//
//	pull request 7    pr-7, pr-7-<commit>
//	tag v1.2.3        1.2.3, 1.2, 1, latest
//	tag v1.2.3-rc.1   1.2.3-rc.1
//	tag v0.2.3        0.2.3, 0.2, latest
//	any other tag     its name
//	branch            its name, sha-<commit>
//	schedule          the date, such as 20200110
//
// A run of which it is not known what it stands for (merge_group,
// workflow_run, issue_comment) gives sha-<commit> only: the branch that such a
// run is on is not the one its commit is of.
func Defaults(f Facts) []Rule {
	rules, _ := Parse(strings.Join(defaultLines(f), "\n"), "defaults")
	return rules
}

func defaultLines(f Facts) []string {
	switch {
	case f.pull() != "" && f.SHA == "":
		return []string{"type=ref,event=pr"}
	case f.pull() != "":
		return []string{"type=ref,event=pr", "type=raw,priority=500,value=pr-" + f.pull() + "-{{sha}}"}
	case f.Event == "merge_group" || f.Event == "workflow_run" || f.Event == "issue_comment":
		return []string{"type=sha"}
	case f.tag() != "":
		return tagLines(f)
	case f.Event == "schedule":
		return []string{"type=schedule,pattern={{date 'YYYYMMDD'}}"}
	}
	return []string{"type=ref,event=branch", "type=sha"}
}

func tagLines(f Facts) []string {
	v, ok := parseSemver(f.tag())
	switch {
	case !ok:
		return []string{"type=raw,value={{tag}}"} // ref,event=tag would be latest
	case f.Prerelease && !v.pre:
		return []string{"type=raw,value=" + v.clean}
	case v.pre:
		return []string{"type=semver,pattern={{version}}"}
	case v.words["major"] == "0":
		return []string{"type=semver,pattern={{version}}", "type=semver,pattern={{major}}.{{minor}}"}
	}
	return []string{"type=semver,pattern={{version}}", "type=semver,pattern={{major}}.{{minor}}", "type=semver,pattern={{major}}"}
}
