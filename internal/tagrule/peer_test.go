package tagrule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// The moment and the commits of docker/metadata-action's own tests.
var (
	moment = time.Date(2020, 1, 10, 0, 30, 0, 0, time.UTC)
	base   = Facts{
		Event: "push", SHA: "860c1904a1ce19322e91ac35af1ab07466440c37", DefaultBranch: "master", Now: moment,
		Repository: "octocat/Hello-World", Description: "This your first repo!", URL: "https://github.com/octocat/Hello-World", License: "MIT",
	}
	pushDev     = on("push", "refs/heads/dev", base.SHA)
	pushMaster  = on("push", "refs/heads/master", "266574110acf203503badf966df2ea24b5d732d7")
	pushInvalid = on("push", "refs/heads/my/feature#1245", "983315b5e8d46e46fc4c49869e85e7ee5fb289ba")
	dispatch    = on("workflow_dispatch", "refs/heads/master", base.SHA)
	pullRequest = pull("pull_request", "refs/pull/15/merge", "a9c8c5828b91be19d9728548b24759e352367ef1")
	pullTarget  = pull("pull_request_target", "refs/heads/master", "266574110acf203503badf966df2ea24b5d732d7")
	scheduled   = noPayload(on("schedule", "refs/heads/master", base.SHA))
	released    = on("release", "refs/tags/v1.1.1", base.SHA)
)

func on(event, ref, sha string) Facts {
	f := base
	f.Event, f.Ref, f.SHA = event, ref, sha
	return f
}

func pull(event, ref, sha string) Facts {
	f := on(event, ref, sha)
	f.PR, f.BaseRef = 15, "master"
	return f
}

// noPayload is a schedule's: its event tells no default branch.
func noPayload(f Facts) Facts { f.DefaultBranch = ""; return f }

func atHead(f Facts) Facts { f.SHA = "3370e228f2209994d57af4427fe64e71bb79ac96"; return f }

func tagged(tag string) Facts {
	f := on("push", "refs/tags/"+tag, base.SHA)
	f.BaseRef = "refs/heads/master"
	return f
}

func lines(l ...string) string { return strings.Join(l, "\n") }

// peerDefaults are metadata-action's rules when there are none.
const peerDefaults = "type=schedule\ntype=ref,event=branch\ntype=ref,event=tag\ntype=ref,event=pr"

type ruleCase struct {
	name   string
	facts  Facts
	rules  string
	flavor string
	want   string // names, separated by spaces
}

// testsOfPeer are the inputs and results of docker/metadata-action's
// __tests__/meta.test.ts (v6, Apache-2.0), under the names they have there.
// "head-" are those with DOCKER_METADATA_PR_HEAD_SHA, which is how imgbake
// always works.
var testsOfPeer = []ruleCase{
	{"null01", Facts{}, peerDefaults, "", ""},
	{"null02", Facts{}, lines(`type=sha`, `type=raw,{{branch}}`), "", ""},
	{"push01", pushDev, peerDefaults, "", "dev"},
	{"push02", pushMaster, lines(`type=edge`), "", "edge"},
	{"push03", pushMaster, peerDefaults, "", "master"},
	{"push04", dispatch, lines(`type=edge`), "", "edge"},
	{"push07", pushDev, lines(`type=ref,event=branch`, `type=sha`), "", "dev sha-860c190"},
	{"push08", pushMaster, lines(`type=edge`, `type=sha`), "", "edge sha-2665741"},
	{"push09", pushDev, lines(`type=edge,branch=dev`, `type=sha`), "", "edge sha-860c190"},
	{"push10", pushMaster, lines(`type=edge,branch=dev`, `type=sha`), "", "sha-2665741"},
	{"push11", pushInvalid, lines(`type=edge`, `type=sha`), "", "sha-983315b"},
	{"push12", pushInvalid, lines(`type=semver,pattern={{version}}`, `type=pep440,pattern={{version}}`, `type=edge`), "", ""},
	{"push13", pushMaster, lines(`type=ref,priority=2000,event=branch`, `type=edge`), "", "master edge"},
	{"push14", pushMaster, lines(`type=semver,pattern={{version}},value=v1.2.3`, `type=pep440,pattern={{version}},value=v1.2.3`, `type=edge`), "", "1.2.3 edge latest"},
	{"push15", pushMaster, lines(`type=match,pattern=v(.*),group=1,value=v1.2.3`, `type=edge`), "", "1.2.3 edge latest"},
	{"push16", pushMaster, lines(`type=match,enable=false,pattern=v(.*),group=1,value=v1.2.3`, `type=edge`), "", "edge"},
	{"push17", pushMaster, lines(`type=raw,value=mytag-{{branch}}`, `type=raw,value=mytag-{{date 'YYYYMMDD'}}`, `type=raw,value=mytag-cd-{{commit_date 'YYYYMMDD'}}`, `type=raw,value=mytag-{{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}`, `type=raw,value=mytag-tag-{{tag}}`, `type=raw,value=mytag-baseref-{{base_ref}}`, `type=raw,value=mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master mytag-20200110 mytag-cd-20200110 mytag-20200110-093000 mytag-tag- mytag-baseref- mytag-defbranch"},
	{"push18", pushDev, lines(`type=ref,event=branch`, `type=sha,format=long`), "", "dev sha-860c1904a1ce19322e91ac35af1ab07466440c37"},
	{"push19", pushDev, lines(`type=edge,branch=master`, `type=ref,event=branch,enable=false`, `type=sha,format=long`, `type=raw,value=defbranch,enable={{is_default_branch}}`), "", "sha-860c1904a1ce19322e91ac35af1ab07466440c37"},
	{"push20", pushDev, lines(`type=edge,branch=master`, `type=ref,event=branch,enable=false`, `type=sha,format=long`), "", "sha-860c1904a1ce19322e91ac35af1ab07466440c37"},
	{"push21", pushMaster, lines(`type=raw,value=mytag-{{branch}}`, `type=raw,value=mytag-{{date 'YYYYMMDD'}}`, `type=raw,value=mytag-{{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}`, `type=raw,value=mytag-src-{{commit_date 'YYYYMMDD'}}`, `type=raw,value=mytag-tag-{{tag}}`, `type=raw,value=mytag-baseref-{{base_ref}}`, `type=raw,value=mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master mytag-20200110 mytag-20200110-093000 mytag-src-20200110 mytag-tag- mytag-baseref- mytag-defbranch"},
	{"push22", pushDev, lines(`type=edge,branch=master`, `type=sha,format=long`, `type=raw,value=notdefbranch,enable={{is_not_default_branch}}`), "", "notdefbranch sha-860c1904a1ce19322e91ac35af1ab07466440c37"},
	{"tag01", tagged("release1"), peerDefaults, "", "release1 latest"},
	{"tag02", tagged("20200110-RC2"), peerDefaults, "", "20200110-RC2 latest"},
	{"tag03", tagged("20200110-RC2"), lines(`type=match,pattern=\d{8}`), lines(`latest=false`), "20200110"},
	{"tag04", tagged("20200110-RC2"), lines(`type=match,pattern=(.*)-RC,group=1`), lines(`latest=false`), "20200110"},
	{"tag05", tagged("v1.1.1"), lines(`type=match,"pattern=\d.\d.\d"`), "", "1.1.1 latest"},
	{"tag06", tagged("v1.1.1"), lines(`type=match,"pattern=^v(\d.\d.\d)$",group=1`), "", "1.1.1 latest"},
	{"tag07", tagged("v2.0.8-beta.67"), lines(`type=match,"pattern=\d.\d.\d-(alpha|beta).\d+"`), "", "2.0.8-beta.67 latest"},
	{"tag08", tagged("v2.0.8-beta.67"), lines(`type=match,"pattern=\d.\d"`), "", "2.0 latest"},
	{"tag09", tagged("v2.0.8-beta.67"), lines(`type=match,"pattern=v(.*)-beta.(.*)",group=1`, `type=match,"pattern=v(.*)-beta.(.*)",group=2`), "", "2.0.8 67 latest"},
	{"tag10", tagged("sometag"), lines(`type=match,"pattern=\d.\d"`), "", ""},
	{"tag11", tagged("v1.1.1"), lines(`type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}`, `type=semver,pattern={{major}}`), "", "1.1.1 1.1 1 latest"},
	{"tag12", tagged("v1.1.1"), lines(`type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}.{{patch}}`), "", "1.1.1 latest"},
	{"tag13", tagged("v2.0.8-beta.67"), lines(`type=semver,pattern={{major}}.{{minor}}`, `type=semver,pattern={{major}}`), "", "2.0.8-beta.67"},
	{"tag14", tagged("sometag"), lines(`type=ref,event=tag`, `type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}`, `type=semver,pattern={{major}}`), lines(`latest=false`), "sometag"},
	{"tag15", tagged("v2.0.8-beta.67"), lines(`type=raw,priority=2000,foo`, `type=semver,pattern={{version}}`, `type=match,"pattern=\d.\d"`), "", "foo 2.0.8-beta.67 2.0"},
	{"tag16", tagged("v1.1.1"), lines(`type=raw,priority=2000,foo`, `type=ref,event=tag`, `type=edge`), "", "foo v1.1.1"},
	{"tag17", tagged("p1/v1.0.0"), lines(`type=match,"pattern=/^v(\d.\d.\d)$/ig",group=1`, `type=match,pattern=\d.\d.\d`, `type=match,pattern=\d.\d`, `type=ref,event=pr`, `type=sha`), "", "1.0.0 1.0 sha-860c190 latest"},
	{"tag18", tagged("p1/v1.0.0"), lines(`type=match,pattern=p1/v(\d.\d.\d),group=1`, `type=match,pattern=p1/v(\d.\d),group=1`, `type=match,pattern=p1/v(\d.\d),group=3`, `type=ref,event=pr`, `type=sha`), "", "1.0.0 1.0 sha-860c190 latest"},
	{"tag19", tagged("p1/v1.0.0"), lines(`type=match,pattern=p1/v(\d.\d.\d),group=1`, `type=match,pattern=p1/v(\d.\d),group=1,suffix=`, `type=ref,event=pr`, `type=sha`), lines(`suffix=-dev`), "1.0.0-dev 1.0 sha-860c190-dev latest"},
	{"tag20", tagged("v1.1.1"), lines(`type=raw,{{tag}}-{{sha}}-foo`, `type=raw,{{base_ref}}-foo`, `type=raw,defbranch-foo,enable={{is_default_branch}}`), "", "v1.1.1-860c190-foo master-foo"},
	{"tag21", tagged("v1.1.1"), lines(`type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}.{{patch}}`), lines(`suffix=-dev,onlatest=true`), "1.1.1-dev latest-dev"},
	{"tag22", tagged("v1.1.1"), lines(`type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}.{{patch}}`), lines(`prefix=foo-,onlatest=true`, `suffix=-dev,onlatest=true`), "foo-1.1.1-dev foo-latest-dev"},
	{"tag23", tagged("v1.1.1"), lines(`type=pep440,pattern={{raw}}`, `type=pep440,pattern={{major}}.{{minor}}`), "", "v1.1.1 1.1 latest"},
	{"tag24", tagged("1.2"), lines(`type=pep440,pattern={{version}}`, `type=pep440,pattern={{major}}.{{minor}}`), "", "1.2 latest"},
	{"tag25", tagged("1.1beta2"), lines(`type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), "", "1.1b2"},
	{"tag26", tagged("1.0dev4"), lines(`type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), "", "1.0.dev4"},
	{"tag27", tagged("1.2.3rc2"), lines(`type=pep440,pattern={{raw}}`, `type=pep440,pattern={{version}}`, `type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), "", "1.2.3rc2"},
	{"tag28", tagged("v1.1.1"), lines(`type=pep440,pattern={{version}}`, `type=pep440,pattern={{major}}.{{minor}}.{{patch}}`, `type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), "", "1.1.1 1.1 1 latest"},
	{"tag29", tagged("1.2post1"), lines(`type=pep440,pattern={{version}}`, `type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), "", "1.2.post1"},
	{"tag30", tagged("sometag"), lines(`type=ref,event=tag`, `type=pep440,pattern={{version}}`, `type=pep440,pattern={{major}}.{{minor}}`, `type=pep440,pattern={{major}}`), lines(`latest=false`), "sometag"},
	{"tag31", tagged("v2.0.8-beta.67"), lines(`type=semver,pattern={{raw}}`), "", "v2.0.8-beta.67"},
	{"tag32", tagged("v1.2.3rc2"), lines(`type=pep440,pattern={{raw}}`, `type=pep440,pattern={{major}}.{{minor}}`), "", "v1.2.3rc2 1.2.3rc2"},
	{"tag34", tagged("p1/v1.0.0"), lines(`type=semver,pattern={{version}},"match=v(\d.\d.\d)$"`), "", "1.0.0 latest"},
	{"push35", pushMaster, lines(`type=semver,pattern={{version}},value=p1/v1.2.3,"match=v(\d.\d.\d)$"`, `type=pep440,pattern={{version}},value=p1/v1.2.3,"match=v(\d.\d.\d)$"`, `type=edge`), "", "1.2.3 edge latest"},
	{"latest01", tagged("release1"), lines(`type=match,"pattern=^release\d{1,2}"`), "", "release1 latest"},
	{"latest02", tagged("20200110-RC2"), lines(`type=match,"pattern=^\d+-RC\d{1,2}"`), "", "20200110-RC2 latest"},
	{"latest03", tagged("20200110-RC2"), lines(`type=match,pattern=\d{8}`), "", "20200110 latest"},
	{"latest05", tagged("v1.1.1"), peerDefaults, "", "v1.1.1 latest"},
	{"latest06", tagged("v2.0.8-beta.67"), lines(`type=match,"pattern=\d.\d.\d"`), "", "2.0.8 latest"},
	{"latest07", tagged("v1.1.1"), lines(`type=ref,event=tag`), lines(`latest=false`), "v1.1.1"},
	{"pr01", pullRequest, peerDefaults, "", "pr-15"},
	{"pr03", pullRequest, lines(`type=ref,event=pr`, `type=sha`), "", "pr-15 sha-a9c8c58"},
	{"pr04", pullRequest, lines(`type=sha,priority=2000`, `type=ref,event=pr`), "", "sha-a9c8c58 pr-15"},
	{"pr05", pullRequest, lines(`type=ref,event=pr`), lines(`prefix=glo-`, `suffix=-bal`), "pr-15-bal"},
	{"pr06", pullRequest, lines(`type=ref,event=pr,prefix=`), lines(`prefix=glo-`, `suffix=-bal`), "15-bal"},
	{"pr07", pullTarget, lines(`type=sha,priority=2000`, `type=ref,event=pr`), "", "sha-2665741 pr-15"},
	{"pr08", pullTarget, lines(`type=ref,event=pr,prefix=`), lines(`prefix=glo-`, `suffix=-bal`), "15-bal"},
	{"pr09", pullTarget, lines(`type=ref,event=tag`, `type=ref,event=pr`, `type=ref,event=branch`, `type=sha`, `type=sha,format=long`), "", "pr-15 sha-2665741 sha-266574110acf203503badf966df2ea24b5d732d7"},
	{"pr10", pullTarget, lines(`type=raw,value=mytag-{{base_ref}}`, `type=raw,mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master"},
	{"pr11", pullRequest, lines(`type=raw,value=mytag-{{base_ref}}`, `type=raw,mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master"},
	{"pr12", pullRequest, lines(`type=raw,value={{commit_date YYYY-MM-DD-HHmmSS}}`), "", "2020-01-10T00-30-00Z"},
	{"head-pr01", atHead(pullRequest), peerDefaults, "", "pr-15"},
	{"head-pr03", atHead(pullRequest), lines(`type=ref,event=pr`, `type=sha`), "", "pr-15 sha-3370e22"},
	{"head-pr04", atHead(pullRequest), lines(`type=sha,priority=2000`, `type=ref,event=pr`), "", "sha-3370e22 pr-15"},
	{"head-pr05", atHead(pullRequest), lines(`type=ref,event=pr`), lines(`prefix=glo-`, `suffix=-bal`), "pr-15-bal"},
	{"head-pr06", atHead(pullRequest), lines(`type=ref,event=pr,prefix=`), lines(`prefix=glo-`, `suffix=-bal`), "15-bal"},
	{"head-pr07", atHead(pullTarget), lines(`type=sha,priority=2000`, `type=ref,event=pr`), "", "sha-3370e22 pr-15"},
	{"head-pr08", atHead(pullTarget), lines(`type=ref,event=pr,prefix=`), lines(`prefix=glo-`, `suffix=-bal`), "15-bal"},
	{"head-pr09", atHead(pullTarget), lines(`type=ref,event=tag`, `type=ref,event=pr`, `type=ref,event=branch`, `type=sha`, `type=sha,format=long`), "", "pr-15 sha-3370e22 sha-3370e228f2209994d57af4427fe64e71bb79ac96"},
	{"head-pr10", atHead(pullTarget), lines(`type=raw,value=mytag-{{base_ref}}`, `type=raw,mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master"},
	{"head-pr11", atHead(pullRequest), lines(`type=raw,value=mytag-{{base_ref}}`, `type=raw,mytag-defbranch,enable={{is_default_branch}}`), "", "mytag-master"},
	{"head-pr12", atHead(pullRequest), lines(`type=raw,value=src-{{commit_date YYYY-MM-DD}}`), "", "src-2020-01-10T00-30-00Z"},
	{"schedule01", scheduled, peerDefaults, "", "nightly master"},
	{"schedule02", scheduled, lines(`type=schedule,pattern={{date 'YYYYMMDD'}}`, `type=schedule,pattern=source-date-{{commit_date 'YYYY-MM-DD'}}`), "", "20200110 source-date-2020-01-10"},
	{"schedule03", scheduled, lines(`type=schedule,pattern={{date 'YYYYMMDD-HHmmss'}}`), "", "20200110-003000"},
	{"schedule05", scheduled, lines(`type=schedule`, `type=sha`), "", "nightly sha-860c190"},
	{"schedule06", scheduled, lines(`type=schedule`, `type=sha,priority=2000`, `type=raw,value=defbranch,enable={{is_default_branch}}`), "", "sha-860c190 nightly defbranch"},
	{"schedule07", scheduled, lines(`type=schedule`), lines(`prefix=glo-`, `suffix=-bal`), "glo-nightly-bal"},
	{"schedule08", scheduled, lines(`type=schedule,pattern={{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}`, `type=schedule,pattern=src-{{commit_date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}`), "", "20200110-093000 src-20200110-093000"},
	{"release01", released, peerDefaults, "", "v1.1.1 latest"},
	{"release02", released, lines(`type=ref,event=tag`, `type=raw,value=baseref-{{base_ref}}`, `type=raw,value=defbranch,enable={{is_default_branch}}`), "", "v1.1.1 baseref- latest"},
	{"release03", released, lines(`type=raw,value=src-{{commit_date 'YYYYMMDD-HHmmss'}}`, `type=raw,value={{date 'YYYYMMDD-HHmmss'}}`), "", "src-20200110-003000 20200110-003000"},
	{"raw01", pushDev, lines(`type=ref,event=branch`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), "", "dev my custom tags"},
	{"raw02", pushDev, lines(`type=ref,event=branch`, `type=raw,my`), "", "dev my"},
	{"raw03", tagged("release1"), lines(`type=ref,event=tag`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), "", "release1 my custom tags latest"},
	{"raw04", tagged("20200110-RC2"), lines(`type=match,pattern=\d{8}`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), lines(`latest=false`), "20200110 my custom tags"},
	{"raw05", tagged("v1.1.1"), lines(`type=semver,pattern={{version}}`, `type=semver,pattern={{major}}.{{minor}}`, `type=semver,pattern={{major}}`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), "", "1.1.1 1.1 1 my custom tags latest"},
	{"raw06", tagged("v1.1.1"), lines(`type=raw,my`, `type=raw,custom`, `type=raw,tags`), "", "my custom tags"},
	{"raw07", pushDev, lines(`type=ref,priority=90,event=branch`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), lines(`latest=true`), "my custom tags dev latest"},
	{"raw08", pushDev, lines(`type=match,pattern=\d{8}`, `type=raw,my`, `type=raw,custom`, `type=raw,tags`), lines(`latest=false`), "my custom tags"},
	{"raw09", pushDev, lines(`type=match,pattern=\d{8}`, `type=raw,my,prefix=foo-,suffix=-bar`, `type=raw,custom`, `type=raw,tags`), lines(`latest=false`, `prefix=glo-`, `suffix=-bal`), "foo-my-bar glo-custom-bal glo-tags-bal"},
	{"raw10", pushDev, lines(`type=raw,foo`, `type=raw,bar,enable=false`, `type=raw,baz,enable=true`), lines(`latest=false`), "foo baz"},
}

// readmeOfPeer are the tables of docker/metadata-action's README.md (v6).
var readmeOfPeer = []ruleCase{
	// "Basic"
	{"basic pull request", pull("pull_request", "refs/pull/2/merge", base.SHA), peerDefaults, "", "pr-2"},
	{"basic branch", on("push", "refs/heads/releases/v1", base.SHA), peerDefaults, "", "releases-v1"},
	{"basic tag", tagged("v1.2.3"), peerDefaults, "", "v1.2.3 latest"},
	{"basic pre-release", tagged("v2.0.8-beta.67"), peerDefaults, "", "v2.0.8-beta.67 latest"},
	{"basic dispatch", dispatch, peerDefaults, "", "master"},
	// "Semver"
	{"semver flow, pull request", pull("pull_request", "refs/pull/2/merge", base.SHA), semverFlow, "", "pr-2"},
	{"semver flow, branch", on("push", "refs/heads/releases/v1", base.SHA), semverFlow, "", "releases-v1"},
	{"semver flow, tag", tagged("v1.2.3"), semverFlow, "", "1.2.3 1.2 latest"},
	{"semver flow, pre-release", tagged("v2.0.8-beta.67"), semverFlow, "", "2.0.8-beta.67"},
	{"bake definition", withSHA(tagged("v1.2.3"), "90dd6032fac8bda1b6c4436a2e65de27961ed071"), semverFlow + "\ntype=sha", "", "1.2.3 1.2 sha-90dd603 latest"},
	// type=schedule
	{"nightly", scheduled, "type=schedule", "", "nightly"},
	{"schedule, date", scheduled, "type=schedule,pattern={{date 'YYYYMMDD'}}", "", "20200110"},
	{"schedule, zone", scheduled, "type=schedule,pattern={{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}", "", "20200110-093000"},
	{"schedule, not now", pushMaster, "type=schedule", "", ""},
	// type=semver
	{"semver raw", tagged("v1.2.3"), "type=semver,pattern={{raw}}", "latest=false", "v1.2.3"},
	{"semver version", tagged("v1.2.3"), "type=semver,pattern={{version}}", "latest=false", "1.2.3"},
	{"semver minor", tagged("v1.2.3"), "type=semver,pattern={{major}}.{{minor}}", "latest=false", "1.2"},
	{"semver v-major", tagged("v1.2.3"), "type=semver,pattern=v{{major}}", "latest=false", "v1"},
	{"semver only minor", tagged("v1.2.3"), "type=semver,pattern={{minor}}", "latest=false", "2"},
	{"semver patch", tagged("v1.2.3"), "type=semver,pattern={{patch}}", "latest=false", "3"},
	{"semver match", tagged("p1/v1.2.3"), `type=semver,pattern={{version}},match=v(\d.\d.\d)$`, "latest=false", "1.2.3"},
	{"semver pre raw", tagged("v2.0.8-beta.67"), "type=semver,pattern={{raw}}", "", "v2.0.8-beta.67"},
	{"semver pre version", tagged("v2.0.8-beta.67"), "type=semver,pattern={{version}}", "", "2.0.8-beta.67"},
	{"semver pre major", tagged("v2.0.8-beta.67"), "type=semver,pattern={{major}}", "", "2.0.8-beta.67"},
	{"semver pre minor", tagged("v2.0.8-beta.67"), "type=semver,pattern={{major}}.{{minor}}", "", "2.0.8-beta.67"},
	{"semver value", pushMaster, "type=semver,pattern={{version}},value=v1.0.0", "latest=false", "1.0.0"},
	{"semver value, match", pushMaster, `type=semver,pattern={{version}},value=p1/v1.0.0,match=v(\d.\d.\d)$`, "latest=false", "1.0.0"},
	// type=pep440
	{"pep440 raw", tagged("1.2.3"), "type=pep440,pattern={{raw}}", "latest=false", "1.2.3"},
	{"pep440 v", tagged("v1.2.3"), "type=pep440,pattern={{version}}", "latest=false", "1.2.3"},
	{"pep440 v-major", tagged("1.2.3"), "type=pep440,pattern=v{{major}}", "latest=false", "v1"},
	{"pep440 raw rc", tagged("v1.2.3rc2"), "type=pep440,pattern={{raw}}", "", "v1.2.3rc2"},
	{"pep440 rc", tagged("1.2.3rc2"), "type=pep440,pattern={{version}}", "", "1.2.3rc2"},
	{"pep440 match", tagged("p1/v1.2.3"), `type=pep440,pattern={{version}},match=v(\d.\d.\d)$`, "latest=false", "1.2.3"},
	{"pep440 rc minor", tagged("1.2.3rc2"), "type=pep440,pattern={{major}}.{{minor}}", "", "1.2.3rc2"},
	{"pep440 post", tagged("1.2.3post1"), "type=pep440,pattern={{major}}.{{minor}}", "", "1.2.3.post1"},
	{"pep440 beta", tagged("1.2.3beta2"), "type=pep440,pattern={{major}}.{{minor}}", "", "1.2.3b2"},
	{"pep440 dev", tagged("1.0dev4"), "type=pep440,pattern={{major}}.{{minor}}", "", "1.0.dev4"},
	// type=match
	{"match 0", tagged("v1.2.3"), `type=match,pattern=\d.\d.\d`, "latest=false", "1.2.3"},
	{"match all after v", tagged("v2.0.8-beta.67"), `type=match,pattern=v(.*),group=1`, "latest=false", "2.0.8-beta.67"},
	{"match minor", tagged("v2.0.8-beta.67"), `type=match,pattern=v(\d.\d),group=1`, "latest=false", "2.0"},
	{"match digits", tagged("20200110-RC2"), `type=match,pattern=\d+,group=0`, "latest=false", "20200110"},
	{"match prefix", tagged("p1/v1.2.3"), `type=match,pattern=p1/v(\d.\d.\d),group=1`, "latest=false", "1.2.3"},
	// type=edge, type=ref
	{"edge, elsewhere", pushDev, "type=edge", "", ""},
	{"ref branch", on("push", "refs/heads/my/branch", base.SHA), "type=ref,event=branch", "", "my-branch"},
	{"ref tag", tagged("v2.0.8-beta.67"), "type=ref,event=tag", "latest=false", "v2.0.8-beta.67"},
	{"ref pr", pull("pull_request", "refs/pull/318/merge", base.SHA), "type=ref,event=pr", "", "pr-318"},
	// type=raw, type=sha
	{"raw, three forms", pushDev, lines("type=raw,value=foo", "type=raw,bar", "baz"), "", "foo bar baz"},
	{"sha", on("push", "refs/heads/dev", "860c190"), "type=sha", "", "sha-860c190"},
	// "Latest tag", "Global expressions", "Major version zero"
	{"latest for the default branch", pushMaster, "type=raw,value=latest,enable={{is_default_branch}}", "", "latest"},
	{"latest not for another", pushDev, "type=raw,value=latest,enable={{is_default_branch}}", "", ""},
	{"branch as a prefix", pushDev, "type=sha,prefix={{branch}}-", "", "dev-860c190"},
	{"branch and sha", on("push", "refs/heads/my/branch", base.SHA), "type=raw,value=mytag-{{branch}}-{{sha}}", "", "mytag-my-branch-860c190"},
	{"branch of a pull request", pullRequest, "type=raw,value=a{{branch}}b", "", "ab"},
	{"tag of a branch", pushMaster, "type=raw,value=a{{tag}}b", "", "ab"},
	{"base of a pull request", pullRequest, "type=raw,value={{base_ref}}", "", "master"},
	{"base of a branch", pushMaster, "type=raw,value=x{{base_ref}}", "", "x"},
	{"long date", pushMaster, `"type=raw","value={{date 'dddd, MMMM Do YYYY, h:mm:ss a'}}"`, "", "Friday-January-10th-2020-12-30-00-am"},
	{"zone", pushMaster, "type=raw,value={{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}", "", "20200110-093000"},
	{"zero", tagged("v0.1.2"), lines("type=semver,pattern={{version}}", "type=semver,pattern={{major}}.{{minor}}", "type=semver,pattern={{major}},enable=false"), "latest=false", "0.1.2 0.1"},
}

const semverFlow = "type=ref,event=branch\ntype=ref,event=pr\ntype=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}"

func withSHA(f Facts, sha string) Facts { f.SHA = sha; return f }

func TestPeersExamples(t *testing.T) {
	if n := len(testsOfPeer) + len(readmeOfPeer); n < 80 {
		t.Fatalf("%d cases, want 80 at least", n)
	}
	for _, table := range [][]ruleCase{testsOfPeer, readmeOfPeer} {
		for _, c := range table {
			t.Run(c.name, func(t *testing.T) {
				got, problems := apply(t, c.facts, c.rules, c.flavor)
				if problems.HasErrors() {
					t.Fatalf("rules %q: %v", c.rules, problems)
				}
				if diff := cmp.Diff(strings.Fields(c.want), append([]string{}, got.Names()...)); diff != "" {
					t.Errorf("rules %q (-want +got):\n%s", c.rules, diff)
				}
			})
		}
	}
}

func apply(t *testing.T, f Facts, rules, flavor string) (Result, diag.List) {
	t.Helper()
	parsed, problems := Parse(rules, "input tags")
	fl, more := ParseFlavor(flavor, "input flavor")
	problems.Append(more)
	result, more := Make(f, parsed, fl)
	problems.Append(more)
	return result, problems
}
