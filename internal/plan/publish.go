package plan

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// pushed is one tag that a bake moves.
type pushed struct {
	ref   string // in full, for comparison
	shown string // as the template has it
	bake  string
	pos   diag.Pos
}

// targets reads where a bake is published, checks every reference, and notes
// the tags for collisions.
func (p *planner) targets(c *baking) []Target {
	n := c.b.image.tmpl.Publish
	if n.V == nil {
		return nil
	}
	n = p.eval(n, c.scopeFor(n))
	if _, isList := n.V.(value.List); !isList {
		n = value.Node{Pos: n.Pos, V: value.List{n}}
	}
	var targets []Target
	where, problems := value.Decode(n, &targets)
	p.problems.Append(problems)
	for i, t := range targets {
		if t.Repository == "" {
			continue // absent or late: reported by Decode
		}
		repo, err := name.NewRepository(t.Repository)
		if err != nil {
			p.problems.Append(bake.CheckRepository(t.Repository, where.At(i, "repository")))
			continue
		}
		targets[i].Tags = nil
		for j, tag := range t.Tags {
			pos := where.At(i, "tags", j)
			if tag == autoTags {
				p.automatic(c, &targets[i], repo, t.Tags, pos)
				continue
			}
			if !validTag.MatchString(tag) {
				p.problems.Add(pos, "a tag has letters, digits, _, . and -, starts with none of the last two, and has at most 128 characters", "%q is no tag", tag)
				continue
			}
			targets[i].Tags = append(targets[i].Tags, tag)
			p.pushes = append(p.pushes, pushed{repo.Tag(tag).Name(), t.Repository + ":" + tag, c.b.familyName(), pos})
		}
	}
	return targets
}

// autoTags stands for the tags that follow from the event or the checkout.
const autoTags = "auto"

// automatic adds the tags that "auto" stands for, less those written out too.
func (p *planner) automatic(c *baking, t *Target, repo name.Repository, written []string, pos diag.Pos) {
	if p.facts.Tags == nil {
		p.problems.Warn(pos, "write the tags out, or bake in a git checkout", "what the tag auto stands for is not known here: the image is pushed by its digest only")
	}
	for _, tag := range p.facts.Tags {
		if !slices.Contains(written, tag) {
			t.Tags = append(t.Tags, tag)
			p.pushes = append(p.pushes, pushed{repo.Tag(tag).Name(), t.Repository + ":" + tag, c.b.familyName(), pos})
		}
	}
}

var validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// collisions reports tags that two bakes, or one bake twice, would move; at
// each place once.
func (p *planner) collisions() {
	first := map[string]pushed{}
	told := map[diag.Pos]bool{}
	slices.SortStableFunc(p.pushes, func(a, b pushed) int {
		return cmp.Or(cmp.Compare(a.pos.Line, b.pos.Line), cmp.Compare(a.pos.Column, b.pos.Column))
	})
	for _, push := range p.pushes {
		before, taken := first[push.ref]
		if !taken {
			first[push.ref] = push
			continue
		}
		if told[push.pos] {
			continue
		}
		told[push.pos] = true
		if before.bake == push.bake {
			p.problems.Add(push.pos, "", "%s is given twice", push.shown)
			continue
		}
		p.problems.Add(push.pos, "make them differ, with ${build.name} in the tag or the repository for instance",
			"%s and %s would both be pushed to %s", before.bake, push.bake, push.shown)
	}
}

var (
	validPort = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?$`)
	validUser = regexp.MustCompile(`^[^\s:]+(:[^\s:]+)?$`)
)

// imageConfig checks what the types of the settings do not say.
func (p *planner) imageConfig(c bake.ImageConfig, where value.Where) {
	if c.Workdir != "" && !path.IsAbs(c.Workdir) {
		p.problems.Add(where.At("config", "workdir"), "write it from the root, such as /srv", "workdir %q is no absolute path", c.Workdir)
	}
	if c.User != "" && !validUser.MatchString(c.User) {
		p.problems.Add(where.At("config", "user"), "write name, uid, name:group or uid:gid", "%q is no user", c.User)
	}
	for i, port := range c.Expose {
		if port != "" && !validPort.MatchString(port) {
			p.problems.Add(where.At("config", "expose", i), "write a number or range and perhaps a protocol, such as 8080/tcp", "%q is no port", port)
		}
	}
	for i, volume := range c.Volumes {
		if volume != "" && !path.IsAbs(volume) {
			p.problems.Add(where.At("config", "volumes", i), "write it from the root, such as /var/lib/data", "volume %q is no absolute path", volume)
		}
	}
	for key := range c.Env {
		if key == "" || strings.ContainsAny(key, "= \t\n") {
			p.problems.Add(where.At("config", "env", key), "", "%q is no name of an environment variable", key)
		}
	}
}
