package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// sharedStep is what the bakes of an image share of one provisioner, so that a
// thousand bakes of ten steps cost little more than ten steps.
type sharedStep struct {
	looked             bool
	ownCommon, ownBody bool // they read facts of the bake: nothing to share
	common             *StepCommon
	step               *Step
}

func (p *planner) steps(c *baking) {
	img := c.b.image
	if img.steps == nil {
		img.steps = make([]sharedStep, len(img.tmpl.Provisioners))
	}
	for i := range img.tmpl.Provisioners {
		if step, runs := p.step(c, &img.tmpl.Provisioners[i], &img.steps[i]); runs {
			c.b.bake.Steps = append(c.b.bake.Steps, step)
			p.reads(c.b, step)
		}
	}
	if img.tmpl.Cleanup != nil {
		if step, runs := p.step(c, img.tmpl.Cleanup, &sharedStep{}); runs {
			c.b.bake.Cleanup = &step
		}
	}
}

// step plans one provisioner for one bake. It reports false when the bake
// leaves it out.
func (p *planner) step(c *baking, pr *template.Provisioner, shared *sharedStep) (Step, bool) {
	if !shared.looked {
		*shared = sharedStep{looked: true, ownCommon: perBake(pr.Common), ownBody: perBake(pr.Body)}
	}
	common := shared.common
	if common == nil {
		common = p.stepCommon(c, pr)
		if !shared.ownCommon {
			shared.common = common
		}
	}
	if !c.b.runs(common.Only, common.Except) {
		return Step{}, false
	}
	over, overridden := c.b.override(common)
	if shared.step != nil && !overridden {
		return *shared.step, true
	}
	step := p.newStep(c, pr, common, over)
	if !overridden && !shared.ownBody && !shared.ownCommon {
		shared.step = &step
	}
	return step, true
}

func (p *planner) newStep(c *baking, pr *template.Provisioner, common *StepCommon, over value.Object) Step {
	body := p.eval(pr.Body, c.scopeFor(pr.Body))
	if object, ok := body.V.(value.Object); ok || body.V == nil {
		body.V = object.Merge(over)
	}
	step := Step{Type: pr.Type, Title: pr.Type, Pos: pr.Pos, Body: body, Common: *common}
	step.Common.Only, step.Common.Except, step.Common.Override = nil, nil, nil // they have had their effect
	if object, ok := body.V.(value.Object); ok {
		m, _ := object.Get(readKey)
		step.Reads, _ = m.V.(string)
	}
	if k, ok := p.find(p.provisioners, pr.Type, pr.Pos); ok {
		found := p.check(k, pr.Component, body)
		step.Title, step.Inputs = cmp.Or(common.Name, found.title, pr.Type), found.inputs
		step.Cache = p.cached(step, found.outside)
	}
	return step
}

// cached decides whether a cache may stand for the step.
func (p *planner) cached(step Step, outside bool) bool {
	switch step.Common.Cache {
	case "always":
		return true
	case "never":
		return false
	}
	return !outside && p.template.Format != "packer-json" && !readsMachine(step.Late()...)
}

// readsMachine reports whether nodes depend on facts that only a machine has,
// such as build.ID.
func readsMachine(nodes ...value.Node) bool {
	for _, n := range nodes {
		for _, name := range n.Needs() {
			if group, _, _ := strings.Cut(name, "."); group == late {
				return true
			}
		}
	}
	return false
}

// runs reports whether only and except leave the bake in.
func (b *builder) runs(only, except []string) bool {
	if len(only) > 0 {
		return slices.ContainsFunc(only, b.called)
	}
	return !slices.ContainsFunc(except, b.called)
}

// override is what the step's override has for this bake.
func (b *builder) override(common *StepCommon) (value.Object, bool) {
	for _, name := range []string{b.name, b.Name} {
		if n, ok := common.Override[name]; ok {
			object, _ := n.V.(value.Object)
			return object, true
		}
	}
	return nil, false
}

func (p *planner) stepCommon(c *baking, pr *template.Provisioner) *StepCommon {
	common := &StepCommon{}
	if pr.Common.V == nil {
		return common
	}
	where, problems := value.Decode(p.eval(pr.Common, c.scopeFor(pr.Common)), common)
	p.problems.Append(problems)
	p.onlyExcept(c.b.image, common.Only, common.Except, where)
	for name, n := range common.Override {
		pos := where.At("override", name)
		p.knownBuilder(c.b.image, name, pos)
		if _, ok := n.V.(value.Object); !ok {
			p.problems.Add(pos, "", "override %q: expected a mapping, found %s", name, value.Describe(n))
		}
	}
	if common.MaxRetries < 0 {
		p.problems.Add(where.At("max_retries"), "", "max_retries cannot be negative")
	}
	p.environment(common.Env)
	p.mounts(common.Mounts, where)
	return common
}

// environment checks the shape of a step's env.
func (p *planner) environment(n value.Node) {
	switch v := n.V.(type) {
	case nil, value.Expr:
	case value.Object:
		for _, m := range v {
			_, late := m.V.(value.Expr)
			if _, ok := value.Text(m.Node); !ok && !late {
				p.problems.Add(m.Pos, "", "env %s: expected a string, found %s", m.Key, value.Describe(m.Node))
			}
		}
	default:
		p.problems.Add(n.Pos, "write NAME: value", "env: expected a mapping, found %s", value.Describe(n))
	}
}

func (p *planner) onlyExcept(img *image, only, except []string, where value.Where) {
	if len(only) > 0 && len(except) > 0 {
		p.problems.Add(where.At("except"), "use one of the two", "only and except are both given")
	}
	for i, name := range only {
		p.knownBuilder(img, name, where.At("only", i))
	}
	for i, name := range except {
		p.knownBuilder(img, name, where.At("except", i))
	}
}

func (p *planner) knownBuilder(img *image, name string, pos diag.Pos) {
	if img.called(name) != nil {
		return
	}
	var names []string
	for _, b := range img.builders {
		names = append(names, b.name)
	}
	p.problems.Add(pos, diag.Suggest(name, names), "%s has no builder %q", img.label(), name)
}

// reads makes the bake wait for the image that the step copies files from, if
// that is one of this template.
func (p *planner) reads(b *builder, step Step) {
	img, ok := p.byName[step.Reads]
	if !ok {
		return
	}
	from := p.parent(b, img, false)
	if from == nil || from.bakeName() == b.bake.From {
		return
	}
	if after := from.need(); !slices.Contains(b.bake.After, after) {
		b.bake.After = append(b.bake.After, after)
	}
}

// sequences plans the image's post-processors.
func (p *planner) sequences(c *baking) {
	for _, sequence := range c.b.image.tmpl.Posts {
		var out []Post
		for _, t := range sequence {
			if anyMatches(p.except, postName(t)) {
				break // the rest works on what this one would have made
			}
			if post, runs := p.post(c, t); runs {
				out = append(out, post)
			}
		}
		if len(out) > 0 {
			c.b.bake.Posts = append(c.b.bake.Posts, out)
		}
	}
}

func (p *planner) post(c *baking, t template.Post) (Post, bool) {
	var common PostCommon
	if t.Common.V != nil {
		where, problems := value.Decode(p.eval(t.Common, c.scopeFor(t.Common)), &common)
		p.problems.Append(problems)
		p.onlyExcept(c.b.image, common.Only, common.Except, where)
	}
	if !c.b.runs(common.Only, common.Except) {
		return Post{}, false
	}
	post := Post{Type: t.Type, Title: t.Type, Pos: t.Pos, Body: p.eval(t.Body, c.scopeFor(t.Body)), Common: common}
	if k, ok := p.find(p.posts, t.Type, t.Pos); ok {
		post.Title = cmp.Or(common.Name, p.check(k, t.Component, post.Body).title, t.Type)
	}
	return post, true
}

// commonText is a common key that is written as plain text.
func commonText(common value.Node, key string) (string, bool) {
	object, _ := common.V.(value.Object)
	m, ok := object.Get(key)
	text, isText := m.V.(string)
	return text, ok && isText
}
