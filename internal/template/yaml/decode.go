package yaml

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
)

// decoder fills a template from a value.
type decoder struct{ problems diag.List }

func (d *decoder) add(pos diag.Pos, hint, format string, args ...any) {
	d.problems.Add(pos, hint, format, args...)
}

func (d *decoder) template(n value.Node, t *template.Template) {
	object, ok := n.V.(value.Object)
	if !ok {
		d.add(n.Pos, `a template starts with a key, such as "images:"`, "expected a mapping, found %s", value.Describe(n))
		return
	}
	d.references(object)
	n.V = d.misplaced(d.literal(object, "description"), Reference().Image, "put it below images: NAME:", "an image")
	var keys rootKeys
	_, problems := value.Decode(n, &keys)
	d.problems.Append(problems)
	t.Description, t.Cache = keys.Description, keys.Cache
	for _, m := range d.members(keys.Variables, "a mapping from names to settings or defaults") {
		t.Variables = append(t.Variables, d.variable(m))
	}
	for _, m := range d.members(keys.Locals, "a mapping from names to values") {
		if d.named(m, "local") {
			t.Locals = append(t.Locals, template.Local{Name: m.Key, Pos: m.KeyPos, Value: m.Node})
		}
	}
	images := d.members(keys.Images, "a mapping from names to images")
	if len(images) == 0 && keys.Images.V != nil && !d.problems.HasErrors() {
		d.add(keys.Images.Pos, "give it a name and settings", "the template has no image")
	}
	for _, m := range images {
		t.Images = append(t.Images, d.image(m))
	}
}

// misplaced reports the keys that belong to something else.
func (d *decoder) misplaced(object value.Object, others []value.Field, hint, whose string) value.Object {
	for _, f := range others {
		if m, ok := object.Get(f.Key); ok && f.Key != "description" {
			d.add(m.KeyPos, hint, "%q is a key of %s", m.Key, whose)
			object = object.Without(f.Key)
		}
	}
	return object
}

// literal drops those members named that hold an expression: they are needed
// before any value is known.
func (d *decoder) literal(object value.Object, keys ...string) value.Object {
	for _, key := range keys {
		m, ok := object.Get(key)
		if !ok {
			continue
		}
		if at, found := findExpr(m.Node); found {
			d.add(at.Pos, "", "%q must be written out, without an expression", key)
			object = object.Without(key)
		}
	}
	return object
}

func findExpr(n value.Node) (at value.Node, found bool) {
	walk(n, func(n value.Node, _ value.Expr) { at, found = n, true })
	return at, found
}

// walk visits every expression in a tree.
func walk(n value.Node, visit func(value.Node, value.Expr)) {
	switch v := n.V.(type) {
	case value.Expr:
		visit(n, v)
	case value.List:
		for _, item := range v {
			walk(item, visit)
		}
	case value.Object:
		for _, m := range v {
			walk(m.Node, visit)
		}
	}
}

// references reports variables and locals that are used but not declared. It
// evaluates in a scope in which nothing has a value, so nothing is computed.
func (d *decoder) references(root value.Object) {
	declared := map[string]value.Entry{}
	for section, group := range map[string]string{"variables": "var.", "locals": "local."} {
		m, _ := root.Get(section)
		object, _ := m.V.(value.Object)
		for _, member := range object {
			declared[group+member.Key] = value.Entry{}
		}
	}
	scope := value.Scope{}.With(declared)
	walk(value.Node{V: root.Without("variables")}, func(n value.Node, e value.Expr) {
		visible := scope
		for _, need := range e.Needs() {
			group, _, dotted := strings.Cut(need, ".")
			if dotted && group != "var" && group != "local" { // who resolves the template knows it
				visible = visible.With(map[string]value.Entry{need: {}})
			}
		}
		if len(e.Needs()) == 0 {
			return
		}
		_, problems := value.Eval(n, visible)
		d.problems.Append(problems)
	})
}

// members are those of an object; nothing at all is an empty one.
func (d *decoder) members(n value.Node, want string) value.Object {
	object, ok := n.V.(value.Object)
	if !ok && n.V != nil {
		d.add(n.Pos, "", "expected %s, found %s", want, value.Describe(n))
	}
	return object
}

func (d *decoder) items(n value.Node, want string) value.List {
	list, ok := n.V.(value.List)
	if !ok && n.V != nil {
		d.add(n.Pos, `start each entry with "- "`, "expected %s, found %s", want, value.Describe(n))
	}
	return list
}

// named reports whether expressions can refer to the member's key.
func (d *decoder) named(m value.Member, what string) bool {
	if expr.IsName(m.Key) {
		return true
	}
	d.add(m.KeyPos, "a name has letters, digits, _ and -, and no digit or - first", "%q cannot be the name of a %s", m.Key, what)
	return false
}

func (d *decoder) variable(m value.Member) template.Variable {
	d.named(m, "variable")
	v := template.Variable{Name: m.Key, Pos: m.KeyPos}
	object, isObject := m.V.(value.Object)
	if !isObject {
		if m.V != nil {
			v.Default = d.plainDefault(m.Node)
		}
		return v
	}
	n := m.Node
	n.V = d.literal(object, "description", "type", "required", "sensitive", "env", "choices")
	var keys variableKeys
	where, problems := value.Decode(n, &keys)
	d.problems.Append(problems)
	v.Description, v.Type, v.Sensitive, v.Env, v.Choices = keys.Description, keys.Type, keys.Sensitive, keys.Env, keys.Choices
	switch {
	case where.Given("default"):
		v.Default = d.plainDefault(keys.Default)
		if keys.Required {
			d.add(where.At("required"), "remove one of them", "a required variable has no default")
		}
	case where.Given("required") && !keys.Required:
		v.Default = &value.Node{Pos: where.At("required")}
	}
	for i, rule := range keys.Validation {
		v.Validations = append(v.Validations, d.validation(m.Key, where.At("validation", i), rule))
	}
	return v
}

// lateGroups are the names that have no values yet when variables get theirs.
var lateGroups = []string{"var", "local", "build", "source"}

// plainDefault is a variable's default, which may use facts only.
func (d *decoder) plainDefault(n value.Node) *value.Node {
	walk(n, func(at value.Node, e value.Expr) {
		for _, need := range e.Needs() {
			if group, _, _ := strings.Cut(need, "."); slices.Contains(lateGroups, group) {
				d.add(at.Pos, "make it a local, which may use variables", "a variable's default cannot use %s", need)
			}
		}
	})
	return &n
}

func (d *decoder) validation(name string, pos diag.Pos, keys validationKeys) template.Validation {
	self := "var." + name
	if e, ok := keys.Condition.V.(value.Expr); ok {
		for _, need := range e.Needs() {
			if need != self && !strings.HasPrefix(need, self+".") {
				d.add(keys.Condition.Pos, "use "+self, "the condition of %s cannot use %s", self, need)
			}
		}
	}
	return template.Validation{Pos: pos, Condition: keys.Condition, Message: keys.Message}
}

// imageName is what images and builders may be called: names of commands'
// -only and -except take dots and globs to mean something.
var imageName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)

func (d *decoder) name(name string, pos diag.Pos, what string) {
	if !imageName.MatchString(name) {
		d.add(pos, "a name has letters, digits, _ and -", "%q cannot be the name of %s", name, what)
	}
}

func (d *decoder) image(m value.Member) template.Image {
	image := template.Image{Name: m.Key, Pos: m.KeyPos}
	d.name(m.Key, m.KeyPos, "an image")
	n := m.Node
	if n.V == nil {
		n.V = value.Object{}
	}
	object, ok := n.V.(value.Object)
	if !ok {
		d.add(n.Pos, "", "expected the settings of image %q, found %s", m.Key, value.Describe(n))
		return image
	}
	n.V = d.misplaced(d.literal(object, "description", "from"), Reference().Template, "put it at the top, beside images:", "the template")
	var keys imageKeys
	_, problems := value.Decode(n, &keys)
	d.problems.Append(problems)
	image.Description = keys.Description
	image.From, image.FromPos = d.from(keys.From)
	image.Platforms = keys.Platforms
	image.Builders = d.builders(keys.Builders)
	_, staged := object.Get("from")
	if !staged && keys.Builders.V == nil && !problems.HasErrors() {
		d.add(m.KeyPos, `give it "builders:", or "from:" another image`, "image %q has no builder", m.Key)
	}
	for _, item := range d.items(keys.Provisioners, "a list of provisioners") {
		if c, ok := d.component(item, "provisioner", stepKeys); ok {
			image.Provisioners = append(image.Provisioners, template.Provisioner{Component: c})
		}
	}
	if keys.Cleanup.V != nil {
		if c, ok := d.component(keys.Cleanup, "provisioner", stepKeys); ok {
			image.Cleanup = &template.Provisioner{Component: c}
		}
	}
	image.Posts = d.posts(keys.Posts)
	image.Config, image.Layers, image.Compression, image.Keep, image.Publish = keys.Config, keys.Layers, keys.Compression, keys.Keep, keys.Publish
	return image
}

func (d *decoder) from(n value.Node) (string, diag.Pos) {
	if n.V == nil {
		return "", diag.Pos{}
	}
	name, ok := n.V.(string)
	switch {
	case !ok:
		d.add(n.Pos, "", "expected the name of an image, found %s", value.Describe(n))
	case strings.ContainsAny(name, "/:."):
		d.add(n.Pos, "from names an image of this template; a registry's image is a builder's: builders: {docker: {image: "+name+"}}",
			"%q is not the name of an image", name)
	default:
		d.name(name, n.Pos, "an image")
	}
	return name, n.Pos
}

func (d *decoder) builders(n value.Node) []template.Builder {
	var out []template.Builder
	switch v := n.V.(type) {
	case nil:
	case value.List:
		for _, item := range v {
			out = append(out, d.builderEntry(item)...)
		}
	default:
		out = d.builderEntry(n)
	}
	for i, b := range out {
		if slices.ContainsFunc(out[:i], func(x template.Builder) bool { return x.Name == b.Name }) {
			d.add(b.NamePos, "give one of them another name, and a type", "builder %q is given twice", b.Name)
		}
	}
	return out
}

// builderEntry reads a name, or a mapping from names to settings.
func (d *decoder) builderEntry(n value.Node) []template.Builder {
	switch v := n.V.(type) {
	case string:
		d.name(v, n.Pos, "a builder")
		c := template.Component{Type: v, Pos: n.Pos, Body: value.Node{Pos: n.Pos, V: value.Object{}}}
		return []template.Builder{{Component: c, Name: v, NamePos: n.Pos, Inherit: true}}
	case value.Object:
		var out []template.Builder
		for _, m := range v {
			out = append(out, d.builder(m))
		}
		return out
	}
	d.add(n.Pos, "write a name, a list of names, or a mapping from names to settings", "expected a builder, found %s", value.Describe(n))
	return nil
}

func (d *decoder) builder(m value.Member) template.Builder {
	d.name(m.Key, m.KeyPos, "a builder")
	b := template.Builder{Name: m.Key, NamePos: m.KeyPos}
	b.Component = template.Component{Type: m.Key, Pos: m.KeyPos, Body: m.Node}
	object, ok := m.V.(value.Object)
	if m.V == nil {
		b.Inherit = true
		b.Body.V = value.Object{}
	}
	if kind, given := object.Get("type"); ok && given {
		text, isText := kind.V.(string)
		if !isText {
			d.add(kind.Pos, "", "expected the builder's type, found %s", value.Describe(kind.Node))
		}
		b.Type, b.Pos = text, kind.Pos
		b.Body.V = object.Without("type")
	}
	return b
}

func (d *decoder) posts(n value.Node) [][]template.Post {
	var out [][]template.Post
	for _, item := range d.items(n, "a list of post-processors") {
		sequence, ok := item.V.(value.List)
		if !ok {
			sequence = value.List{item}
		}
		var posts []template.Post
		for _, p := range sequence {
			if c, ok := d.component(p, "post-processor", postKeys); ok {
				posts = append(posts, template.Post{Component: c})
			}
		}
		if len(posts) > 0 {
			out = append(out, posts)
		}
	}
	return out
}

// component reads a name alone, or a mapping whose one key that is not common
// is the type. Common keys are taken from beside the type and from inside the
// settings. Settings that are no mapping are left to the component.
func (d *decoder) component(n value.Node, what string, common []string) (template.Component, bool) {
	object, ok := n.V.(value.Object)
	if text, isText := n.V.(string); isText && text != "" {
		object, ok = value.Object{{Key: text, KeyPos: n.Pos, Node: value.Node{Pos: n.Pos}}}, true
	}
	if !ok {
		d.add(n.Pos, fmt.Sprintf(`write the type as the key, such as "- %s:"`, example(what)), "expected a %s, found %s", what, value.Describe(n))
		return template.Component{}, false
	}
	kind, beside, ok := d.kind(object, n.Pos, what, common)
	if !ok {
		return template.Component{}, false
	}
	c := template.Component{Type: kind.Key, Pos: kind.KeyPos, Body: kind.Node}
	switch body := kind.V.(type) {
	case nil:
		c.Body.V = value.Object{}
	case value.Object:
		var inside value.Object
		inside, c.Body.V = split(body, common)
		for _, m := range inside {
			if _, twice := beside.Get(m.Key); twice {
				d.add(m.KeyPos, "keep one of them", "%q is given here and beside %q", m.Key, kind.Key)
			}
		}
		beside = beside.Merge(inside)
	}
	if len(beside) > 0 {
		c.Common = value.Node{Pos: kind.KeyPos, V: beside}
	}
	return c, true
}

// kind finds the type among a component's outer keys.
func (d *decoder) kind(object value.Object, pos diag.Pos, what string, common []string) (kind value.Member, beside value.Object, ok bool) {
	beside, others := split(object, common)
	if m, given := others.Get("type"); given {
		d.add(m.KeyPos, fmt.Sprintf(`write the type as the key, such as "- %s:", and the settings below it`, example(what)), "a %s has no key %q", what, "type")
		return kind, nil, false
	}
	for _, m := range others {
		hint := ""
		if len(others) > 1 {
			hint = diag.Suggest(m.Key, common)
		}
		near := strings.HasPrefix(hint, "did you mean")
		switch {
		case !ok && !near:
			kind, ok = m, true
		case near:
			d.add(m.KeyPos, hint, "unknown key %q", m.Key)
		default:
			d.add(m.KeyPos, fmt.Sprintf("start each %s with a dash; settings of %s belong below it, further to the right", what, kind.Key),
				"a second type %q beside %q", m.Key, kind.Key)
		}
	}
	if !ok {
		d.add(pos, fmt.Sprintf(`write the type as the key, such as "- %s:"`, example(what)), "the %s has no type", what)
	}
	return kind, beside, ok
}

func example(what string) string {
	if what == "provisioner" {
		return "shell"
	}
	return "docker-tag"
}

// split parts an object in the members that have one of the keys, and the rest.
func split(object value.Object, keys []string) (with, without value.Object) {
	without = value.Object{}
	for _, m := range object {
		if slices.Contains(keys, m.Key) {
			with = append(with, m)
		} else {
			without = append(without, m)
		}
	}
	return with, without
}
