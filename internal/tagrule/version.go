package tagrule

import (
	"regexp"
	"strconv"
	"strings"
)

// version is what the two kinds of version rules need to know of one.
type version struct {
	words map[string]string
	pre   bool // a pre-release; in PEP 440 also a post- or development release
	clean string
}

// semverShape is semver.org's grammar, with the v in front that tags have.
var semverShape = regexp.MustCompile(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// parseSemver reads a semantic version.
func parseSemver(s string) (version, bool) {
	m := semverShape.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil || len(s) > 256 {
		return version{}, false
	}
	clean := m[1] + "." + m[2] + "." + m[3]
	if m[4] != "" {
		clean += "-" + m[4]
	}
	return version{pre: m[4] != "", clean: clean, words: map[string]string{
		"raw": s, "version": clean, "major": m[1], "minor": m[2], "patch": m[3],
		"prerelease": strings.ReplaceAll(m[4], ".", ","), "build": strings.ReplaceAll(m[5], ".", ","),
	}}, true
}

// pepShape is the grammar of PEP 440, normal forms and others.
var pepShape = regexp.MustCompile(`(?i)^\s*v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)` +
	`(?P<pre>[-_.]?(?P<prel>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pren>[0-9]+)?)?` +
	`(?P<post>-(?P<post1>[0-9]+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post2>[0-9]+)?)?` +
	`(?P<dev>[-_.]?dev[-_.]?(?P<devn>[0-9]+)?)?` +
	`(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*$`)

// preNames are the normal forms of what a pre-release can be called.
var preNames = map[string]string{"alpha": "a", "a": "a", "beta": "b", "b": "b", "c": "rc", "rc": "rc", "pre": "rc", "preview": "rc"}

// parsePEP440 reads a version of a Python package.
func parsePEP440(s string) (version, bool) {
	m := pepShape.FindStringSubmatch(s)
	if m == nil {
		return version{}, false
	}
	part := func(name string) string { return m[pepShape.SubexpIndex(name)] }
	release := strings.Split(part("release"), ".")
	for i := range release {
		release[i] = digits(release[i])
	}
	clean := strings.Join(release, ".")
	if epoch := digits(part("epoch")); epoch != "0" {
		clean = epoch + "!" + clean
	}
	if part("pre") != "" {
		clean += preNames[strings.ToLower(part("prel"))] + digits(part("pren"))
	}
	if part("post") != "" {
		clean += ".post" + digits(part("post1")+part("post2"))
	}
	if part("dev") != "" {
		clean += ".dev" + digits(part("devn"))
	}
	if local := part("local"); local != "" {
		clean += "+" + normalLocal(local)
	}
	release = append(release, "0", "0")
	return version{pre: part("pre")+part("post")+part("dev") != "", clean: clean, words: map[string]string{
		"raw": s, "version": clean, "major": release[0], "minor": release[1], "patch": release[2],
	}}, true
}

// digits is a number without zeros in front; nothing is 0.
func digits(s string) string {
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return s
}

func normalLocal(local string) string {
	parts := strings.FieldsFunc(strings.ToLower(local), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	for i, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 64); err == nil {
			parts[i] = digits(p)
		}
	}
	return strings.Join(parts, ".")
}
