package reference

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
	"github.com/imgbake/imgbake-action/internal/value"
)

func testSchema(t *testing.T) validator {
	t.Helper()
	text, err := Schema(testCatalog())
	if err != nil {
		t.Fatal(err)
	}
	return validator{parse(string(text))}
}

// images makes a template of one image's settings.
func images(image string) string { return `{"images": {"web": ` + image + `}}` }

func TestSchemaAccepts(t *testing.T) {
	tests := map[string]string{
		"an image": images(`{"builders": {"docker": {"image": "debian"}}}`),
		"everything of a template": `{"description": "d", "x-common": 5, "locals": {"a": [1]}, "images": {"a": {"from": "b"}},
			"variables": {"short": "bookworm", "empty": null, "list": ["a"],
				"long": {"default": {"a": 1}, "type": "map", "sensitive": true, "env": "HOME", "choices": ["a", 1],
					"validation": [{"condition": "length(var.long) > 1", "error_message": "m"}]}}}`,
		"an image that is only a name":  `{"images": {"web": null}}`,
		"builders by name":              images(`{"from": "base", "builders": ["docker", {"null": {}}]}`),
		"one builder by name":           images(`{"from": "base", "builder": "docker"}`),
		"a builder with nothing to say": images(`{"builders": {"docker": null}}`),
		"a builder with its own name":   images(`{"builders": {"slim": {"type": "docker", "image": "debian"}}}`),
		"an expression for a bool":      images(`{"builders": {"docker": {"pull": "${var.pull}"}}}`),
		"an expression for an object":   images(`{"builders": {"docker": {"build": "${var.build}"}}}`),
		"an alias":                      images(`{"builders": {"docker": {"build": {"context": ".", "arguments": {"a": 1}}}}}`),
		"a single value for a list":     images(`{"provisioners": [{"shell": {"inline": "make"}}]}`),
		"an expression for a list":      images(`{"provisioners": [{"shell": {"valid_exit_codes": "${var.codes}"}}]}`),
		"numbers as text":               images(`{"provisioners": [{"shell": {"valid_exit_codes": ["0", 2, "${var.n}"]}}]}`),
		"durations":                     images(`{"provisioners": [{"shell": {"pause": "1m30s", "timeout": ".5h", "pause_before": 0}}]}`),
		"common keys inside":            images(`{"provisioners": [{"shell": {"inline": [], "name": "n", "override": {"docker": {"inline": "x"}}, "env": {"A": 1}}}]}`),
		"common keys beside":            images(`{"provisioners": [{"shell": {"inline": []}, "timeout": "5m", "only": ["docker"]}]}`),
		"a provisioner by name":         images(`{"provisioners": ["breakpoint", {"breakpoint": null}], "error_cleanup_provisioner": "breakpoint"}`),
		"what reads itself":             images(`{"provisioners": [{"shell": {"mode": "0755", "raw": [{"a": 1}], "how": "fast"}}]}`),
		"an enum by expression":         images(`{"provisioners": [{"shell": {"how": "${var.how}"}}], "layers": "${var.layers}"}`),
		"a sequence of post-processors": images(`{"post_processors": [{"docker-tag": {"repository": "r", "tag": "1"}}, [{"docker-tag": {"repository": "r"}}, "breakpoint"]]}`),
		"image configuration": images(`{"layers": "squash", "compression": "zstd", "keep": ["/var/cache/**"], "config": {"entrypoint": ["/a"], "cmd": "b", "env": {"A": "${var.a}"},
			"expose": [8080], "healthcheck": {"test": ["a"], "interval": "30s", "retries": 3}}}`),
		"a cache":                `{"images": {"a": null}, "cache": "ghcr.io/a/cache"}`,
		"a cache to read only":   `{"images": {"a": null}, "cache": {"from": ["ghcr.io/a/cache", "${var.more}"]}}`,
		"a cache for each thing": `{"images": {"a": null}, "cache": {"from": "ghcr.io/a/cache", "to": "type=registry,ref=ghcr.io/a/cache"}}`,
		"targets":                images(`{"publish": [{"repository": "ghcr.io/a/b", "tags": ["1.0", 2], "annotations": {"a": "b"}}]}`),
	}
	for name, doc := range tests {
		t.Run(name, func(t *testing.T) {
			v := testSchema(t)
			if why := v.check(v.root, parse(doc), ""); why != "" {
				t.Error(why)
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	tests := map[string]string{
		"no images":                     `{"variables": {}}`,
		"an empty list of images":       `{"images": {}}`,
		"an unknown root key":           `{"images": {"a": {}}, "image": {}}`,
		"an unknown image key":          images(`{"provisoners": []}`),
		"an unknown key of a variable":  `{"images": {"a": {}}, "variables": {"a": {"defualt": 1}}}`,
		"an unknown type of a variable": `{"images": {"a": {}}, "variables": {"a": {"type": "text"}}}`,
		"a validation without message":  `{"images": {"a": {}}, "variables": {"a": {"validation": [{"message": "m"}]}}}`,
		"an image from a registry":      images(`{"from": "debian:bookworm"}`),
		"an unknown builder":            images(`{"builders": {"dokcer": {"image": "debian"}}}`),
		"an unknown builder type":       images(`{"builders": {"slim": {"type": "dokcer"}}}`),
		"an unknown builder key":        images(`{"builders": {"docker": {"imgae": "debian"}}}`),
		"one of a builder with a name":  images(`{"builders": {"slim": {"type": "docker", "imgae": "debian"}}}`),
		"a word for a bool":             images(`{"builders": {"docker": {"pull": "maybe"}}}`),
		"a list for a string":           images(`{"builders": {"docker": {"image": ["debian"]}}}`),
		"a nested key":                  images(`{"builders": {"docker": {"build": {"contxt": "."}}}}`),
		"a nested required key":         images(`{"builders": {"docker": {"build": {"args": {}}}}}`),
		"an unknown provisioner":        images(`{"provisioners": [{"shel": {}}]}`),
		"a provisioner that is unknown": images(`{"provisioners": ["shel"]}`),
		"two provisioners in one":       images(`{"provisioners": [{"shell": {}, "breakpoint": {}}]}`),
		"common keys alone":             images(`{"provisioners": [{"timeout": "5m"}]}`),
		"a duration without unit":       images(`{"provisioners": [{"shell": {"pause": "5"}}]}`),
		"a number as duration":          images(`{"provisioners": [{"shell": {"pause": 5}}]}`),
		"a word for a number":           images(`{"provisioners": [{"shell": {"valid_exit_codes": ["x"]}}]}`),
		"another word":                  images(`{"provisioners": [{"shell": {"how": "well"}}]}`),
		"a required key":                images(`{"post_processors": [{"docker-tag": {"tags": ["1"]}}]}`),
		"other layers":                  images(`{"layers": "one"}`),
		"another key of a cache":        `{"images": {"a": null}, "cache": {"too": "ghcr.io/a/cache"}}`,
		"two caches to write":           `{"images": {"a": null}, "cache": {"to": ["ghcr.io/a/cache", "ghcr.io/b/cache"]}}`,
		"a target without repository":   images(`{"publish": [{"tags": ["1"]}]}`),
	}
	for name, doc := range tests {
		t.Run(name, func(t *testing.T) {
			v := testSchema(t)
			if v.check(v.root, parse(doc), "") == "" {
				t.Errorf("it takes %s", doc)
			}
		})
	}
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	v := testSchema(t)
	image := v.definition("#/definitions/image").(map[string]any)
	for _, level := range []struct {
		schema map[string]any
		keys   []value.Field
	}{{v.root, yaml.Reference().Template}, {image, yaml.Reference().Image}} {
		properties := level.schema["properties"].(map[string]any)
		for _, f := range level.keys {
			rule, _ := properties[f.Key].(map[string]any)
			if rule["description"] == "" || len(rule) < 2 {
				t.Errorf("%s takes anything: teach Schema its rule", f.Key)
			}
		}
	}
}

func TestSchemaIsTheSameEveryTime(t *testing.T) {
	first, err := Schema(testCatalog())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := Schema(testCatalog()); err != nil || !bytes.Equal(first, again) {
			t.Fatalf("it changes (%v)", err)
		}
	}
	if !bytes.Contains(first, []byte(`"$schema": "http://json-schema.org/draft-07/schema#"`)) {
		t.Error("it does not say its draft")
	}
}

func TestSchemaOfNoComponents(t *testing.T) {
	if _, err := Schema(bake.Catalog{}); err != nil {
		t.Error(err)
	}
}

func TestMarkdown(t *testing.T) {
	page := string(Markdown(testCatalog()))
	for _, want := range []string{
		"[Builders](#builders): [docker](#builder-docker), [null](#builder-null)\n",
		"## Template\n\n| key | type | default | meaning |\n",
		"| `images` | map of images | **required** | The images to bake",
		"## Variables\n", "## Images\n", "### Image configuration\n", "### Targets\n",
		"| `from` | string |  | Another image of the template",
		"### Keys of every provisioner\n",
		"<a id=\"builder-docker\"></a>\n\n### docker\n\nBakes in a container. It is quick.\n\nMore on `docker` here.\n\nIt needs a Docker Engine that can be reached.\n\n```yaml\ndocker: { image: debian }\n```\n",
		"| `image` | string, *known* |  | Image to start from. |\n| `pull` | bool | `true` | Ask the registry. |\n",
		"Keys of `build`:\n\n| key | type | default | meaning |\n|---|---|---|---|\n| `context` | string | **required** | The folder \\| the context. |\n| `args` | map of string |  | Build arguments. Also written `arguments`. |\n",
		"| `how` | string |  | How to run. One of `fast`, `slow`. |\n",
		"It runs commands on the host: under CI it must be permitted with `--allow-host-exec`.\n",
		"Its result is recorded once, at the end of a bake.\n\nIt has no keys of its own.\n",
		"<a id=\"post-processor-breakpoint\"></a>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "Hidden by the common key") {
		t.Error("a key that is common stands among a component's own")
	}
	if strings.HasSuffix(page, "\n\n") || strings.Contains(page, "\n\n\n") {
		t.Error("there are empty lines too many")
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestMarkdownTablesAreTables(t *testing.T) {
	for line := range strings.Lines(string(Markdown(testCatalog()))) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") - 1
		if cells != 4 && cells != 2 {
			t.Errorf("%d cells in %q", cells, line)
		}
	}
}

func help(t *testing.T, kind, name string) string {
	t.Helper()
	text, err := Help(testCatalog(), kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestHelp(t *testing.T) {
	want := `builder docker

  Bakes in a container. It is quick.

  More on docker here.

  It needs a Docker Engine that can be reached.

Example

  docker: { image: debian }

Keys

  image  (string)
      Image to start from.

  pull  (bool, default true)
      Ask the registry.

  build  (object)
      A Dockerfile.

      context  (string, required)
          The folder | the context.

      args  (map of string)
          Build arguments. Also written arguments.

  ulimits  (list of number)
      Limits.

`
	if diff := cmp.Diff(want, help(t, "builder", "docker")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestHelpWrapsAndAddsCommonKeys(t *testing.T) {
	text := help(t, "provisioners", "shell")
	for line := range strings.Lines(text) {
		if len(line) > lineWidth+1 || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("a bad line: %q", line)
		}
	}
	for _, want := range []string{"\nKeys of every provisioner\n\n  name  (string)\n", "\n  how  (string)\n      How to run. One of fast, slow.\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestHelpLists(t *testing.T) {
	want := "Builders\n  docker  Bakes in a container.\n  null    Bakes nothing.\n"
	if diff := cmp.Diff(want, help(t, "builders", "")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	all := help(t, "", "")
	if !strings.HasPrefix(all, want) || !strings.Contains(all, "\nPost-processors\n  breakpoint  Waits after the bake.\n") {
		t.Errorf("got\n%s", all)
	}
}

func TestHelpOfTheUnknown(t *testing.T) {
	tests := []struct{ kind, name, text, hint string }{
		{"builder", "dokcer", `unknown builder type "dokcer"`, `did you mean "docker"?`},
		{"post_processor", "x", `unknown post-processor type "x"`, "known: breakpoint, docker-tag"},
		{"bilder", "", `unknown sort of component "bilder"`, `did you mean "builder"?`},
	}
	for _, tt := range tests {
		_, err := Help(testCatalog(), tt.kind, tt.name)
		var problem diag.Problem
		if !errors.As(err, &problem) || problem.Text != tt.text || problem.Hint != tt.hint {
			t.Errorf("%s %s: got %v", tt.kind, tt.name, err)
		}
	}
}

func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"a | b": `a \| b`, "/var/**": `/var/\*\*`, "`/var/**` < 3": "`/var/**` \\< 3", "a\n b": "a b", "`a|b`": "`a\\|b`",
	} {
		if got := cell(text); got != want {
			t.Errorf("cell(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	for doc, want := range map[string]string{
		"One. Two.": "One.", "One\nline\n\nMore.": "One line", "imgbake.yaml is read. Yes": "imgbake.yaml is read.", "": "",
	} {
		if got := summary(doc); got != want {
			t.Errorf("summary(%q) = %q, want %q", doc, got, want)
		}
	}
}
