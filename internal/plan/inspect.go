package plan

import (
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// Overview is what a template holds, whether or not this program knows the
// types it names.
type Overview struct {
	Template    string             `json:"template"`
	Format      string             `json:"format"`
	Description string             `json:"description,omitempty"`
	Variables   []VariableOverview `json:"variables"`
	Locals      []string           `json:"locals,omitempty"`
	Images      []ImageOverview    `json:"images"`
}

// VariableOverview is a variable with what the template says of it.
type VariableOverview struct {
	Variable
	Type        string   `json:"type,omitempty"`
	Description string   `json:"description,omitempty"`
	Required    bool     `json:"required,omitempty"`
	Set         bool     `json:"set"` // it has a value
	Env         []string `json:"env,omitempty"`
	Choices     []string `json:"choices,omitempty"`
}

// ImageOverview is an image with its components.
type ImageOverview struct {
	Name         string               `json:"name,omitempty"`
	Description  string               `json:"description,omitempty"`
	From         string               `json:"from,omitempty"`
	Builders     []ComponentSummary   `json:"builders,omitempty"` // none: those of the parent
	Provisioners []ComponentSummary   `json:"provisioners,omitempty"`
	Cleanup      *ComponentSummary    `json:"error_cleanup,omitempty"`
	Posts        [][]ComponentSummary `json:"post_processors,omitempty"`
}

// ComponentSummary names a component.
type ComponentSummary struct {
	Type string `json:"type"`
	Name string `json:"name,omitempty"`
}

// Inspect summarises a template. It evaluates nothing.
func Inspect(t template.Template, r vars.Resolved) Overview {
	out := Overview{Template: t.File, Format: t.Format, Description: t.Description, Variables: []VariableOverview{}, Images: []ImageOverview{}}
	declared := map[string]template.Variable{}
	for _, d := range t.Variables {
		declared[d.Name] = d
	}
	for i, shown := range variables(r) {
		d := declared[shown.Name]
		out.Variables = append(out.Variables, VariableOverview{
			Variable: shown, Set: r.Variables[i].Known, Type: d.Type, Description: d.Description,
			Required: d.Default == nil, Env: d.Env, Choices: d.Choices,
		})
	}
	for _, l := range t.Locals {
		out.Locals = append(out.Locals, l.Name)
	}
	for _, img := range t.Images {
		out.Images = append(out.Images, imageOverview(img))
	}
	return out
}

func imageOverview(img template.Image) ImageOverview {
	out := ImageOverview{Name: img.Name, Description: img.Description, From: img.From}
	for _, b := range img.Builders {
		typ := b.Type
		if typ == "" {
			typ = b.Name
		}
		out.Builders = append(out.Builders, ComponentSummary{Type: typ, Name: b.Name})
	}
	for _, pr := range img.Provisioners {
		out.Provisioners = append(out.Provisioners, summary(pr.Component))
	}
	if img.Cleanup != nil {
		s := summary(img.Cleanup.Component)
		out.Cleanup = &s
	}
	for _, sequence := range img.Posts {
		posts := make([]ComponentSummary, len(sequence))
		for i, post := range sequence {
			posts[i] = summary(post.Component)
		}
		out.Posts = append(out.Posts, posts)
	}
	return out
}

func summary(c template.Component) ComponentSummary {
	name, _ := commonText(c.Common, "name")
	return ComponentSummary{Type: c.Type, Name: name}
}
