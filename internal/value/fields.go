package value

import (
	"reflect"
	"slices"
	"strings"
)

// Field describes one key of a config struct for help, reference and schema.
type Field struct {
	Key      string
	Aliases  []string
	Type     string // string, bool, number, duration, list of T, map of T, object, or the Unmarshaler's own word
	Doc      string
	Default  string
	Required bool
	Known    bool
	Short    bool // a value that is no mapping stands for this key
	Enum     []string
	Fields   []Field // of an object, or of the objects in a list or map
}

// TypeNamer is an Unmarshaler that names its type for documentation, such as "size".
type TypeNamer interface{ ValueType() string }

// Fields lists the keys of a config struct type in their order in the source.
func Fields(t reflect.Type) []Field {
	var out []Field
	for _, f := range structFields(t) {
		field := Field{
			Key: f.key, Aliases: f.aliases, Type: typeName(f.typ), Doc: f.doc,
			Default: f.def, Required: f.required, Known: f.known, Short: f.short, Enum: f.enum,
		}
		if inner := elem(f.typ); inner.Kind() == reflect.Struct && !isLeaf(inner) {
			field.Fields = Fields(inner)
		}
		out = append(out, field)
	}
	return out
}

type structField struct {
	key     string
	aliases []string
	doc     string
	index   []int
	typ     reflect.Type
	options
}

func structFields(t reflect.Type) []structField {
	var out []structField
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("key") == "" {
			for _, inner := range structFields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				out = append(out, inner)
			}
			continue
		}
		key := f.Tag.Get("key")
		if key == "" {
			continue
		}
		field := structField{key: key, doc: f.Tag.Get("doc"), index: []int{i}, typ: f.Type, options: parseOptions(f.Tag.Get("opt"))}
		if alias := f.Tag.Get("alias"); alias != "" {
			field.aliases = strings.Split(alias, ",")
		}
		out = append(out, field)
	}
	return out
}

func findField(fields []structField, key string) (structField, bool) {
	for _, f := range fields {
		if f.key == key || slices.Contains(f.aliases, key) {
			return f, true
		}
	}
	return structField{}, false
}

func isLeaf(t reflect.Type) bool {
	return t == nodeType || reflect.PointerTo(t).Implements(unmarshalerType)
}

func elem(t reflect.Type) reflect.Type {
	for !isLeaf(t) && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
		t = t.Elem()
	}
	return t
}

func typeName(t reflect.Type) string {
	if namer, ok := reflect.New(t).Interface().(TypeNamer); ok {
		return namer.ValueType()
	}
	switch t {
	case durationType:
		return "duration"
	case nodeType:
		return "any"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	case reflect.Struct:
		return "object"
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "string"
	}
	return "number"
}
