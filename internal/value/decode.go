package value

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Unmarshaler is a config field type that reads its own node. The node holds
// no Expr. Problems carry their places.
type Unmarshaler interface {
	UnmarshalValue(Node) diag.List
}

// Decode fills the struct that into points to from an object node, strictly:
// an unknown or repeated key, a missing required one and a value of the wrong
// type are problems. What the struct holds before is the default.
//
// Fields are described by tags:
//
//	key:"name"          the template key; a field without it is not decoded
//	alias:"old,older"   other spellings of the key
//	doc:"text"          one or two sentences for help, schema and reference
//	opt:"required"      must be given
//	opt:"known"         must be known before the run: no secret, no build.*
//	opt:"enum=a|b|c"    one of these words
//	opt:"short"         what a value that is no mapping stands for
//	opt:"default=x"     the default, as documentation shows it
//
// Several opt settings are separated by commas. Field types: string, bool,
// integers, floats, time.Duration ("1m30s"), Node (raw), structs, pointers
// (nil when absent), slices (a single value is a list of one), maps with
// string keys, and types whose pointer is an Unmarshaler. A scalar is
// converted where nothing is lost: "5" is a number, 5 a string.
//
// An expression not evaluated yet leaves its field as it is; Where tells.
// An embedded struct's fields count as the outer struct's own.
func Decode(n Node, into any) (Where, diag.List) {
	d := decoder{}
	to := reflect.ValueOf(into).Elem()
	if to.Kind() == reflect.Struct {
		if long, ok := longForm(n, structFields(to.Type())); ok {
			n.V = long
		}
	}
	d.node(n, to, options{})
	return Where{n}, d.problems
}

// Where finds places in a decoded node, for checks that span fields.
type Where struct{ root Node }

// At is the place of the value under the path of keys and list indexes; what
// is not there has the place of its nearest parent.
func (w Where) At(path ...any) diag.Pos { n, _ := w.find(path); return n.Pos }

// Given reports whether the template has a value at the path.
func (w Where) Given(path ...any) bool { _, ok := w.find(path); return ok }

// Late reports whether the value at the path holds an expression that is
// evaluated during the run only.
func (w Where) Late(path ...any) bool {
	n, ok := w.find(path)
	return ok && len(n.Needs()) > 0
}

func (w Where) find(path []any) (Node, bool) {
	n := w.root
	for _, step := range path {
		switch v := n.V.(type) {
		case Object:
			m, ok := v.Get(fmt.Sprint(step))
			if !ok {
				return n, false
			}
			n = m.Node
		case List:
			i, isIndex := step.(int)
			if !isIndex || i >= len(v) {
				return n, false
			}
			n = v[i]
		default:
			return n, step == 0 // a single value serves as a list of one
		}
	}
	return n, true
}

type options struct {
	required, known, short bool
	enum                   []string
	def                    string
}

func parseOptions(tag string) options {
	var o options
	for _, part := range strings.Split(tag, ",") {
		name, arg, _ := strings.Cut(part, "=")
		switch name {
		case "required":
			o.required = true
		case "known":
			o.known = true
		case "short":
			o.short = true
		case "enum":
			o.enum = strings.Split(arg, "|")
		case "default":
			o.def = arg
		}
	}
	return o
}

type decoder struct{ problems diag.List }

func (d *decoder) add(n Node, hint, format string, args ...any) {
	d.problems.Add(n.Pos, hint, format, args...)
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	nodeType        = reflect.TypeFor[Node]()
	unmarshalerType = reflect.TypeFor[Unmarshaler]()
)

func (d *decoder) node(n Node, to reflect.Value, o options) {
	if e, late := n.V.(Expr); late && to.Type() != nodeType {
		if o.known {
			d.add(n, "use a value that is known before the run: secrets and build.* are not",
				"%s must be known before the run, it needs %s", e.Source(), strings.Join(e.Needs(), ", "))
		}
		return
	}
	switch {
	case to.Type() == nodeType:
		to.Set(reflect.ValueOf(n))
	case reflect.PointerTo(to.Type()).Implements(unmarshalerType):
		if len(n.Needs()) == 0 {
			d.problems.Append(to.Addr().Interface().(Unmarshaler).UnmarshalValue(n))
		}
	case n.V == nil:
	case to.Type() == durationType:
		d.duration(n, to)
	default:
		d.kind(n, to, o)
	}
}

func (d *decoder) kind(n Node, to reflect.Value, o options) {
	switch to.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(to.Type().Elem())
		if !to.IsNil() {
			fresh.Elem().Set(to.Elem())
		}
		d.node(n, fresh.Elem(), o)
		to.Set(fresh)
	case reflect.Struct:
		d.object(n, to)
	case reflect.Slice:
		d.slice(n, to, o)
	case reflect.Map:
		d.mapping(n, to, o)
	default:
		d.scalar(n, to, o)
	}
}

func (d *decoder) slice(n Node, to reflect.Value, o options) {
	items, ok := n.V.(List)
	if !ok {
		items = List{n}
	}
	out := reflect.MakeSlice(to.Type(), len(items), len(items))
	for i, item := range items {
		d.node(item, out.Index(i), o)
	}
	to.Set(out)
}

func (d *decoder) mapping(n Node, to reflect.Value, o options) {
	object, ok := n.V.(Object)
	if !ok {
		d.add(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	out := reflect.MakeMapWithSize(to.Type(), len(object))
	for _, m := range object {
		item := reflect.New(to.Type().Elem()).Elem()
		d.node(m.Node, item, o)
		out.SetMapIndex(reflect.ValueOf(m.Key), item)
	}
	to.Set(out)
}

func (d *decoder) object(n Node, to reflect.Value) {
	fields := structFields(to.Type())
	object, ok := longForm(n, fields)
	if !ok {
		d.add(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	var keys []string
	given := map[string]bool{}
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	for _, m := range object {
		f, ok := findField(fields, m.Key)
		if !ok {
			d.problems.Add(m.KeyPos, diag.Suggest(m.Key, keys), "unknown key %q", m.Key)
			continue
		}
		if given[f.key] {
			d.problems.Add(m.KeyPos, "", "%q is given twice", f.key)
			continue
		}
		given[f.key] = m.V != nil
		d.node(m.Node, to.FieldByIndex(f.index), f.options)
	}
	for _, f := range fields {
		if f.required && !given[f.key] {
			d.add(n, f.doc, "%q is required", f.key)
		}
	}
}

// longForm is the node as a mapping: as it is, or as the value of the field
// that a short form stands for.
func longForm(n Node, fields []structField) (Object, bool) {
	if object, ok := n.V.(Object); ok {
		return object, true
	}
	i := slices.IndexFunc(fields, func(f structField) bool { return f.short })
	if i < 0 {
		return nil, false
	}
	return Object{{Key: fields[i].key, KeyPos: n.Pos, Node: n}}, true
}

func (d *decoder) duration(n Node, to reflect.Value) {
	text, ok := n.V.(string)
	if number, isNumber := n.V.(Number); isNumber && number == "0" {
		text, ok = "0s", true
	}
	if !ok {
		d.add(n, `write a number with a unit, such as "90s" or "1m30s"`, "expected a duration, found %s", Describe(n))
		return
	}
	span, err := time.ParseDuration(text)
	if err != nil || span < 0 {
		d.add(n, `write a number with a unit, such as "90s" or "1m30s"`, "%q is no duration", text)
		return
	}
	to.SetInt(int64(span))
}

func (d *decoder) scalar(n Node, to reflect.Value, o options) {
	text, ok := Text(n)
	if !ok {
		d.add(n, "", "expected %s, found %s", typeName(to.Type()), Describe(n))
		return
	}
	if err := setScalar(to, text); err != nil {
		d.add(n, "", "expected %s, found %s", typeName(to.Type()), Describe(n))
		return
	}
	if len(o.enum) > 0 && !slices.Contains(o.enum, text) {
		d.add(n, diag.Suggest(text, o.enum), "%q is not one of the values allowed", text)
	}
}

// Text returns a string, number or bool as text; ok is false for the rest.
func Text(n Node) (text string, ok bool) {
	switch v := n.V.(type) {
	case string:
		return v, true
	case Number:
		return string(v), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func setScalar(to reflect.Value, text string) error {
	switch to.Kind() {
	case reflect.String:
		to.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return err
		}
		to.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, to.Type().Bits())
		if err != nil {
			return err
		}
		to.SetInt(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, to.Type().Bits())
		if err != nil {
			return err
		}
		to.SetFloat(f)
	default:
		panic("value.Decode: no rule for a field of type " + to.Type().String())
	}
	return nil
}

// Describe names a node's value for a message: the string "x", the number 5, a list.
func Describe(n Node) string {
	switch v := n.V.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the string %q", v)
	case Number:
		return "the number " + string(v)
	case bool:
		return strconv.FormatBool(v)
	case List:
		return "a list"
	case Object:
		return "a mapping"
	}
	return "an expression"
}
