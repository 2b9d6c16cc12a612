package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// MatrixLeg is one job of a GitHub matrix: one bake.
type MatrixLeg struct {
	Image    string `json:"image"`
	Builder  string `json:"builder"`
	Bake     string `json:"bake"`
	Platform string `json:"platform"` // empty: the runner's own
	Only     string `json:"only"`     // the -only pattern that selects it
}

// Matrix is the plan's bakes as GitHub's strategy.matrix takes them. Bakes that
// are there only because others start from them have no leg of their own: a
// leg bakes what it needs.
func Matrix(p Plan) ([]byte, error) {
	legs := []MatrixLeg{}
	for _, img := range p.Images {
		for _, b := range img.Bakes {
			if !b.Ancestor {
				legs = append(legs, MatrixLeg{b.Image, b.Builder, b.Name, b.Platform, b.Name})
			}
		}
	}
	return json.Marshal(map[string][]MatrixLeg{"include": legs})
}

// Tree is the plan for people: images, their bakes, and what each does in order.
func Tree(p Plan) string {
	t := tree{}
	t.line(0, "%s (%s)", p.Template, p.Format)
	for _, v := range p.Variables {
		t.variable(v)
	}
	t.cache(p.Cache)
	for _, img := range p.Images {
		for _, b := range img.Bakes {
			t.bake(b)
		}
		for _, i := range img.Indexes {
			t.index(i)
		}
	}
	return t.String()
}

type tree struct{ strings.Builder }

func (t *tree) line(depth int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(t, "%s%s\n", strings.Repeat("  ", depth), strings.ReplaceAll(text, "\n", " "))
}

func (t *tree) variable(v Variable) {
	text, _ := json.Marshal(v.Value)
	if v.Sensitive {
		text = []byte("***")
	}
	t.line(1, "var.%s = %s (%s)", v.Name, text, v.Source)
}

func (t *tree) cache(c Cache) {
	for _, ref := range c.From {
		t.line(1, "cache from %s", ref)
	}
	if c.To != nil {
		t.line(1, "cache to %s", c.To)
	}
}

func (t *tree) bake(b Bake) {
	t.WriteByte('\n')
	var notes []string
	for _, note := range []struct{ what, of string }{
		{"", b.Type}, {"on ", b.Platform}, {"from ", b.From}, {"after ", strings.Join(b.After, ", ")}, {"layers: ", b.Layers}, {"compression: ", string(b.Compression)},
	} {
		if note.of != "" {
			notes = append(notes, note.what+note.of)
		}
	}
	if b.Ancestor {
		notes = append(notes, "only because others start from it")
	}
	t.line(0, "%s (%s)", b.Name, strings.Join(notes, "; "))
	for i, s := range b.Steps {
		t.line(1, "%2d. %s%s", i+1, s.Title, s.Common.notes())
	}
	if b.Cleanup != nil {
		t.line(1, "on failure: %s", b.Cleanup.Title)
	}
	for _, sequence := range b.Posts {
		titles := make([]string, len(sequence))
		for i, post := range sequence {
			titles[i] = post.Title
		}
		t.line(1, "then %s", strings.Join(titles, " -> "))
	}
	for _, target := range b.Publish {
		t.line(1, "publish %s", target)
	}
}

func (t *tree) index(i Index) {
	t.WriteByte('\n')
	t.line(0, "%s (index of %s)", i.Name, strings.Join(i.Bakes, ", "))
	for _, target := range i.Publish {
		t.line(1, "publish %s", target)
	}
}

// String is the target as repository:tag, with further tags after commas.
func (t Target) String() string {
	if len(t.Tags) == 0 {
		return t.Repository + " (by digest)"
	}
	return t.Repository + ":" + strings.Join(t.Tags, ", :")
}

// notes are a step's settings that change how it runs.
func (c StepCommon) notes() string {
	var notes []string
	add := func(what string, d time.Duration) {
		if d > 0 {
			notes = append(notes, what+" "+d.String())
		}
	}
	add("after a pause of", c.PauseBefore)
	add("timeout", c.Timeout)
	if c.MaxRetries > 0 {
		notes = append(notes, fmt.Sprintf("retries %d", c.MaxRetries))
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, ", ") + ")"
}
