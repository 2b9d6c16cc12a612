package tagrule

import "strings"

// makers are what each type of rule does.
var makers = map[string]func(*maker, Rule) made{
	"schedule": (*maker).schedule,
	"semver":   func(m *maker, r Rule) made { return m.versioned(r, parseSemver, "a semantic version (semver.org)") },
	"pep440":   func(m *maker, r Rule) made { return m.versioned(r, parsePEP440, "a version of PEP 440") },
	"match":    (*maker).matched,
	"edge":     (*maker).edge,
	"ref":      (*maker).ref,
	"raw":      func(m *maker, r Rule) made { return made{value: r.values["value"].expand(m.facts, nil), ok: true} },
	"sha":      (*maker).sha,
}

func (m *maker) schedule(r Rule) made {
	return made{value: r.values["pattern"].expand(m.facts, nil), ok: strings.Contains(m.facts.Event, "schedule")}
}

// subject is what a version or match rule looks at: its value, or the tag.
func (m *maker) subject(r Rule) (text string, ok bool) {
	if r.attrs["value"] != "" {
		return r.values["value"].expand(m.facts, nil), true
	}
	tag := m.facts.tag()
	return tag, tag != ""
}

func (m *maker) versioned(r Rule, parse func(string) (version, bool), what string) made {
	text, ok := m.subject(r)
	if !ok {
		return made{}
	}
	if r.match != nil {
		part, _, is := r.match.find(text, r.group)
		if is {
			text = part
		} else {
			m.problems.Warn(r.Pos, "", "tag rule %q: %q does not match %q", r.Text, r.attrs["match"], text)
		}
	}
	text = strings.ReplaceAll(text, "/", "-")
	v, ok := parse(text)
	if !ok {
		m.problems.Warn(r.Pos, "", "tag rule %q: %q is not %s", r.Text, text, what)
		return made{}
	}
	pattern := r.values["pattern"]
	if v.pre && !pattern.only("raw") {
		return made{value: v.clean, ok: true, fallback: true}
	}
	return made{value: pattern.expand(m.facts, v.words), latest: !v.pre, ok: true, fallback: v.pre}
}

func (m *maker) matched(r Rule) made {
	text, ok := m.subject(r)
	if !ok || r.match == nil {
		return made{}
	}
	part, matched, is := r.match.find(text, r.group)
	switch {
	case !matched:
		m.problems.Warn(r.Pos, "", "tag rule %q: %q does not match %q", r.Text, r.attrs["pattern"], text)
	case !is:
		m.problems.Warn(r.Pos, "", "tag rule %q: %q has no group %d in %q", r.Text, r.attrs["pattern"], r.group, text)
	}
	return made{value: part, latest: true, ok: is}
}

func (m *maker) edge(r Rule) made {
	branch := r.attrs["branch"]
	if branch == "" {
		branch = m.facts.DefaultBranch
	}
	return made{value: "edge", ok: branch != "" && m.facts.branch() == branch}
}

func (m *maker) ref(r Rule) made {
	switch r.attrs["event"] {
	case "branch":
		return made{value: m.facts.branch(), ok: m.facts.branch() != ""}
	case "tag":
		return made{value: m.facts.tag(), latest: true, ok: m.facts.tag() != ""}
	}
	return made{value: m.facts.pull(), ok: m.facts.pull() != ""}
}

func (m *maker) sha(r Rule) made {
	value := m.facts.SHA
	if r.attrs["format"] == "short" {
		value = m.facts.shortSHA()
	}
	return made{value: value, ok: value != ""}
}
