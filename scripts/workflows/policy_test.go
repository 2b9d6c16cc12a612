package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/imgbake/imgbake-action/internal/scaffold"
)

const root = "../.."

// placeholder is our own action before its release. It may stand in what people
// copy, and nowhere else may an action be named by a tag.
const placeholder = scaffold.Action

var (
	byCommit = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}$`)
	byDigest = regexp.MustCompile(`^docker://\S+@sha256:[0-9a-f]{64}$`)
)

// policy looks for what makes a workflow unsafe: values that become part of a
// script, actions that can change under us, credentials that stay in the
// checkout, rights that nobody needs, triggers that run a stranger's code.
type policy struct {
	mayUse string // besides actions by commit
	lines  []string
	faults []string
}

// unsafe returns the faults of a workflow. mayUse is an action that is exempt.
func unsafe(text, mayUse string) []string {
	p := policy{mayUse: mayUse, lines: strings.Split(text, "\n")}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		return []string{fmt.Sprintf("no YAML: %v", err)}
	}
	top := doc.Content[0]
	if on := get(top, "on"); on == nil || mentions(on, "pull_request_target") {
		p.fault(top, "pull_request_target, or no trigger at all")
	}
	if rights := get(top, "permissions"); rights == nil || rights.Kind != yaml.MappingNode || len(rights.Content) > 0 {
		p.fault(top, "the top has not `permissions: {}`")
	}
	jobs := get(top, "jobs")
	if jobs == nil || len(jobs.Content) == 0 {
		p.fault(top, "no jobs")
		return p.faults
	}
	for i := 1; i < len(jobs.Content); i += 2 {
		p.rights(jobs.Content[i-1], get(jobs.Content[i], "permissions"))
	}
	p.walk(top)
	return p.faults
}

func (p *policy) fault(at *yaml.Node, format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf("line %d: ", at.Line)+fmt.Sprintf(format, args...))
}

// rights wants a job to list what it may.
func (p *policy) rights(job, list *yaml.Node) {
	if list == nil || list.Kind != yaml.MappingNode {
		p.fault(job, "job %s does not list its permissions", job.Value)
		return
	}
	for i := 1; i < len(list.Content); i += 2 {
		if v := list.Content[i].Value; !slices.Contains([]string{"read", "write", "none"}, v) {
			p.fault(job, "job %s: %s is %q", job.Value, list.Content[i-1].Value, v)
		}
	}
}

// walk looks at every key, however the YAML is written.
func (p *policy) walk(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for i := 1; i < len(n.Content); i += 2 {
			p.key(n, n.Content[i-1].Value, n.Content[i])
		}
	}
	for _, child := range n.Content {
		p.walk(child)
	}
}

func (p *policy) key(parent *yaml.Node, name string, v *yaml.Node) {
	switch name {
	case "run", "script":
		if strings.Contains(v.Value, "${{") {
			p.fault(v, "an expression inside a script: pass it in env")
		}
	case "secrets":
		if v.Value == "inherit" {
			p.fault(v, "secrets: inherit")
		}
	case "uses":
		p.uses(parent, v)
	}
}

func (p *policy) uses(step, v *yaml.Node) {
	switch {
	case v.Value == p.mayUse, strings.HasPrefix(v.Value, "./"), byDigest.MatchString(v.Value):
	case !byCommit.MatchString(v.Value):
		p.fault(v, "%s is not pinned by commit", v.Value)
	case !strings.Contains(p.lines[v.Line-1], "# v"):
		p.fault(v, "%s: no comment says which version that is", v.Value)
	}
	if with := get(step, "with"); strings.HasPrefix(v.Value, "actions/checkout@") && (with == nil || get(with, "persist-credentials") == nil || get(with, "persist-credentials").Value != "false") {
		p.fault(v, "a checkout that keeps its credentials")
	}
}

// get is the value of a mapping's key.
func get(n *yaml.Node, key string) *yaml.Node {
	for i := 1; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i-1].Value == key {
			return n.Content[i]
		}
	}
	return nil
}

func mentions(n *yaml.Node, word string) bool {
	return n.Value == word || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return mentions(c, word) })
}

// All workflows are safe, and there are as many as one would think.
func TestWorkflowsAreSafe(t *testing.T) {
	all, err := find(root)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, w := range all {
		kind, mayUse := filepath.Dir(w.name), placeholder
		if kind == ".github/workflows" {
			mayUse = ""
		}
		kinds[kind]++
		for _, fault := range unsafe(w.text, mayUse) {
			t.Errorf("%s: %s", w.name, fault)
		}
	}
	for kind, want := range map[string]int{".github/workflows": 2, "templates/github": 3, "docs": 3, ".": 5} {
		if kinds[kind] < want {
			t.Errorf("%s: %d workflows, want %d at least: %v", kind, kinds[kind], want, kinds)
		}
	}
}

// Steps that documents show outside of a workflow name actions by commit, too.
func TestStepsInDocumentsArePinned(t *testing.T) {
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: (\S+)`)
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, root+"/README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range uses.FindAllStringSubmatch(string(text), -1) {
			if m[1] != placeholder && !byCommit.MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned by commit", file, m[1])
			}
		}
	}
}

func TestUnsafeWorkflowsAreFound(t *testing.T) {
	const commit = "11bd71901bbe5b1630ceea73d27597364c9af683"
	const head = "on: push\npermissions: {}\njobs:\n  a:\n    permissions: { contents: read }\n    steps:\n"
	for name, test := range map[string]struct{ text, want string }{
		"tag":           {head + "      - uses: actions/setup-go@v5 # v5\n", "not pinned"},
		"short hash":    {head + "      - name: x\n        uses: a/b@11bd719 # v1\n", "not pinned"},
		"image":         {head + "      - uses: docker://alpine:3 # v3\n", "not pinned"},
		"ours":          {head + "      - uses: imgbake/imgbake-action@v2\n", "not pinned"},
		"no version":    {head + "      - uses: a/b@" + commit + "\n", "which version"},
		"called":        {"on: push\npermissions: {}\njobs:\n  a:\n    permissions: {}\n    uses: a/b/.github/workflows/c.yml@main # v1\n", "not pinned"},
		"inherited":     {"on: push\npermissions: {}\njobs:\n  a:\n    permissions: {}\n    uses: ./x.yml\n    secrets: inherit\n", "secrets: inherit"},
		"one line":      {head + "      - run: echo ${{ github.head_ref }}\n", "inside a script"},
		"flow":          {head + "      - { name: x, \"run\": \"echo ${{ github.head_ref }}\" }\n", "inside a script"},
		"block":         {head + "      - run: |\n          true\n          echo ${{ github.head_ref }}\n", "inside a script"},
		"folded":        {head + "      - run: >-\n          echo\n          ${{ github.head_ref }}\n", "inside a script"},
		"github-script": {head + "      - uses: actions/github-script@" + commit + " # v7\n        with: { script: \"f('${{ github.head_ref }}')\" }\n", "inside a script"},
		"credentials":   {head + "      - uses: actions/checkout@" + commit + " # v4\n      - run: true\n", "keeps its credentials"},
		"nothing":       {"on: push\njobs: { a: { permissions: {} } }\n", "the top has not"},
		"top":           {"on: push\npermissions: { contents: read }\njobs: { a: { permissions: {} } }\n", "the top has not"},
		"write-all top": {"on: push\npermissions: write-all\njobs: { a: { permissions: {} } }\n", "the top has not"},
		"no list":       {"on: push\npermissions: {}\njobs: { a: { steps: [] } }\n", "does not list"},
		"write-all":     {"on: push\npermissions: {}\njobs: { a: { permissions: write-all } }\n", "does not list"},
		"trigger":       {"on: [push, pull_request_target]\npermissions: {}\njobs: { a: { permissions: {} } }\n", "pull_request_target"},
		"no YAML":       {"on: [", "no YAML"},
	} {
		if got := unsafe(test.text, placeholder); len(got) != 1 || !strings.Contains(got[0], test.want) {
			t.Errorf("%s: got %q, want one with %q", name, got, test.want)
		}
	}
	fine := head + "      - if: github.event_name == 'push'\n        env:\n          TOKEN: ${{ secrets.GITHUB_TOKEN }}\n        run: |\n          true\n\n          false\n      - uses: " + placeholder + "\n        with: { a: \"${{ github.ref }}\" }\n"
	if got := unsafe(fine, placeholder); got != nil {
		t.Errorf("got %q", got)
	}
	if got := unsafe(fine, ""); len(got) != 1 {
		t.Errorf("the placeholder in a workflow of ours: got %q", got)
	}
}
