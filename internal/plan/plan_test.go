package plan_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/template"
	"github.com/imgbake/imgbake-action/internal/value"
	"github.com/imgbake/imgbake-action/internal/vars"
)

// canaryTemplate uses a secret in every way that the plan could catch it.
const canaryTemplate = `
variables:
  key: { sensitive: true }
  db:  { sensitive: true, type: map }
locals:
  auth: "Bearer ${base64encode(var.key)}"
  twice: "${local.auth}/${local.auth}"
  parts: { plain: x, secret: ["${var.db.password}"] }
images:
  web:
    builders: { docker: { image: "debian", platform: linux/amd64 } }
    provisioners:
      - shell: { inline: ["a ${var.key}", "${upper(local.twice)}", "${sha256(var.key)}", "${local.parts.plain}"] }
      - shell: { inline: [x], env: { K: "${var.key}", D: "${jsonencode(var.db)}", E: "${local.parts.secret[0]}" } }
      - shell: { inline: [x], override: { docker: { inline: ["${local.auth}"] } } }
      - file: { source: "${var.key}", destination: "${base64encode(local.auth)}" }
    post_processors:
      - docker-tag: { repository: "x/${var.key}" }
    config: { labels: { ok: fine } }
`

func TestNoSecretInThePlan(t *testing.T) {
	const key, password = "canary-7f3a91", "canary-b2c4d6"
	c := settings("var: key=" + key + "\nvar: db={\"password\":\"" + password + "\",\"n\":[\"canary-nested\"]}")
	tmpl, r, p, scope, problems := c.plan("t.yaml", []byte(canaryTemplate))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	overview, err := json.Marshal(plan.Inspect(tmpl, r))
	if err != nil {
		t.Fatal(err)
	}
	planned, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	all := string(planned) + string(overview) + plan.Tree(p) + fmt.Sprintf("%v %+v %#v", p, p, r)
	for _, secret := range []string{key, password, "canary-nested"} {
		for _, form := range []string{secret, strings.ToUpper(secret), hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))[:12]} {
			if strings.Contains(all, form) {
				t.Errorf("%q of %q is in the plan", form, secret)
			}
		}
	}
	if digest := fmt.Sprintf("%x", sha256.Sum256([]byte(key))); strings.Contains(all, digest) {
		t.Error("a digest of the secret is in the plan")
	}

	secrets := plan.Secrets(scope)
	for _, want := range []string{key, password, "canary-nested", "Bearer " + base64.StdEncoding.EncodeToString([]byte(key))} {
		if !slices.Contains(secrets, want) {
			t.Errorf("Secrets lacks %q: %q", want, secrets)
		}
	}
	// The run has all it needs to evaluate what the plan left.
	b := p.Images[0].Bakes[0]
	late, problems := value.Eval(b.Steps[0].Body, scope)
	if len(problems) > 0 || len(late.Needs()) > 0 {
		t.Errorf("not evaluated: %v %v", late.Needs(), problems)
	}
	if text, _ := json.Marshal(late); !bytes.Contains(text, []byte("a "+key)) {
		t.Errorf("evaluated to %s", text)
	}
}

// hand makes a Packer-like template by hand: what no front end lets through.
func hand(images ...template.Image) template.Template {
	return template.Template{File: "t", Format: "test", Images: images}
}

func component(line int, typ string, body value.Object) template.Component {
	pos := diag.Pos{File: "t", Line: line, Column: 1}
	return template.Component{Type: typ, Pos: pos, Body: value.Node{Pos: pos, V: body}}
}

func docker(line int, name string) template.Builder {
	c := component(line, "docker", value.Object{{Key: "image", Node: value.Node{V: "x"}}})
	return template.Builder{Component: c, Name: name, NamePos: c.Pos}
}

func TestDuplicates(t *testing.T) {
	tmpl := hand(
		template.Image{Name: "a", Pos: diag.Pos{Line: 1}, Builders: []template.Builder{docker(2, "docker"), docker(3, "docker")}},
		template.Image{Name: "a", Pos: diag.Pos{Line: 4}, Builders: []template.Builder{docker(5, "other")}},
	)
	tmpl.Locals = []template.Local{{Name: "l", Pos: diag.Pos{Line: 6}}, {Name: "l", Pos: diag.Pos{Line: 7}}}
	_, _, problems := plan.Make(tmpl, vars.Resolved{}, catalog(), plan.Facts{}, plan.Options{})
	want := `4: image "a" is declared twice (the first one is at 1)
7: local "l" is declared twice (the first one is at 6)
t:3:1: builder "docker" is declared twice (the first one is at t:2:1)`
	if got := problems.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNothingToBake(t *testing.T) {
	p, _, problems := plan.Make(hand(), vars.Resolved{}, catalog(), plan.Facts{}, plan.Options{})
	if want := "t: the template has no image to bake"; problems.Error() != want {
		t.Errorf("got %q, want %q", problems.Error(), want)
	}
	if text, err := json.Marshal(p); err != nil || !strings.Contains(string(text), `"images":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

// content is what does not change.
type content func() (string, error)

func (c content) Digest() (string, error) { return c() }
func (c content) Still() error            { return nil }

func TestInputs(t *testing.T) {
	step := func(line int, script string) template.Provisioner {
		return template.Provisioner{Component: component(line, "shell", value.Object{{Key: "script", Node: value.Node{Pos: diag.Pos{File: "t", Line: line, Column: 9}, V: script}}})}
	}
	tmpl := hand(template.Image{Builders: []template.Builder{docker(1, "a"), docker(1, "b")}, Provisioners: []template.Provisioner{
		step(2, "one.sh"), step(3, "one.sh"), step(4, "gone.sh"), step(5, "denied.sh"), step(6, "torn.sh"),
	}})
	var checked, read []string
	facts := plan.Facts{Digest: func(in bake.Input) (plan.Content, error) {
		checked = append(checked, in.Path)
		switch in.Path {
		case "gone.sh":
			return nil, fmt.Errorf("lstat: %w", os.ErrNotExist)
		case "denied.sh":
			return nil, errors.New("permission denied")
		}
		return content(func() (string, error) {
			read = append(read, in.Path)
			if in.Path == "torn.sh" {
				return "", errors.New("input/output error")
			}
			return "sha256:1", nil
		}), nil
	}}
	p, _, problems := plan.Make(tmpl, vars.Resolved{}, catalog(), facts, plan.Options{})
	want := `t:4:9: file "gone.sh" is not there (paths are relative to the template's folder)
t:5:9: file "denied.sh": permission denied`
	if problems.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", problems.Error(), want)
	}
	if got := strings.Join(checked, " "); got != "one.sh gone.sh denied.sh torn.sh" || len(read) > 0 {
		t.Errorf("checked %s, once each, and read %s", got, read)
	}
	steps := p.Images[0].Bakes[1].Steps
	if got := steps[1].Inputs[0].Digest.Known(); got != "" {
		t.Errorf("the digest is known before it is asked for: %s", got)
	}
	for range 2 {
		if text, err := json.Marshal(steps[:2]); err != nil || strings.Count(string(text), `"digest":"sha256:1"`) != 2 {
			t.Errorf("%s, %v", text, err)
		}
	}
	if got := steps[0].Inputs[0].Digest.Known(); got != "sha256:1" || len(read) != 1 {
		t.Errorf("known %q; read %s: each file is read once", got, read)
	}
	if _, err := json.Marshal(steps[4]); err == nil || !strings.Contains(err.Error(), `file "torn.sh": input/output error`) {
		t.Errorf("what cannot be read: %v", err)
	}
	if got := p.Read().Error(); got != `t:6:9: file "torn.sh": input/output error` { // once, for both bakes
		t.Errorf("problems of reading: %s", got)
	}
	if got := steps[4].Inputs[0].Digest.Known(); got != "" || len(read) != 2 {
		t.Errorf("known %q; read %s", got, read)
	}
}

func TestDeepStages(t *testing.T) {
	const depth = 5000
	images := make([]template.Image, depth)
	for i := range images {
		images[i] = template.Image{Name: fmt.Sprint("i", i), From: fmt.Sprint("i", i+1)}
	}
	images[depth-1] = template.Image{Name: fmt.Sprint("i", depth-1), Builders: []template.Builder{docker(1, "docker")}}
	p, _, problems := plan.Make(hand(images...), vars.Resolved{}, catalog(), plan.Facts{}, plan.Options{Only: []string{"i0"}})
	if len(problems) > 0 || len(p.Images) != depth {
		t.Fatalf("%d images, %v", len(p.Images), problems)
	}
	first, last := p.Images[0].Bakes[0], p.Images[depth-1].Bakes[0]
	if first.From != "" || !first.Ancestor || last.Name != "i0.docker" || last.From != "i1.docker" || last.Ancestor {
		t.Errorf("first %+v\nlast %+v", first, last)
	}
}

// wide is a template of n builders and m provisioners, as in W6.
func wide(n, m int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"variables": {"v": "1"}, "builders": [`)
	for i := range n {
		fmt.Fprintf(&b, "%s{\"type\": \"docker\", \"name\": \"b%d\", \"image\": \"debian:{{user `v`}}\"}\n", comma(i), i)
	}
	b.WriteString(`], "provisioners": [`)
	for i := range m {
		fmt.Fprintf(&b, "%s{\"type\": \"shell\", \"inline\": [\"echo %d {{user `v`}} {{build_name}}\"]}\n", comma(i), i)
	}
	b.WriteString("]}")
	return b.Bytes()
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func TestWide(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, p, _, problems := settings("").plan("t.json", wide(1000, 10))
	runtime.ReadMemStats(&after)
	if len(problems) > 0 || len(p.Images[0].Bakes) != 1000 || len(p.Images[0].Bakes[999].Steps) != 10 {
		t.Fatalf("%v", problems)
	}
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 200 {
		t.Errorf("%d MiB allocated in all: something is quadratic", mib)
	}
}

// BenchmarkPlan is W6: a plan of 1,000 builders x 10 provisioners from bytes
// to JSON.
func BenchmarkPlan(b *testing.B) {
	src := wide(1000, 10)
	shared := bytes.ReplaceAll(src, []byte(" {{build_name}}"), nil)
	for name, src := range map[string][]byte{"facts of the bake": src, "shared steps": shared} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, p, _, problems := settings("").plan("t.json", src)
				if len(problems) > 0 {
					b.Fatal(problems)
				}
				if _, err := json.Marshal(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
