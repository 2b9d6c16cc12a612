package reference

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// validator checks documents against a JSON Schema. It knows the words that
// our schemas use and refuses any other, so that a typing error in the
// generator is found.
type validator struct{ root map[string]any }

var annotations = []string{"$schema", "$id", "title", "description", "default", "doNotSuggest", "definitions"}

// check returns why the document at the path breaks the schema, or "".
func (v validator) check(schema any, doc any, path string) string {
	if yes, ok := schema.(bool); ok {
		if yes {
			return ""
		}
		return path + " is not allowed"
	}
	rules := schema.(map[string]any)
	if name, ok := rules["$ref"]; ok {
		return v.check(v.definition(name.(string)), doc, path)
	}
	for word, rule := range rules {
		if why := v.word(word, rule, rules, doc, path); why != "" {
			return why
		}
	}
	return ""
}

func (v validator) definition(ref string) any {
	name := strings.TrimPrefix(ref, "#/definitions/")
	found, ok := v.root["definitions"].(map[string]any)[name]
	if !ok {
		panic("no definition " + ref)
	}
	return found
}

func (v validator) word(word string, rule any, rules map[string]any, doc any, path string) string {
	object, isObject := doc.(map[string]any)
	list, isList := doc.([]any)
	switch word {
	case "type":
		if !hasType(rule, doc) {
			return fmt.Sprintf("%s is no %v", path, rule)
		}
	case "enum":
		if !slices.ContainsFunc(rule.([]any), func(x any) bool { return reflect.DeepEqual(x, doc) }) {
			return fmt.Sprintf("%s is none of %v", path, rule)
		}
	case "const":
		if !reflect.DeepEqual(rule, doc) {
			return fmt.Sprintf("%s is not %v", path, rule)
		}
	case "pattern":
		if text, ok := doc.(string); ok && !regexp.MustCompile(rule.(string)).MatchString(text) {
			return fmt.Sprintf("%s does not match %v", path, rule)
		}
	case "minimum", "maximum":
		if n, ok := doc.(float64); ok && (word == "minimum" && n < rule.(float64) || word == "maximum" && n > rule.(float64)) {
			return path + " is out of range"
		}
	case "minProperties":
		if isObject && float64(len(object)) < rule.(float64) {
			return path + " is empty"
		}
	case "required":
		for _, key := range rule.([]any) {
			if _, given := object[key.(string)]; isObject && !given {
				return fmt.Sprintf("%s has no %v", path, key)
			}
		}
	case "items":
		for i, item := range list {
			if why := v.check(rule, item, fmt.Sprintf("%s[%d]", path, i)); isList && why != "" {
				return why
			}
		}
	case "properties", "patternProperties", "additionalProperties":
		if word == "additionalProperties" || rules["additionalProperties"] == nil {
			return v.members(rules, object, path)
		}
	case "anyOf", "oneOf", "allOf":
		return v.several(word, rule.([]any), doc, path)
	case "if":
		if v.check(rule, doc, path) == "" && rules["then"] != nil {
			return v.check(rules["then"], doc, path)
		}
	case "then":
	default:
		if !slices.Contains(annotations, word) {
			panic("unknown word " + word)
		}
	}
	return ""
}

func (v validator) members(rules, doc map[string]any, path string) string {
	properties, _ := rules["properties"].(map[string]any)
	patterns, _ := rules["patternProperties"].(map[string]any)
	for key, member := range doc {
		rule, known := properties[key]
		for pattern, r := range patterns {
			if regexp.MustCompile(pattern).MatchString(key) {
				rule, known = r, true
			}
		}
		if !known {
			rule, known = rules["additionalProperties"]
		}
		if known {
			if why := v.check(rule, member, path+"."+key); why != "" {
				return why
			}
		}
	}
	return ""
}

func (v validator) several(word string, rules []any, doc any, path string) string {
	var whys []string
	for _, rule := range rules {
		if why := v.check(rule, doc, path); why != "" {
			whys = append(whys, why)
		}
	}
	matched := len(rules) - len(whys)
	if word == "anyOf" && matched > 0 || word == "oneOf" && matched == 1 || word == "allOf" && len(whys) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d of %s match (%s)", path, matched, word, strings.Join(whys, "; "))
}

func hasType(rule any, doc any) bool {
	names := map[string]bool{}
	switch r := rule.(type) {
	case string:
		names[r] = true
	case []any:
		for _, name := range r {
			names[name.(string)] = true
		}
	}
	switch doc.(type) {
	case nil:
		return names["null"]
	case bool:
		return names["boolean"]
	case float64:
		return names["number"]
	case string:
		return names["string"]
	case []any:
		return names["array"]
	}
	return names["object"]
}

func parse(text string) (doc map[string]any) {
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		panic(err)
	}
	return doc
}
