package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	uses   = regexp.MustCompile(`^\s*(?:- )?uses:\s*(\S+)`)
	pinned = regexp.MustCompile(`^\S+@[0-9a-f]{40}$`)
	broad  = regexp.MustCompile(`(?m)^permissions:(.*\bwrite\b|\n(?:[ \t].*\n)*?[ \t].*: write\b)`)
	step   = regexp.MustCompile(`^(\s*)- `)
)

// workflowFaults looks for what makes a workflow unsafe: actions that can
// change under us, values that become part of a script, credentials that stay
// in the checkout, rights that nobody needs.
func workflowFaults(text string) (faults []string) {
	if !strings.Contains(text, "\npermissions:") {
		faults = append(faults, "no top-level permissions")
	}
	if strings.Contains(text, "pull_request_target") || strings.Contains(text, "write-all") {
		faults = append(faults, "a dangerous trigger or right")
	}
	if broad.MatchString(text) {
		faults = append(faults, "rights to write for every job: give them to the one that needs them")
	}
	inRun, indent := false, 0
	for _, line := range strings.Split(text, "\n") {
		if m := uses.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[1], "./") && !pinned.MatchString(m[1]) {
			faults = append(faults, "not pinned by commit: "+m[1])
		}
		depth := len(line) - len(strings.TrimLeft(line, " "))
		if inRun && depth <= indent && strings.TrimSpace(line) != "" {
			inRun = false
		}
		if i := strings.Index(line, "run:"); i >= 0 && strings.Trim(line[:i], " -") == "" {
			inRun, indent = true, i
		}
		if inRun && strings.Contains(line, "${{") {
			faults = append(faults, "an expression inside a script: "+strings.TrimSpace(line))
		}
	}
	for _, block := range steps(text) {
		if strings.Contains(block, "actions/checkout@") && !strings.Contains(block, "persist-credentials: false") {
			faults = append(faults, "a checkout that keeps its credentials")
		}
	}
	return faults
}

// steps cuts a workflow before each item of a list.
func steps(text string) (blocks []string) {
	var block strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		if step.MatchString(line) {
			blocks = append(blocks, block.String())
			block.Reset()
		}
		block.WriteString(line)
	}
	return append(blocks, block.String())
}

func TestWorkflows(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../.github/workflows/*.yml", "../../templates/github/*.yml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range workflowFaults(string(text)) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Fatalf("documents %v, %v", documents, err)
	}
	for _, file := range append(documents, "../../README.md") {
		for _, text := range workflowsIn(t, file) {
			for _, fault := range workflowFaults(text) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
}

// workflowsIn are the blocks of a document that are workflows, or their jobs.
func workflowsIn(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(text), "```") {
		body, ok := strings.CutPrefix(block, "yaml\n")
		switch {
		case i%2 == 0 || !ok:
		case strings.Contains("\n"+body, "\non:"):
			all = append(all, "\n"+body)
		case strings.Contains("\n"+body, "\njobs:"):
			all = append(all, "\npermissions: {}\n"+body)
		}
	}
	return all
}

func TestUnsafeWorkflowsAreFound(t *testing.T) {
	const good = "on: push\npermissions: {}\njobs:\n  a:\n    steps:\n"
	for name, test := range map[string]struct{ text, want string }{
		"tag":         {good + "      - uses: actions/setup-go@v5\n", "not pinned"},
		"short hash":  {good + "      - name: x\n        uses: a/b@11bd719\n", "not pinned"},
		"one line":    {good + "      - run: echo ${{ github.head_ref }}\n", "inside a script"},
		"block":       {good + "      - run: |\n          true\n          echo ${{ github.head_ref }}\n", "inside a script"},
		"credentials": {good + "      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683\n      - run: true\n", "keeps its credentials"},
		"rights":      {"on: push\njobs: {}\n", "no top-level permissions"},
		"all jobs":    {"on: push\npermissions:\n  contents: read\n  packages: write\njobs: {}\n", "for every job"},
		"trigger":     {"on: pull_request_target\npermissions: {}\n", "dangerous"},
	} {
		if got := workflowFaults(test.text); len(got) != 1 || !strings.Contains(got[0], test.want) {
			t.Errorf("%s: got %q, want one with %q", name, got, test.want)
		}
	}
	fine := good + "      - if: github.event_name == 'push'\n        env:\n          TOKEN: ${{ secrets.GITHUB_TOKEN }}\n        run: |\n          true\n\n          false\n      - uses: ./x\n        with: { a: \"${{ github.ref }}\" }\n"
	if got := workflowFaults(fine); got != nil {
		t.Errorf("got %q", got)
	}
}
