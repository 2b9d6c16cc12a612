package tagrule

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/diag"
)

func TestDefaults(t *testing.T) {
	prerelease := released
	prerelease.Prerelease = true
	noCommit := pullRequest
	noCommit.SHA = ""
	for _, c := range []struct {
		name  string
		facts Facts
		want  string
	}{
		{"pull request", atHead(pullRequest), "pr-15 pr-15-3370e22"},
		{"pull request on Gitea", pull("pull_request", "refs/pull/4/head", base.SHA), "pr-4 pr-4-860c190"},
		{"pull_request_target", atHead(pullTarget), "pr-15 pr-15-3370e22"},
		{"pull request, commit unknown", noCommit, "pr-15"},
		{"version", tagged("v1.2.3"), "1.2.3 1.2 1 latest"},
		{"version without v", tagged("1.2.3"), "1.2.3 1.2 1 latest"},
		{"pre-release", tagged("v1.2.3-rc.1"), "1.2.3-rc.1"},
		{"build", tagged("v1.2.3+linux"), "1.2.3 1.2 1 latest"},
		{"major zero", tagged("v0.2.3"), "0.2.3 0.2 latest"},
		{"no version", tagged("release1"), "release1"},
		{"half a version", tagged("v1.2"), "v1.2"},
		{"release", released, "1.1.1 1.1 1 latest"},
		{"release marked as pre-release", prerelease, "1.1.1"},
		{"branch", pushMaster, "master sha-2665741"},
		{"branch with odd characters", pushInvalid, "my-feature-1245 sha-983315b"},
		{"dispatch", dispatch, "master sha-860c190"},
		{"schedule", scheduled, "20200110"},
		{"merge queue", on("merge_group", "refs/heads/gh-readonly-queue/main/pr-104-"+base.SHA, base.SHA), "sha-860c190"},
		{"workflow_run", on("workflow_run", "refs/heads/master", base.SHA), "sha-860c190"},
		{"issue_comment", on("issue_comment", "refs/heads/master", base.SHA), "sha-860c190"},
		{"hostile ref of a pull request", on("pull_request", "refs/pull/1,enable=false/merge", base.SHA), "sha-860c190"},
		{"nothing known", Facts{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, problems := Make(c.facts, Defaults(c.facts), Flavor{})
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			if want := c.want; strings.Join(got.Names(), " ") != want {
				t.Errorf("got %q, want %q", got.Names(), want)
			}
		})
	}
}

func TestBeyondThePeer(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []ruleCase{
		{"comma inside of quotes", tagged("release12"), `type=match,"pattern=^release\d{1,2}"`, "latest=false", "release12"},
		{"quotes inside of quotes", pushDev, `type=raw,"value={{date ""YYYY""}}"`, "", "2020"},
		{"flags", tagged("V1.2.3"), `type=match,pattern=/^v(.*)$/i,group=1`, "latest=false", "1.2.3"},
		{"flag g counts matches", tagged("1-22-333"), `type=match,pattern=/\d+/g,group=2`, "latest=false", "333"},
		{"not escaped for HTML", on("push", "refs/heads/a&b=c", base.SHA), "type=raw,value={{branch}}", "", "a-b-c"},
		{"global word in a version pattern", tagged("v1.2.3"), "type=semver,pattern={{version}}-{{sha}}", "latest=false", "1.2.3-860c190"},
		{"flavor expression for latest", tagged("v1.2.3"), "type=ref,event=tag", "suffix=-{{sha}},onlatest=true", "v1.2.3-860c190 latest-860c190"},
		{"latest twice", tagged("v1.2.3"), lines("type=ref,event=tag", "type=raw,latest"), "", "v1.2.3 latest"},
		{"no dot or dash in front", pushDev, lines("-dev", ".hidden", "--.x"), "", "dev hidden x"},
		{"comment and blank lines", pushDev, lines("# all", "", "  # more", "type=sha"), "", "sha-860c190"},
		{"cut", on("push", "refs/heads/"+long, base.SHA), "type=ref,event=branch", "", long[:119] + "-aa20c23e"},
		{"longer commit", Facts{SHA: base.SHA, ShortSHA: 12}, "type=sha", "", "sha-860c1904a1ce"},
		{"literal braces", pushDev, `type=raw,value=a\{{b`, "", "a-b"},
		{"comment in braces", pushDev, `type=raw,value=a{{! no }}b`, "", "ab"},
		{"three braces", pushDev, `type=raw,value={{{branch}}}`, "", "dev"},
		{"pep440 in all its parts", pushDev, "type=pep440,pattern={{major}},value=v2!01.2.3.4alpha-5.post6.dev7+Ubuntu-01", "", "2-1.2.3.4a5.post6.dev7-ubuntu.1"},
		{"pep440, implicit post", pushDev, "type=pep440,pattern={{major}},value=1.0-2", "", "1.0.post2"},
		{"pep440, one part", pushDev, "type=pep440,pattern={{major}}.{{minor}}.{{patch}},value=7", "latest=false", "7.0.0"},
		{"semver words", pushDev, "type=semver,pattern={{raw}},value=v1.2.3-a.b+c", "", "v1.2.3-a.b-c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, problems := apply(t, c.facts, c.rules, c.flavor)
			if problems.HasErrors() {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(strings.Fields(c.want), got.Names()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A cut name keeps names apart that differ only behind the cut.
func TestCutKeepsNamesApart(t *testing.T) {
	a, b := fit(strings.Repeat("x", 150)+"a"), fit(strings.Repeat("x", 150)+"b")
	if a == b || len(a) != maxTag || len(b) != maxTag {
		t.Errorf("got %q (%d) and %q (%d)", a, len(a), b, len(b))
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ rules, flavor, want string }{
		{"type=foo", "", `input tags:1: tag rule "type=foo": unknown type "foo"`},
		{"# x\ntype=semvr,pattern=x", "", `input tags:2: tag rule "type=semvr,pattern=x": unknown type "semvr" (did you mean "semver"?)`},
		{"type=semver", "", `pattern is missing (write type=semver,pattern=…)`},
		{"type=match", "", `pattern is missing`},
		{"type=ref", "", `event is missing`},
		{"type=raw", "", `value is missing`},
		{"type=ref,event=foo", "", `invalid event "foo" (one of branch, tag, pr)`},
		{"type=sha,format=foo", "", `invalid format "foo"`},
		{"type=match,pattern=v(.*),group=foo", "", `invalid group "foo"`},
		{"type=sha,priority=high", "", `invalid priority "high"`},
		{"type=sha,prefx=x", "", `type=sha has no prefx (did you mean "prefix"?)`},
		{"type=sha,enable=yes", "", `enable is true or false, found "yes"`},
		{"type=raw,value={{brunch}}", "", `unknown expression {{brunch}}: did you mean "branch"?`},
		{"type=raw,value={{branch", "", `has no closing }}`},
		{"type=raw,value={{#if branch}}x{{/if}}", "", `is not a word`},
		{"type=raw,value={{branch 'x'}}", "", `branch takes nothing`},
		{"type=raw,value={{date 'YYYY' zone='x'}}", "", `unknown attribute "zone"`},
		{"type=raw,value={{date 'YYYY' tz='Mars/Olympus'}}", "", `unknown time zone Mars/Olympus`},
		{"type=raw,value={{date 'YYYY' tz='Local'}}", "", `unknown time zone Local`},
		{"type=raw,value={{date YYYY}}", "", `the format YYYY is not in quotes`},
		{"type=match,pattern=(?=x)", "", `lookaround`},
		{"type=match,pattern=/x/q", "", `unknown flag q`},
		{"type=semver,pattern={{version}},match=v.*", "", `has no group`},
		{`type=raw,"value=x`, "", `no closing quote`},
		{`type=raw,"value=x"y`, "", `follows a closing quote`},
		{"type=semver,pattern={{version}},value=main", "", `"main" is not a semantic version`},
		{"type=pep440,pattern={{version}},value=main", "", `"main" is not a version of PEP 440`},
		{"type=match,pattern=x,value=y", "", `"x" does not match "y"`},
		{"type=match,pattern=y,value=y,group=1", "", `has no group 1`},
		{"type=raw,value=a/b\ntype=raw,value=a-b", "", `input tags:2: tag rules "type=raw,value=a/b" and "type=raw,value=a-b" both make "a-b" ("a/b" and "a-b" are the same once they are fit for a tag)`},
		{"type=ref,event=branch\ntype=raw,dev", "", `both make "dev" (one of them can go)`},
		{"type=raw,value=...", "", `nothing of "..." can be part of a tag`},
		{"type=raw,value=sha256-" + strings.Repeat("0", 64), "", `kept for signatures`},
		{"type=raw,value=sha256-" + strings.Repeat("0", 64) + ".sig", "", `kept for signatures`},
		{"", "latest=maybe", `input flavor:1: flavor "latest=maybe": latest is one of auto, true, false; found maybe`},
		{"", "lates=true", `unknown entry "lates=true" (did you mean "latest"?)`},
		{"", "prefix", `unknown entry "prefix"`},
		{"", "onlatest=true", `onlatest stands behind`},
		{"", "prefix=x,onlatest=y", `onlatest is true or false`},
		{"", "prefix={{x}}", `unknown expression {{x}}`},
	} {
		_, problems := apply(t, pushDev, c.rules, c.flavor)
		if len(problems) != 1 || !strings.Contains(problems.Error(), c.want) {
			t.Errorf("rules %q, flavor %q: got %q, want one problem with %q", c.rules, c.flavor, problems, c.want)
		}
	}
}

// A name that is made twice on purpose is no problem.
func TestNoCollision(t *testing.T) {
	for _, c := range []struct {
		facts Facts
		rules string
	}{
		{tagged("v2.0.8-beta.67"), "type=semver,pattern={{major}}\ntype=semver,pattern={{version}}"},
		{tagged("v1.0.0"), "type=ref,event=tag\ntype=raw,latest"},
	} {
		if _, problems := apply(t, c.facts, c.rules, ""); len(problems) > 0 {
			t.Errorf("%q: %v", c.rules, problems)
		}
	}
}

func TestTagNamesItsRules(t *testing.T) {
	got, _ := apply(t, tagged("v1.0.0"), "type=ref,event=tag\ntype=raw,value={{tag}}", "")
	want := []Tag{
		{Name: "v1.0.0", Rules: []string{"type=ref,event=tag", "type=raw,value={{tag}}"}},
		{Name: "latest", Rules: []string{"flavor latest"}},
	}
	if diff := cmp.Diff(want, got.Tags); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Version != "v1.0.0" || !got.Latest {
		t.Errorf("got version %q, latest %v", got.Version, got.Latest)
	}
}

// The formats of momentjs.com/docs/#/displaying/format/ for one moment.
func TestFormatTime(t *testing.T) {
	when := time.Date(2020, 1, 5, 15, 4, 9, 123456789, time.FixedZone("XYZ", -9*3600-1800)) // a Sunday
	for format, want := range map[string]string{
		"YYYY YY Y YYYYY YYYYYY": "2020 20 2020 02020 +002020", "M Mo MM MMM MMMM": "1 1st 01 Jan January",
		"Q Qo": "1 1st", "D Do DD": "5 5th 05", "DDD DDDo DDDD": "5 5th 005", "d do dd ddd dddd": "0 0th Su Sun Sunday",
		"e E": "0 7", "w wo ww": "2 2nd 02", "W Wo WW": "1 1st 01", "gg gggg GG GGGG": "20 2020 20 2020",
		"H HH h hh k kk": "15 15 3 03 15 15", "m mm s ss": "4 04 9 09", "S SS SSS SSSSSS": "1 12 123 123456",
		"A a": "PM pm", "Z ZZ": "-09:30 -0930", "X": "1578270849", "x": "1578270849123", "Hmm hmmss": "1504 30409",
		"LT": "3:04 PM", "LTS": "3:04:09 PM", "L l": "01/05/2020 1/5/2020", "LL": "January 5, 2020", "llll": "Sun, Jan 5, 2020 3:04 PM",
		"[week] W, \\D": "week 1, D", "YYYYMMDD[T]HHmmss": "20200105T150409", "-_.": "-_.", "[]": "", "N": "AD",
	} {
		if got := formatTime(when, format); got != want {
			t.Errorf("%q: got %q, want %q", format, got, want)
		}
	}
	if got := formatTime(time.Date(2021, 12, 27, 0, 0, 0, 0, time.UTC), "w gggg W GGGG kk"); got != "1 2022 52 2021 24" {
		t.Errorf("last week of a year: got %q", got)
	}
}

// The labels of docker/metadata-action's tests push01, push21 and json07.
func TestLabels(t *testing.T) {
	facts := tagged("v1.1.1")
	facts.CommitDate = time.Date(2022, 4, 19, 9, 39, 35, 0, time.UTC)
	text := lines("foo", "# comment", "maintainer=CrazyMax", "org.opencontainers.image.title=MyCustom=Title",
		`org.opencontainers.image.description=this is a "good" example`, "empty=",
		"org.opencontainers.image.created={{commit_date 'YYYY-MM-DDTHH:mm:ss.SSS[Z]'}}")
	got, problems := Labels(facts, "v1.1.1", text, "input labels")
	want := []Label{
		{"empty", ""}, {"maintainer", "CrazyMax"},
		{"org.opencontainers.image.created", "2022-04-19T09:39:35.000Z"},
		{"org.opencontainers.image.description", `this is a "good" example`},
		{"org.opencontainers.image.licenses", "MIT"},
		{"org.opencontainers.image.revision", base.SHA},
		{"org.opencontainers.image.source", "https://github.com/octocat/Hello-World"},
		{"org.opencontainers.image.title", "MyCustom=Title"},
		{"org.opencontainers.image.url", "https://github.com/octocat/Hello-World"},
		{"org.opencontainers.image.version", "v1.1.1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantProblems := diag.List{{Pos: diag.Pos{File: "input labels", Line: 1}, Severity: diag.Warning, Text: `label "foo": has no value and is left out`, Hint: "write key=value"}}
	if diff := cmp.Diff(wantProblems, problems); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	plain, _ := Labels(pushDev, "dev", "", "")
	for _, l := range plain {
		if l.Key == "org.opencontainers.image.created" && l.Value != "2020-01-10T00:30:00.000Z" {
			t.Errorf("created: got %q", l.Value)
		}
	}
}

// name is what the OCI distribution specification allows as a tag.
var name = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// Whatever the rules and the ref are, every name is a tag, each is there once,
// and every problem names a line.
func FuzzRules(f *testing.F) {
	for _, c := range append(testsOfPeer, readmeOfPeer...) {
		f.Add(c.rules, c.flavor, c.facts.Ref)
	}
	f.Add(`type=raw,"value={{date 'YYYY' tz='Asia/Tokyo'}}"`, "prefix={{branch}}-,onlatest=true", "refs/heads/a\nX=1")
	f.Add("type=match,pattern=/(a)|(b)/ig,group=2", "latest=true", "refs/tags/"+strings.Repeat("é", 200))
	f.Fuzz(func(t *testing.T, rules, flavor, ref string) {
		facts := pushDev
		facts.Ref = ref
		result, problems := apply(t, facts, rules, flavor)
		seen := map[string]bool{}
		for _, tag := range result.Tags {
			if !name.MatchString(tag.Name) || seen[tag.Name] || len(tag.Rules) == 0 {
				t.Errorf("tag %+v of rules %q", tag, rules)
			}
			seen[tag.Name] = true
		}
		for _, p := range problems {
			if p.Text == "" || p.Pos.File == "" || p.Pos.Line == 0 {
				t.Errorf("problem without a place: %+v", p)
			}
		}
	})
}
