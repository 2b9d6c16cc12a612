package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Schema is the JSON Schema of imgbake.yaml, in draft 7, which is what editors
// understand. It refuses nothing that imgbake takes; imgbake itself finds more.
func Schema(c bake.Catalog) ([]byte, error) {
	s := schemaWriter{definitions: object{}}
	root := s.root(groups(c))
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("encoding the schema: %w", err)
	}
	return b.Bytes(), nil
}

// object is a JSON object.
type object = map[string]any

type schemaWriter struct{ definitions object }

func (s schemaWriter) root(all []group) object {
	for _, g := range all {
		s.group(g)
	}
	s.definitions["cache"] = s.fields(fields[plan.Cache]())
	s.definitions["expression"] = expression
	s.definitions["image_config"] = s.fields(fields[bake.ImageConfig]())
	s.definitions["target"] = s.fields(fields[plan.Target]())
	s.definitions["variable"] = s.variable()
	s.definitions["image"] = s.image()
	root := s.keys(rootFields(), map[string]object{
		"variables": mapOf(ref("variable")),
		"locals":    {"type": "object"},
		"cache":     anyOf(object{"type": "string"}, ref("cache"), object{"type": "null"}),
		"images":    with(mapOf(orNull(ref("image"))), "minProperties", 1),
	})
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["$id"] = SchemaURL
	root["title"] = "imgbake template"
	root["patternProperties"] = object{"^x-": object{}}
	root["definitions"] = s.definitions
	return root
}

// keys is an object whose keys are those given, with the rules given.
func (s schemaWriter) keys(fields []value.Field, rules map[string]object) object {
	out := s.fields(fields)
	properties := out["properties"].(object)
	for _, f := range fields {
		if rule, ok := rules[f.Key]; ok {
			properties[f.Key] = described(rule, f)
		}
	}
	return out
}

// variable is the settings of a variable, or its default. A mapping is always
// settings.
func (s schemaWriter) variable() object {
	settings := s.keys(yaml.Reference().Variable, map[string]object{"default": {}})
	return object{"if": object{"type": "object"}, "then": settings}
}

func (s schemaWriter) image() object {
	return s.keys(imageFields(), map[string]object{
		"from":                      {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]*$"},
		"platforms":                 anyOf(object{"type": "string"}, listOf(object{"type": "string"})),
		"builders":                  s.builders(),
		"provisioners":              listOf(ref("provisioner")),
		"error_cleanup_provisioner": ref("provisioner"),
		"post_processors":           listOf(anyOf(ref("post-processor"), listOf(ref("post-processor")))),
		"config":                    orExpression(ref("image_config")),
		"layers":                    orExpression(object{"enum": []any{"step", "squash"}}),
		"compression":               orExpression(object{"enum": []any{"gzip", "zstd"}}),
		"publish":                   oneOrMore(ref("target")),
	})
}

// builders are a name, a list, or a mapping from names to settings.
func (s schemaWriter) builders() object {
	name := object{"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]*$"}
	return anyOf(name, ref("builder"), object{"type": "array", "items": anyOf(name, ref("builder"))})
}

// group defines each component's settings, and the entry that names one.
func (s schemaWriter) group(g group) {
	names := make([]any, len(g.components))
	properties, required := object{}, make([]any, len(g.components))
	for i, c := range g.components {
		names[i] = c.name
		required[i] = object{"required": []any{c.name}}
		settings := s.fields(append(g.common[:len(g.common):len(g.common)], c.fields...))
		if g.name == "builder" {
			settings["properties"].(object)["type"] = object{"type": "string", "description": "The builder's type, where its name is another one."}
		}
		s.definitions[c.id] = settings
		properties[c.name] = with(s.entry(c), "description", summary(c.doc))
	}
	if g.name == "builder" {
		s.definitions[g.name] = namedBuilders(names, properties)
		return
	}
	entry := object{"type": "object", "properties": properties, "additionalProperties": false, "oneOf": required}
	common := s.fields(g.common)["properties"].(object)
	for key, rule := range common {
		properties[key] = rule
	}
	s.definitions[g.name] = anyOf(object{"enum": names}, entry)
}

// entry is what may stand behind a component's name: its settings, its short
// form if it has one, or nothing.
func (s schemaWriter) entry(c component) object {
	for _, f := range c.fields {
		if f.Short {
			return anyOf(ref(c.id), s.typed(f.Type, f), object{"type": "null"})
		}
	}
	return orNull(ref(c.id))
}

// namedBuilders is a mapping from names to settings: of the type that the name
// says, or that the settings say.
func namedBuilders(types []any, properties object) object {
	var cases []any
	for _, t := range types {
		cases = append(cases, object{
			"if":   object{"properties": object{"type": object{"const": t}}},
			"then": ref("builder-" + t.(string)),
		})
	}
	other := object{
		"type": "object", "required": []any{"type"},
		"properties": object{"type": object{"enum": types}},
	}
	if len(cases) > 0 {
		other["allOf"] = cases
	}
	return object{"type": "object", "properties": properties, "additionalProperties": other}
}

// fields is a strict object with the keys.
func (s schemaWriter) fields(fields []value.Field) object {
	properties, required := object{}, []any{}
	for _, f := range fields {
		rule := described(s.typed(f.Type, f), f)
		properties[f.Key] = rule
		for _, alias := range f.Aliases {
			properties[alias] = with(rule, "description", "The same as "+f.Key+".", "doNotSuggest", true)
		}
		if f.Required && len(f.Aliases) == 0 {
			required = append(required, f.Key)
		}
	}
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// durationPattern is what time.ParseDuration takes, less the sign.
const durationPattern = `^0$|^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$|\$\{`

// expression is a string that holds an expression.
var expression = object{"type": "string", "pattern": `\$\{`, "description": "An expression such as ${var.NAME}."}

// typed is the rule for a value of a type of value.Field. A scalar may be
// written as a string, and anything as an expression.
func (s schemaWriter) typed(name string, f value.Field) object {
	if item, ok := strings.CutPrefix(name, "list of "); ok {
		return oneOrMore(s.typed(item, f))
	}
	if item, ok := strings.CutPrefix(name, "map of "); ok {
		return orExpression(mapOf(s.typed(item, f)))
	}
	switch name {
	case "string":
		if len(f.Enum) > 0 {
			return orExpression(object{"enum": words(f.Enum)})
		}
		return object{"type": []any{"string", "number", "boolean"}}
	case "bool":
		return object{"type": []any{"boolean", "string"}, "pattern": `^(true|false|0|1)$|\$\{`}
	case "number":
		return object{"type": []any{"number", "string"}, "pattern": `^-?[0-9]+(\.[0-9]+)?$|\$\{`}
	case "duration":
		return object{"type": []any{"string", "number"}, "pattern": durationPattern, "maximum": 0, "minimum": 0}
	case "object":
		return orExpression(s.fields(f.Fields))
	}
	return object{} // what reads itself has its own rules
}

func described(rule object, f value.Field) object {
	doc := f.Doc
	if f.Required {
		doc += " Required."
	}
	rule = with(rule, "description", strings.TrimSpace(doc))
	if f.Default != "" {
		rule = with(rule, "default", literal(f.Default, f.Type))
	}
	return rule
}

// literal is a default as JSON.
func literal(text, typ string) any {
	switch typ {
	case "bool":
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	case "number":
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return json.Number(text)
		}
	}
	return text
}

func words(texts []string) []any {
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = text
	}
	return out
}

// with is the rule with keys set. A reference is wrapped first: in draft 7
// nothing beside a $ref counts.
func with(rule object, pairs ...any) object {
	out := object{}
	if _, isRef := rule["$ref"]; isRef {
		out["allOf"] = []any{rule}
	} else {
		for key, v := range rule {
			out[key] = v
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func ref(definition string) object { return object{"$ref": "#/definitions/" + definition} }

func mapOf(item object) object { return object{"type": "object", "additionalProperties": item} }

func listOf(item object) object { return object{"type": "array", "items": item} }

func anyOf(rules ...object) object {
	list := make([]any, len(rules))
	for i, r := range rules {
		list[i] = r
	}
	return object{"anyOf": list}
}

func oneOrMore(item object) object {
	return anyOf(listOf(item), item, ref("expression"))
}

func orExpression(rule object) object { return anyOf(rule, ref("expression")) }

func orNull(rule object) object { return anyOf(rule, object{"type": "null"}) }
